"""Act: carry out what a user wants of a job that stands at a backend: cancel, scale, update, hold."""

from __future__ import annotations

from dataclasses import replace

from adapters.errors import BackendError, Busy, OutcomeUnknown, Rejected
from adapters.extras import Adjusts, Holds, Updates
from api_spec.states import AttemptState, JobState
from broker.lifecycle import cancel_tasks, kept_logs, native
from broker.lifecycle.context import ACT, Context, ref_of
from broker.lifecycle.health import failed, wait_s
from broker.lifecycle.points import point
from broker.lifecycle.refusals import in_force, taken_back
from broker.lifecycle.submit import as_decided
from broker.store.changes import Change, Guard
from broker.store.jobs import Claim, Written
from broker.store.records import HOLD, TASKS, UPDATE, AttemptRecord, JobRecord

INSIST_S = 5.0  # between two calls of cancel, until the backend says that it is gone
LATER_S = 2.0


def act(context: Context, claim: Claim) -> None:
    record, attempt = claim.record, claim.attempt
    if attempt is not None and (record.cancel or (not record.act and native.is_stranded(record, attempt))):
        _withdraw(context, record, attempt)
    elif attempt is None or not record.act:
        context.store.jobs.move(record.id, Guard(epoch=record.epoch), Change(quiet=True, no_due=True))
    else:
        _carry_out(context, claim, attempt)


def _withdraw(context: Context, record: JobRecord, attempt: AttemptRecord) -> None:
    """Called again and again until an observation shows the end; cancel is idempotent."""
    kept_logs.before_it_goes(context, record, attempt)
    try:
        context.adapter(attempt.backend).cancel(ref_of(record, attempt))
    except BackendError as error:
        return _later(context, record, attempt, error)
    point("cancel_returned")
    change = Change(
        attempt=replace(attempt, state=AttemptState.WITHDRAWING),
        due=(f"{ACT}:{attempt.backend}", INSIST_S),
        quiet=attempt.state is AttemptState.WITHDRAWING,
    )
    context.store.jobs.move(record.id, _guard(record), change)
    point("step_done")
    # Its end is looked for soon, not at the next poll.
    context.store.backends.postpone(attempt.backend, "observe_at", 0)
    context.hint(f"observe:{attempt.backend}")
    return None


def _carry_out(context: Context, claim: Claim, attempt: AttemptRecord) -> None:
    """One intent; with another one beside it the job is due again at once."""
    record = claim.record
    if TASKS in record.act:
        # First: nobody waits for an end because a change is refused or put off.
        try:
            gone = cancel_tasks.tell(context, record, attempt)
        except BackendError as error:
            return _later(context, record, attempt, error)
        if record.act == (TASKS,):
            return cancel_tasks.told(context, claim, attempt, gone)
    what = UPDATE if UPDATE in record.act else HOLD
    try:
        _tell(context, claim, attempt, what)
    except Rejected as error:
        point("update_returned")
        return _refused(context, claim, what, error)
    except (Busy, OutcomeUnknown) as error:
        return _later(context, record, attempt, error)
    point("update_returned")
    return _done(context, claim, what)


def _tell(context: Context, claim: Claim, attempt: AttemptRecord, what: str) -> None:
    record = claim.record
    adapter, ref = context.adapter(attempt.backend), ref_of(record, attempt)
    if what == UPDATE:
        spec = as_decided(context, claim, attempt)
        if spec.is_service and isinstance(adapter, Updates):
            adapter.update(ref, spec)
        elif not spec.is_service and isinstance(adapter, Adjusts):
            adapter.adjust(ref, spec)
    elif what == HOLD and isinstance(adapter, Holds):
        adapter.hold(ref) if record.held else adapter.release(ref)


def _without(record: JobRecord, what: str) -> tuple[str, ...] | None:
    """What is left to be carried out."""
    return tuple(one for one in record.act if one != what) or None


def _done(context: Context, claim: Claim, what: str) -> None:
    record, jobs = claim.record, context.store.jobs
    # Guarded by the version too: what was asked for in the meantime is still to be carried out.
    guard = Guard(epoch=record.epoch, version=record.version)
    fields = {"act": _without(record, what), **({"before": None} if what == UPDATE else {})}
    written = jobs.move(record.id, guard, Change(set=fields, no_due=True))
    point("step_done")
    if written is Written.CHANGED and what == UPDATE:
        # If the newer one is refused, this one is what the backend has.
        jobs.move(record.id, _guard(record), Change(set={"before": in_force(record, claim.spec)}))
        point("step_done")


def _refused(context: Context, claim: Claim, what: str, error: Rejected) -> None:
    """Taken back; a newer wish is not refused with the older one."""
    now = context.store.jobs.read(claim.record.id)
    if now is None:
        return
    back = taken_back(what, claim.record, now)
    over = {"act": _without(now, what), **({"before": None} if what == UPDATE else {})}
    change = Change(
        set={**back.fields, **({} if back.still_wanted else over), "message": str(error)[:500]},
        spec=back.spec,
        no_due=True,
        events=(("refused", {"message": str(error)[:500]}),),
    )
    context.store.jobs.move(now.id, Guard(epoch=claim.record.epoch, version=now.version), change)
    point("step_done")


def _later(context: Context, record: JobRecord, attempt: AttemptRecord, error: BackendError) -> None:
    failed(context, attempt.backend, error)
    due = (f"{ACT}:{attempt.backend}", wait_s(record, error, LATER_S))
    change = Change(
        quiet=True,
        due=due,
        unless_cancelled=record.cancel is None,
        unless_tasks_cancelled=TASKS not in record.act,
    )
    context.store.jobs.move(record.id, _guard(record), change)


def _guard(record: JobRecord) -> Guard:
    return Guard(epoch=record.epoch, states=(JobState.QUEUED, JobState.RUNNING))
