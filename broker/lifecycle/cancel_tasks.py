"""Cancel of single tasks of an array: the intent, and what a worker does about it until it is seen.

Who asked for which tasks stays in the job.  No attempt that begins later runs them; what an attempt runs
already, or may, its backend is told of again and again (``TASKS`` among the job's ``act``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from adapters.base import Capability
from adapters.errors import Rejected
from adapters.extras import CancelsTasks
from api_spec.errors import Conflict, Fault, InvalidSpec, NotFound, NotSupported, PreconditionFailed
from api_spec.jobs import JobSpec
from api_spec.packing import unpack_spec
from api_spec.quantities import compact_indices, expand_indices
from api_spec.reasons import Reason
from api_spec.states import AT_A_BACKEND, JobState
from broker.access import Principal
from broker.lifecycle import arrays, intents, tasks
from broker.lifecycle.context import ACT, Context, ref_of
from broker.lifecycle.points import point
from broker.store.archive import Parts
from broker.store.changes import Change, Event, Guard
from broker.store.jobs import Claim, Written
from broker.store.records import TASKS, AttemptRecord, JobRecord

TRIES = 5  # a running array changes often, and between reading and writing there is a moment
INSIST_S = 5.0  # between two calls for the same tasks; doubles while nothing is seen to change
INSIST_MAX_S = 60.0
LONGEST_SHOWN = 500  # characters of an index list in an event


@dataclass(frozen=True, kw_only=True)
class Named:
    """What a cancel meant.  ``requested``: tasks that had not ended; ``ended_before``: the others."""

    requested: str | None
    ended_before: str | None


# ---- the intent --------------------------------------------------------------------------------------


def cancel_tasks(
    context: Context, job_id: str, indices: str, who: Principal, if_version: int | None = None
) -> Named:
    """Repeated, or of tasks that have ended, it changes nothing.  Of all that is left: the job's own end."""
    for _ in range(TRIES):
        intents.mine(context, job_id, who, if_version)
        wish = _Wish.of(context, job_id, frozenset(expand_indices(indices)))
        intents.must_have(wish.record, if_version)
        if _write(context, wish, f"user:{who.owner}"):
            break
        if if_version is not None:
            raise PreconditionFailed(intents.CHANGED)
    else:
        raise Conflict(intents.CHANGED)
    if wish.is_the_end:
        intents.cancel(context, job_id, who)
    elif TASKS in wish.fields_of_act.get("act", ()) and wish.record.backend:
        context.hint(f"drain:{wish.record.backend}")
    requested, before = compact_indices(wish.requested), compact_indices(wish.named - wish.requested)
    return Named(requested=requested or None, ended_before=before or None)


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """``now``: not over in the attempt that is under way; ``later``: for an attempt that is to come."""

    record: JobRecord
    table: tasks.Table
    named: frozenset[int]
    now: frozenset[int]
    later: frozenset[int]

    @classmethod
    def of(cls, context: Context, job_id: str, named: frozenset[int]) -> _Wish:
        parts = context.store.jobs.parts(job_id)
        if parts is None:
            raise NotFound(f"there is no job {job_id}")
        spec = unpack_spec(parts.spec)
        table = tasks.table_of(spec, parts.tasks)
        if spec.array is None or table is None:
            raise Conflict(
                f"job {job_id} is not an array job: it has no tasks to cancel, only the whole of it"
            )
        if unknown := named.difference(spec.array.task_indices):
            message = f"the array has no task {compact_indices(unknown)[:LONGEST_SHOWN]}"
            raise InvalidSpec(message, faults=[Fault("/tasks", message)])
        now, later = _left(parts, spec, table)
        wish = cls(record=parts.record, table=table, named=named, now=now, later=later)
        wish._must_be_possible(context)
        return wish

    @property
    def requested(self) -> frozenset[int]:
        return self.named & (self.now | self.later)

    @property
    def fresh(self) -> frozenset[int]:
        return self.requested.difference(self.record.unwanted)

    @property
    def is_the_end(self) -> bool:
        """Nothing is left of the job but what was named, now or before."""
        left = (self.now | self.later).difference(self.named, self.record.unwanted)
        waits = self.record.state is JobState.ACCEPTED
        return not left and (waits or bool(self.requested))

    @property
    def fields_of_act(self) -> dict[str, Any]:
        if self.is_the_end or not self.fresh & self.now:
            return {}
        return {"act": tuple(dict.fromkeys((*self.record.act, TASKS)))}

    def _must_be_possible(self, context: Context) -> None:
        adapter = context.adapters.get(self.record.backend or "")
        able = adapter is not None and Capability.CANCEL_TASKS in adapter.capabilities
        if self.fields_of_act and not able:
            raise NotSupported(
                f"the backend {self.record.backend} cannot cancel single tasks; cancel the whole job"
            )


def _left(parts: Parts, spec: JobSpec, table: tasks.Table) -> tuple[frozenset[int], frozenset[int]]:
    record = parts.record
    if record.ended_for_good:
        return frozenset(), frozenset()
    if record.state is JobState.ACCEPTED:
        return frozenset(), frozenset(arrays.to_run(record, spec))
    attempt = next(one for one in parts.attempts if one.number == record.attempt)
    running = arrays.running(attempt)
    now = tasks.open_rows(table, running, attempt.number).intersection(running)
    if attempt.number >= spec.retry.max_attempts:
        return frozenset(now), frozenset()
    failed = tasks.failed_for(table, [Reason(name) for name in spec.retry.on])
    return frozenset(now), frozenset(failed).difference(now, record.unwanted)


def _write(context: Context, wish: _Wish, by: str) -> bool:
    """False: somebody was faster."""
    if not wish.fresh:
        return True
    record = wish.record
    before = expand_indices(record.cancel_tasks[by]) if by in record.cancel_tasks else ()
    asked = {**record.cancel_tasks, by: compact_indices({*before, *wish.fresh})}
    fields: dict[str, Any] = {"cancel_tasks": asked, **wish.fields_of_act}
    table = None
    if gone := wish.fresh & wish.later:
        table = tasks.given_up(wish.table, gone, context.store.now())
        fields["tasks"] = tasks.counts(table)
    at_a_backend = record.state in AT_A_BACKEND and wish.fields_of_act
    change = Change(
        set=fields,
        tasks=tasks.pack_table(table) if table else None,
        due=(f"{ACT}:{record.backend}", 0) if at_a_backend else None,
        keeps_claim=not at_a_backend,
        events=(_event(wish.fresh, by),),
    )
    written = context.store.jobs.move(record.id, Guard(version=record.version), change)
    point("accepted")
    return written is Written.OK


def _event(indices: Collection[int], by: str) -> Event:
    text = compact_indices(indices)
    shown = {"tasks": text} if len(text) <= LONGEST_SHOWN else {}
    return ("tasks_cancel_requested", {**shown, "count": len(indices), "by": by})


# ---- what a worker does about it ---------------------------------------------------------------------


def tell(context: Context, record: JobRecord, attempt: AttemptRecord) -> Collection[int] | None:
    """What the backend has nothing left of; None: there was nothing to tell it.  Raises ``BackendError``."""
    seen = _seen(context, record.id, attempt)
    if seen is None or not seen.left:
        return None
    adapter = context.adapter(attempt.backend)
    if not isinstance(adapter, CancelsTasks) or Capability.CANCEL_TASKS not in adapter.capabilities:
        raise Rejected(f"the backend {attempt.backend} cannot cancel single tasks")
    gone = adapter.cancel_tasks(ref_of(record, attempt), sorted(seen.left))
    point("tasks_cancel_returned")
    return gone


def told(context: Context, claim: Claim, attempt: AttemptRecord, gone: Collection[int] | None) -> None:
    """Due again until all have ended, and written where that is known already."""
    record, jobs = claim.record, context.store.jobs
    seen = _seen(context, record.id, attempt)
    if seen is None:
        return
    over = seen.left.intersection(gone or ()) | seen.never_run
    left = seen.left - over
    table = tasks.given_up(seen.table, over, context.store.now()) if over else None
    fields: dict[str, Any] = {"tasks": tasks.counts(table)} if table else {}
    if not left:
        fields["act"] = tuple(one for one in seen.record.act if one != TASKS) or None
    insist_s = min(INSIST_MAX_S, INSIST_S * 2 ** min(record.tries - 1, 8))
    queue = f"{ACT}:{attempt.backend}"
    change = Change(
        set=fields,
        tasks=tasks.pack_table(table) if table else None,
        due=(queue, insist_s) if left else None,
        no_due=not left,
        quiet=not fields,
        no_progress=bool(left),
    )
    # Guarded by the version: what was asked for or seen in the meantime is looked at anew.
    guard = Guard(epoch=record.epoch, version=seen.record.version, states=AT_A_BACKEND)
    written = jobs.move(record.id, guard, change)
    point("step_done")
    if written is Written.CHANGED:
        jobs.move(record.id, Guard(epoch=record.epoch), Change(quiet=True, due=(queue, 0), no_progress=True))
        point("step_done")
    if gone is not None:
        # Their end is looked for soon, not at the next poll.
        context.store.backends.postpone(attempt.backend, "observe_at", 0)
        context.hint(f"observe:{attempt.backend}")


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """Of the unwanted tasks: ``left`` may still run at the backend, ``never_run`` it was never given."""

    record: JobRecord
    table: tasks.Table
    left: frozenset[int]
    never_run: frozenset[int]


def _seen(context: Context, job_id: str, attempt: AttemptRecord) -> _Seen | None:
    """As it stands now; None: the job has gone."""
    parts = context.store.jobs.parts(job_id)
    table = tasks.table_of(unpack_spec(parts.spec), parts.tasks) if parts else None
    if parts is None or table is None:
        return None
    running = arrays.running(attempt)
    left = tasks.open_rows(table, running, attempt.number) & parts.record.unwanted.keys()
    return _Seen(
        record=parts.record,
        table=table,
        left=frozenset(left.intersection(running)),
        never_run=frozenset(left.difference(running)),
    )
