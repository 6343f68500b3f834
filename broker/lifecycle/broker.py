"""The broker as one object: what the web, the workers and the controller call.  One method a verb."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import adapters.base as base
from api_spec.decisions import Decision, Refusal
from api_spec.errors import Fault, InvalidSpec, summary_of
from api_spec.jobs import JobSpec
from api_spec.states import FINAL
from api_spec.views import (
    Accepted,
    AttemptView,
    BackendView,
    EventView,
    JobQuery,
    JobSummary,
    JobView,
    Page,
    TaskCancel,
    TaskView,
    UsageView,
)
from broker.access import Principal, Scope
from broker.auth import Tokens
from broker.lifecycle import accept as accepting
from broker.lifecycle import cancel_tasks as cancelling
from broker.lifecycle import figures as counting
from broker.lifecycle import intents, logs, reading, usage
from broker.lifecycle.context import UNPLACED, Context
from broker.lifecycle.dispatch import drain
from broker.lifecycle.forget import forget
from broker.lifecycle.kept_logs import keep_due
from broker.lifecycle.log_reading import answer_next
from broker.lifecycle.log_relay import LogRelay
from broker.lifecycle.observe import observe
from broker.lifecycle.refresh import refresh
from broker.lifecycle.release import release_dependants
from broker.lifecycle.snapshots import Snapshots
from broker.lifecycle.sweep import sweep, tick
from broker.lifecycle.updates import Update
from broker.lifecycle.watch import watch, watched
from broker.store.connection import errors_in_our_words, probe
from broker.store.events import of_job

P = ParamSpec("P")
T = TypeVar("T")

WAIT_PROBE_S = 0.1


def over_the_store(method: Callable[P, T]) -> Callable[P, T]:
    """What Redis raises becomes ``StoreUnavailable``."""

    @wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with errors_in_our_words():
            return method(*args, **kwargs)

    return wrapped


def _alone(context: Context) -> str | None:
    """The local backend, unless the operator has accepted that its users are not isolated."""
    if context.settings.allow_shared_local:
        return None
    return next((name for name, adapter in context.adapters.items() if adapter.type == "local"), None)


class Broker:
    def __init__(self, context: Context) -> None:
        self.context = context
        self.store = context.store
        self.snapshots = Snapshots(context)
        self.relay = LogRelay(context)
        self.tokens = Tokens(context.store.tokens, for_one_owner=_alone(context))

    # ---- submit --------------------------------------------------------------------------------------

    @over_the_store
    def preview(
        self, specs: Sequence[JobSpec], who: Principal, *, bundled: bool = False
    ) -> tuple[Decision, ...]:
        """The decisions that a submission would get now, after all of its checks; nothing is written."""
        who.need(Scope.JOBS_READ)
        submission = accepting.Submission(specs=specs, bundled=bundled)
        return accepting.preview(self.context, self.snapshots, submission, who)

    @over_the_store
    def accept(
        self,
        specs: Sequence[JobSpec],
        who: Principal,
        *,
        key: str | None = None,
        body_digest: str = "",
        bundled: bool = False,
    ) -> Accepted:
        """``bundled``: the body was a list of jobs, which what is said of a fault has to point into."""
        submission = accepting.Submission(specs=specs, bundled=bundled, key=key, body_digest=body_digest)
        return accepting.accept(self.context, self.snapshots, submission, who)

    @over_the_store
    def resubmit(
        self, job_id: str, who: Principal, *, key: str | None = None, if_version: int | None = None
    ) -> Accepted:
        wanted = accepting.Resubmission(job_id=job_id, key=key, if_version=if_version)
        return accepting.resubmit(self.context, self.snapshots, wanted, who)

    @over_the_store
    def render(self, spec: JobSpec, backend: str, who: Principal) -> str:
        """The exact script or manifest that the backend would get, under a marker made of zeros."""
        who.need(Scope.JOBS_READ)
        refuse_unless_taken(self.context.adapter(backend), spec, who.owner)
        nobody = "0" * 26
        ref = base.AttemptRef(
            marker=self.context.marker(nobody, 1),
            job_id=nobody,
            project=who.project,
            owner=who.owner,
            kind=spec.kind,
            name=spec.name,
        )
        return self.context.adapter(backend).render(spec, ref)

    # ---- read ----------------------------------------------------------------------------------------

    @over_the_store
    def get(self, job_id: str, who: Principal) -> JobView:
        return reading.get(self.context, job_id, who)

    def wait(self, job_id: str, who: Principal, seconds: float) -> JobView:
        """As soon as it has ended, or as it is when the time is over."""
        give_up_at = time.monotonic() + seconds
        while (view := self.get(job_id, who)).state not in FINAL and time.monotonic() < give_up_at:
            time.sleep(WAIT_PROBE_S)
        return view

    @over_the_store
    def list_jobs(self, query: JobQuery, who: Principal) -> Page[JobSummary]:
        return reading.list_jobs(self.context, query, who)

    @over_the_store
    def attempts(self, job_id: str, who: Principal) -> tuple[AttemptView, ...]:
        return reading.attempts(self.context, job_id, who)

    @over_the_store
    def usage(self, job_id: str, who: Principal) -> tuple[UsageView, ...]:
        return usage.views(self.context, reading.visible(self.context, job_id, who))

    @over_the_store
    def tasks(self, job_id: str, who: Principal, cursor: str | None, limit: int) -> Page[TaskView]:
        return reading.task_page(self.context, job_id, who, cursor, limit)

    @over_the_store
    def decisions(self, job_id: str, who: Principal) -> tuple[Decision, ...]:
        return reading.decisions(self.context, job_id, who)

    @over_the_store
    def job_events(self, job_id: str, who: Principal) -> tuple[EventView, ...]:
        return of_job(job_id, reading.visible(self.context, job_id, who).history)

    @over_the_store
    def events(self, who: Principal, after: str | None, limit: int) -> Page[EventView]:
        """``after``: an event's id, ``oldest`` or ``latest``, which gives the place of what happens next."""
        who.need(Scope.JOBS_READ)
        return self.store.events.of_project(who.project, after, limit)

    @over_the_store
    def operator_events(self, who: Principal, after: str | None, limit: int) -> Page[EventView]:
        """What happens to backends, in all projects."""
        who.need(Scope.BACKENDS_ADMIN)
        return self.store.events.of_operator(after, limit)

    @over_the_store
    def pending(self, job_id: str, who: Principal) -> tuple[Refusal, ...]:
        return reading.pending(self.context, job_id, who)

    @over_the_store
    def log(
        self, job_id: str, who: Principal, query: base.LogQuery, attempt: int | None = None
    ) -> base.LogPage:
        return logs.log_page(self.context, self.relay, job_id, who, query, attempt)

    # ---- act -----------------------------------------------------------------------------------------

    @over_the_store
    def cancel(self, job_id: str, who: Principal, *, if_version: int | None = None) -> JobView:
        intents.cancel(self.context, job_id, who, if_version)
        return self.get(job_id, who)

    @over_the_store
    def cancel_tasks(
        self, job_id: str, indices: str, who: Principal, *, if_version: int | None = None
    ) -> TaskCancel:
        """``indices`` as in ``Array``; raises ``InvalidSpec`` for those that the array does not have."""
        done = cancelling.cancel_tasks(self.context, job_id, indices, who, if_version)
        job = self.get(job_id, who)
        return TaskCancel(job=job, requested=done.requested, ended_before=done.ended_before)

    @over_the_store
    def hold(self, job_id: str, who: Principal, *, if_version: int | None = None) -> JobView:
        intents.hold(self.context, job_id, who, if_version)
        return self.get(job_id, who)

    @over_the_store
    def release(self, job_id: str, who: Principal, *, if_version: int | None = None) -> JobView:
        intents.release(self.context, job_id, who, if_version)
        return self.get(job_id, who)

    @over_the_store
    def update(
        self,
        job_id: str,
        who: Principal,
        *,
        replicas: int | None = None,
        spec: JobSpec | None = None,
        if_version: int | None = None,
    ) -> JobView:
        wanted = Update(replicas=replicas, spec=spec, if_version=if_version)
        intents.update(self.context, job_id, who, wanted)
        return self.get(job_id, who)

    # ---- backends ------------------------------------------------------------------------------------

    @over_the_store
    def backends(self, who: Principal) -> tuple[BackendView, ...]:
        return reading.backends(self.context, who)

    @over_the_store
    def backend(self, name: str, who: Principal) -> BackendView:
        return reading.backend(self.context, name, who)

    def drain_backend(self, name: str, who: Principal) -> BackendView:
        """No new placements; what is queued for it in the broker is placed elsewhere or waits."""
        return self._flag(name, who, drained=True)

    def pause_backend(self, name: str, who: Principal) -> BackendView:
        """No submits; cancels and look-ups work."""
        return self._flag(name, who, paused=True)

    def resume_backend(self, name: str, who: Principal) -> BackendView:
        """Neither drained nor paused."""
        return self._flag(name, who, drained=False, paused=False)

    @over_the_store
    def check_backend(self, name: str, who: Principal) -> Sequence[base.Finding]:
        """Asks the backend from this very process, and its log reader; what does not answer is a finding."""
        who.need(Scope.BACKENDS_ADMIN)
        return logs.check(self.context, self.relay, name)

    @over_the_store
    def _flag(self, name: str, who: Principal, **flags: bool) -> BackendView:
        who.need(Scope.BACKENDS_ADMIN)
        self.context.adapter(name)
        self.store.backends.set_flags(name, **flags)
        self.snapshots.forget()
        self.store.events.tell_operator("backend_flags", {"backend": name, "by": who.owner, **flags})
        for queue in (name, UNPLACED):
            self.context.hint(f"drain:{queue}")
        return reading.backend(self.context, name, who)

    # ---- operations ----------------------------------------------------------------------------------

    @over_the_store
    def ready(self) -> None:
        """Raises ``StoreUnavailable``, within two seconds."""
        probe(self.store.client)

    @over_the_store
    def figures(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        return counting.figures(self.context)

    # ---- what workers and the controller do ----------------------------------------------------------

    def perform(self, hint: str) -> None:
        """``drain:<backend>``, and so ``observe``, ``refresh`` and ``keep``; ``release`` or ``forget``."""
        verb, _, backend = hint.partition(":")
        with errors_in_our_words():
            if verb == "drain":
                drain(self.context, self.snapshots, backend)
            elif verb == "observe":
                observe(self.context, backend)
            elif verb == "refresh":
                refresh(self.context, backend)
            elif verb == "keep":
                keep_due(self.context, backend)
            elif verb == "release":
                release_dependants(self.context)
            elif verb == "forget":
                forget(self.context)
            else:
                raise ValueError(f"{hint} is no hint")

    @over_the_store
    def answer_about_logs(self, backend: str, me: str, wait_s: float) -> bool:
        """The next question of an API process to the log readers of the backend; False: there was none."""
        return answer_next(self.context, backend, me, wait_s)

    @property
    def watched(self) -> tuple[str, ...]:
        """The backends that tell by themselves what changes there."""
        return watched(self.context)

    @over_the_store
    def watch(self, backend: str, stop: threading.Event) -> bool:
        """Returns when it is told to stop.  False: another worker watches."""
        return watch(self.context, backend, stop)

    @over_the_store
    def tick(self) -> int:
        return tick(self.context)

    @over_the_store
    def sweep(self) -> None:
        sweep(self.context)


def refuse_unless_taken(adapter: base.Adapter, spec: JobSpec, owner: str) -> None:
    """Raises ``InvalidSpec`` for what the backend never takes, whatever is free there."""
    faults = [
        Fault(one.field or "", f"{adapter.name} {one.message}") for one in adapter.refusals(spec, None, owner)
    ]
    if faults:
        raise InvalidSpec(summary_of(faults), faults=faults)
