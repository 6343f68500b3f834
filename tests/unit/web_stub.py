"""The broker as the web sees it, in memory: it remembers what it was asked and answers what it was told.

It keeps jobs by id and project and knows nothing of backends; tests reach into its dictionaries.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from contextlib import contextmanager

from adapters.base import Finding, LogPage
from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.errors import (
    Fault,
    Gone,
    IdempotencyConflict,
    InvalidSpec,
    NotFound,
    NotSupported,
    PreconditionFailed,
)
from api_spec.ids import new_id
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from api_spec.views import (
    LATEST,
    OLDEST,
    Accepted,
    AttemptView,
    BackendView,
    Caps,
    EventView,
    JobSummary,
    JobView,
    Page,
    TaskCancel,
    TaskView,
    UsageView,
)
from broker.access import Scope, must_act_on, must_see
from broker.auth import NewToken, Tokens
from broker.settings import Settings
from broker.web import create_app
from broker.web.context import web_of

AT = 1_795_313_934.0  # 2026-11-22T02:18:54Z
ALL_SCOPES = frozenset(Scope)

DECISION = Decision(
    outcome=Outcome.PLACED,
    chosen="local",
    summary="local: the only backend that can run it",
    verdicts=(
        Verdict(
            backend="hpc",
            type="slurm",
            refusals=(Refusal(Reason.DRAINED, "hpc takes no new jobs at the moment"),),
            snapshot_age_s=2.5,
        ),
        Verdict(
            backend="local",
            type="local",
            score=10.0,
            parts=(ScorePart(rule="training-to-slurm", points=10.0, message="fits, and 6 CPUs are free"),),
            snapshot_age_s=0.4,
        ),
    ),
    binding=False,
    policy="default",
    policy_digest="sha256:2c26b46b68ffc68ff99b453c1d304134",
    decided_at=AT,
)


class MemoryTokens:
    """A ``TokenStore`` that counts how often it is asked."""

    def __init__(self):
        self.records, self.reads = {}, 0

    def put_token(self, digest, record):
        self.records[digest] = dict(record)

    def get_token(self, digest):
        self.reads += 1
        return self.records.get(digest)

    def list_tokens(self):
        return list(self.records.values())

    def delete_token(self, token_id):
        found = [digest for digest, record in self.records.items() if record["id"] == token_id]
        for digest in found:
            del self.records[digest]
        return bool(found)


class StubBroker:
    def __init__(self):
        self.tokens = Tokens(MemoryTokens())
        self.jobs, self.keys, self.calls = {}, {}, []
        self.events_by_project, self.oldest = {}, {}
        self.log_bytes, self.log_complete, self.log_reads = b"", True, []
        self.log_note = None
        self.not_ready = None
        self.numbers = itertools.count(1)

    # ---- jobs ------------------------------------------------------------------------------------

    def preview(self, specs, who, *, bundled=False):
        return (DECISION,) * len(specs)

    def accept(self, specs, who, *, key=None, body_digest="", bundled=False):
        self.calls.append(("accept", key, body_digest))
        known = self.keys.get((who.project, key)) if key else None
        if known is not None:
            if known[0] != body_digest:
                raise IdempotencyConflict("the key was used for another request")
            return dataclasses.replace(known[1], replayed=True)
        accepted = Accepted(tuple(self.add(spec, who) for spec in specs), (DECISION,) * len(specs))
        if key:
            self.keys[who.project, key] = body_digest, accepted
        return accepted

    def add(self, spec, who):
        number = next(self.numbers)
        job = JobView(
            id=new_id(AT + number, bytes(10)),
            version=1,
            spec=spec,
            project=who.project,
            owner=who.owner,
            submitter=who.subject,
            state=JobState.ACCEPTED,
            reason=None,
            message=None,
            backend="local",
            attempt=0,
            created_at=AT,
            updated_at=AT,
        )
        self.jobs[job.id] = job
        self.tell(who.project, "accepted", job.id)
        return job

    def change(self, job_id, **changes):
        job = self.jobs[job_id]
        self.jobs[job_id] = dataclasses.replace(job, version=job.version + 1, **changes)
        if "state" in changes:
            self.tell(job.project, changes["state"].value.lower(), job_id)
        return self.jobs[job_id]

    def seen(self, job_id, who):
        job = self.jobs.get(job_id)
        must_see(who, job_id, job.project if job else "")
        if job is None:
            raise NotFound(f"there is no job {job_id}")
        return job

    def acted_on(self, job_id, who, if_version=None):
        job = self.seen(job_id, who)
        must_act_on(who, job_id, job.project, job.owner)
        if if_version not in (None, job.version):
            raise PreconditionFailed(f"job {job_id} has version {job.version}")
        return job

    def get(self, job_id, who):
        return self.seen(job_id, who)

    def list_jobs(self, query, who):
        who.need(Scope.JOBS_READ)
        self.calls.append(("list", query))
        jobs = [job for job in self.jobs.values() if job.project == query.project]
        start = int(query.cursor or 0)
        chosen = jobs[start : start + query.limit]
        more = start + query.limit < len(jobs)
        return Page(tuple(map(summary, chosen)), str(start + query.limit) if more else None)

    def cancel(self, job_id, who, *, if_version=None):
        self.acted_on(job_id, who, if_version)
        return self.change(job_id, cancel_requested=True)

    def cancel_tasks(self, job_id, indices, who, *, if_version=None):
        self.acted_on(job_id, who, if_version)
        self.calls.append(("cancel_tasks", indices))
        if indices == "99":
            message = "the array has no task 99"
            raise InvalidSpec(message, faults=[Fault("/tasks", message)])
        return TaskCancel(job=self.change(job_id), requested=indices, ended_before=None)

    def hold(self, job_id, who, *, if_version=None):
        self.acted_on(job_id, who, if_version)
        return self.change(job_id, held=True)

    def release(self, job_id, who, *, if_version=None):
        self.acted_on(job_id, who, if_version)
        return self.change(job_id, held=False)

    def resubmit(self, job_id, who, *, key=None, if_version=None):
        spec = self.acted_on(job_id, who, if_version).spec
        return self.accept([spec], who, key=key, body_digest=f"resubmit of {job_id}")

    def update(self, job_id, who, *, replicas=None, spec=None, if_version=None):
        job = self.acted_on(job_id, who, if_version)
        if not job.spec.is_service:
            raise NotSupported("only an inference job can be updated")
        return self.change(job_id, replicas_wanted=replicas, spec=spec or job.spec)

    def attempts(self, job_id, who):
        self.seen(job_id, who)
        marker = f"wb-main-{job_id.lower()}-1"
        return (AttemptView(number=1, marker=marker, backend="local", state=AttemptState.QUEUED),)

    def usage(self, job_id, who):
        self.seen(job_id, who)
        return (UsageView(attempt=1, backend="local", elapsed_s=2.5),)

    def tasks(self, job_id, who, cursor, limit):
        self.seen(job_id, who)
        return Page((TaskView(index=0, state=JobState.ACCEPTED, attempt=0),))

    def decisions(self, job_id, who):
        self.seen(job_id, who)
        return (DECISION, dataclasses.replace(DECISION, binding=True, attempt=1))

    def pending(self, job_id, who):
        self.seen(job_id, who)
        return (Refusal(Reason.CAPACITY, "0 of 8 CPUs are free"),)

    def render(self, spec, backend, who):
        return f"#!/bin/sh\n# {spec.name} on {backend}\n"

    # ---- events and logs -------------------------------------------------------------------------

    def tell(self, project, kind, job_id):
        events = self.events_by_project.setdefault(project, [])
        events.append(EventView(id=f"1-{len(events) + 1}", at=AT, type=kind, job=job_id, data={}))

    def job_events(self, job_id, who):
        job = self.seen(job_id, who)
        return tuple(event for event in self.events_by_project[job.project] if event.job == job_id)

    def events(self, who, after, limit):
        who.need(Scope.JOBS_READ)
        return self.events_of(who.project, after, limit)

    def operator_events(self, who, after, limit):
        who.need(Scope.BACKENDS_ADMIN)
        return self.events_of("operator", after, limit)

    def events_of(self, name, after, limit):
        events, oldest = self.events_by_project.get(name, []), self.oldest.get(name, 1)
        if after == LATEST:
            return Page((), f"1-{len(events)}")
        start = oldest - 1 if after in (None, OLDEST) else int(after.split("-")[1])
        if start < oldest - 1:
            raise Gone(f"{after} is no longer kept", oldest=f"1-{oldest}")
        chosen = tuple(events[start : start + limit])
        return Page(chosen, chosen[-1].id if chosen else f"1-{start}")

    def log(self, job_id, who, query, attempt=None):
        self.seen(job_id, who)
        self.log_reads.append((query, attempt))
        start = int(query.cursor or 0)
        if query.cursor is None and query.tail_bytes is not None:
            start = max(0, len(self.log_bytes) - query.tail_bytes)
        end = min(start + query.limit_bytes, len(self.log_bytes))
        at_end = end == len(self.log_bytes)
        data = self.log_bytes[start:end]
        complete = at_end and self.log_complete
        return LogPage(data=data, cursor=str(end), at_end=at_end, complete=complete, note=self.log_note)

    # ---- the rest --------------------------------------------------------------------------------

    def backends(self, who):
        return (BACKEND,)

    def backend(self, name, who):
        if name != BACKEND.name:
            raise NotFound(f"there is no backend {name}")
        return BACKEND

    def check_backend(self, name, who):
        who.need(Scope.BACKENDS_ADMIN)
        self.backend(name, who)
        return (Finding(subject="ledger", well=False, message="is full"),)

    def drain_backend(self, name, who):
        who.need(Scope.BACKENDS_ADMIN)
        return dataclasses.replace(self.backend(name, who), drained=True)

    def pause_backend(self, name, who):
        who.need(Scope.BACKENDS_ADMIN)
        return dataclasses.replace(self.backend(name, who), paused=True)

    def resume_backend(self, name, who):
        who.need(Scope.BACKENDS_ADMIN)
        return self.backend(name, who)

    def ready(self):
        if self.not_ready is not None:
            raise self.not_ready

    def figures(self):
        jobs = {("vision", "RUNNING"): 3.0, ("vision", "QUEUED"): 0.0}
        return {
            "jobs": jobs,
            "uptime": {(): 0.5},
            "due_jobs": {},
            "new": {("x", "y"): 1.0},
            "drains_total": {(): 2.0},
        }


BACKEND = BackendView(
    name="local",
    type="local",
    reachable=True,
    message=None,
    drained=False,
    paused=False,
    configured=True,
    capabilities=("arrays", "logs", "services", "update"),
    seen_at=AT,
    live_jobs=3,
    caps=Caps(max_drains=2, max_submits_per_s=50.0, max_live_jobs=2000),
)


def summary(job):
    return JobSummary(
        id=job.id,
        kind=job.spec.kind,
        name=job.spec.name,
        project=job.project,
        owner=job.owner,
        state=job.state,
        reason=job.reason,
        backend=job.backend,
        labels=job.spec.labels,
        created_at=job.created_at,
        ended_at=job.ended_at,
        message=job.message,
        service=job.service,
    )


# ---- an application and its clients ----------------------------------------------------------------------

TRAINING = {"kind": "training", "name": "digits", "command": ["python", "train.py"]}
SERVICE = {
    "kind": "inference",
    "name": "digits-api",
    "command": ["python", "serve.py"],
    "service": {"port": 8000, "replicas": {"min": 1, "max": 4}},
}


def settings(**changes):
    known = {
        "redis_url": "redis://127.0.0.1:1/0",
        "rate_limit": "100000 per minute",
    }
    return Settings(**{**known, **changes})


class Api:
    """An application on a stub; ``api.as_("ana")`` is a test client with a token of that person."""

    def __init__(self, **changes):
        self.broker = StubBroker()
        self.app = create_app(self.broker, settings(**changes), limits_url="memory://")
        self.web = web_of(self.app)

    def token(self, subject="ana", project="vision", scopes=ALL_SCOPES, **changes):
        return self.broker.tokens.create(
            NewToken(subject=subject, project=project, scopes=scopes, **changes)
        )[0]

    def as_(self, subject="ana", **changes):
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {self.token(subject, **changes)}"
        return client

    def close(self):
        self.web.tail.stop()


@contextmanager
def running_api(**changes):
    api = Api(**changes)
    try:
        yield api
    finally:
        api.close()


def parse_stream(chunks, until):
    """Events of a stream as (name, data, id), read until one of the name ``until``."""
    found, buffer = [], b""
    deadline = time.monotonic() + 10
    for chunk in chunks:
        buffer += chunk
        while b"\n\n" in buffer:
            block, buffer = buffer.split(b"\n\n", 1)
            lines = dict(
                line.split(": ", 1) for line in block.decode().split("\n") if not line.startswith(":")
            )
            if "event" in lines:
                found.append((lines["event"], json.loads(lines["data"]), lines.get("id")))
        if (found and found[-1][0] == until) or time.monotonic() > deadline:
            break
    return found
