"""Recover: when all of Redis is lost, what an export holds and what the backends' objects tell of our jobs.

They carry marker, project, owner, kind, name and digest.  What nobody knows any more (dependencies, labels,
who submitted) stays empty, and the job is marked ``recovered``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from adapters.base import Observation, Ours
from adapters.errors import BackendError
from api_spec.ids import parse_marker, time_of
from api_spec.jobs import JobSpec, Kind, Service
from api_spec.packing import pack_spec
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle.context import Context, log
from broker.lifecycle.points import point
from broker.store.archive import Parts
from broker.store.dump import attempts_json, load_lines, restore
from broker.store.records import AttemptRecord, write_value
from broker.store.store import Store

NOBODY_KNOWS = ("true",)  # stands for a command that the backend did not keep


@dataclass(frozen=True)
class Recovered:
    jobs: int
    already_there: int
    unreachable: tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    jobs: int
    already_there: int
    others: int  # tokens, backends, idempotency keys


def import_lines(store: Store, lines: Iterable[str]) -> Loaded:
    """As ``load_lines``.  May be repeated."""
    counts = Counter[str]()
    for done in load_lines(store, lines):
        counts[done] += 1
        point("restored")
    others = counts["token"] + counts["backend"] + counts["idempotency"]
    return Loaded(counts["job"], counts["exists"], others)


def recover(context: Context) -> Recovered:
    """Every job that some backend knows and the store does not.  May be repeated."""
    unreachable, by_job = [], dict[str, list[tuple[str, Ours]]]()
    for name, adapter in context.adapters.items():
        try:
            found = adapter.list_ours(0.0)
        except BackendError as error:
            log.warning("%s was not asked for its jobs: %s", name, error)
            unreachable.append(name)
            continue
        point("recover_listed")
        for ours in found:
            marker = parse_marker(ours.ref.marker)
            if marker is not None and marker.instance == context.settings.instance:
                by_job.setdefault(marker.job_id, []).append((name, ours))
    now = context.store.now()  # for an end that the backend does not date
    new = 0
    for job_id, attempts in by_job.items():
        new += restore(context.store, _parts(job_id, attempts, now))
        point("restored")
    return Recovered(new, len(by_job) - new, tuple(unreachable))


def _parts(job_id: str, found: Iterable[tuple[str, Ours]], now: float) -> Parts:
    attempts = [_attempt(backend, ours) for backend, ours in found]
    attempts.sort(key=lambda one: one[0].number)
    last, ours = attempts[-1]
    observation = ours.observation
    spec = ours.spec or _what_is_left_of_the_spec(ours)
    fields = {
        "v": "1",
        "version": 1,
        "epoch": 0,
        "kind": spec.kind,
        "name": ours.ref.name or spec.name,
        "project": ours.ref.project,
        "owner": ours.ref.owner,
        "submitter": ours.ref.owner,
        "digest": ours.ref.digest,
        "created": int(time_of(job_id) * 1000),
        "updated": int(time_of(job_id) * 1000),
        "attempt": last.number,
        "backend": last.backend,
        "recovered": True,
        "replicas": spec.service.replicas.min if spec.service else None,
        **_state_fields(observation, last, now),
    }
    return Parts(
        job_id=job_id,
        raw={name: write_value(value) for name, value in fields.items() if value is not None},
        spec=pack_spec(spec),
        attempts_json=attempts_json(attempt for attempt, _ in attempts),
        decisions={},
        history=(),
        tasks=None,
    )


def _attempt(backend: str, ours: Ours) -> tuple[AttemptRecord, Ours]:
    observation, marker = ours.observation, parse_marker(ours.ref.marker)
    number = marker.attempt if marker else 1
    record = AttemptRecord(
        number=number,
        marker=ours.ref.marker,
        backend=backend,
        state=observation.state or AttemptState.QUEUED,
        submitted_at=ours.ref.submitted_at or 0.0,
        outcome=observation.outcome,
        reason=observation.reason,
        handle=ours.ref.handle or observation.handle,
        native_state=observation.native_state,
        restarts=observation.restarts,
        exit_code=observation.exit_code,
        signal=observation.signal,
        started_at=observation.started_at,
        ended_at=observation.ended_at,
        outputs=observation.outputs,
    )
    return record, ours


def _state_fields(observation: Observation, last: AttemptRecord, now: float) -> dict[str, object]:
    started = {"started": int(observation.started_at * 1000) if observation.started_at else None}
    if observation.state is not AttemptState.ENDED:
        running = observation.state is AttemptState.RUNNING
        return {**started, "state": JobState.RUNNING if running else JobState.QUEUED}
    return {
        **started,
        "state": observation.outcome or JobState.FAILED,
        "reason": observation.reason or Reason.UNKNOWN,
        "exit_code": observation.exit_code,
        "signal": observation.signal,
        "ended": int((observation.ended_at or now) * 1000),
        "ended_by": f"backend:{last.backend}",
    }


def _what_is_left_of_the_spec(ours: Ours) -> JobSpec:
    kind = Kind(ours.ref.kind or Kind.BATCH)
    service = Service(port=1) if kind is Kind.INFERENCE else None
    name = ours.ref.name or "recovered"
    return JobSpec(kind=kind, name=name, project=ours.ref.project, command=NOBODY_KNOWS, service=service)
