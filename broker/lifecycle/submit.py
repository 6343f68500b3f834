"""Submit: hand an attempt over exactly once, whatever was lost on the way.

An attempt that stands in ``SUBMITTING`` may or may not have reached its backend.  Only a proof that it did
not (``sent`` False, or ``Absent`` from a look-up after the settle time) lets it be submitted again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from adapters.base import Absent, Found, Handle
from adapters.errors import Busy, CannotWait, OutcomeUnknown, Rejected
from api_spec.frozen import changed
from api_spec.jobs import JobSpec
from api_spec.packing import unpack_spec
from api_spec.quantities import compact_indices, expand_indices
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle import native
from broker.lifecycle.context import ACT, SUBMIT, UNPLACED, Context, log, ref_of
from broker.lifecycle.health import failed, wait_s
from broker.lifecycle.pending import Pending, carry_out
from broker.lifecycle.points import point
from broker.store.changes import Change, Guard, Live, Write
from broker.store.jobs import SEND_WITHIN, Claim, Written
from broker.store.records import AttemptRecord, JobRecord
from policies.engine import with_options
from policies.records import unpack

PAUSED_S = 5.0  # between two looks at a backend that is paused
UNCONFIRMED_S = 0.1  # until the first look-up after an answer was lost


@dataclass(frozen=True, kw_only=True)
class Order:
    """One attempt that is to be handed over, by the holder of a claim."""

    record: JobRecord
    attempt: AttemptRecord
    spec: JobSpec  # with the policy's options and the inputs as resolved
    send_by: float


def resolve(context: Context, claim: Claim) -> None:
    """A job was found in ``SUBMITTING``: a worker died, a backend was busy, or an answer was lost."""
    attempt = claim.attempt
    if attempt is None:
        raise LookupError(f"job {claim.record.id} is SUBMITTING without an attempt")
    spec = as_decided(context, claim, attempt)
    order = Order(record=claim.record, attempt=attempt, spec=spec, send_by=claim.send_by)
    may_be_there = attempt.sent or attempt.submitted_at < context.store.incarnation_began()
    carry_out(context.store.jobs, look_up(context, order) if may_be_there else _again(context, order))


def look_up(context: Context, order: Order) -> Pending | None:
    record, attempt = order.record, order.attempt
    adapter = context.adapter(attempt.backend)
    try:
        answer = adapter.find(attempt.marker, _sent_by(context, attempt))
    except (Busy, OutcomeUnknown) as error:
        return _wait(context, record, attempt, error)
    point("looked_up")
    if isinstance(answer, Found):
        return _handed_over(context, record, attempt, answer.handle)
    if isinstance(answer, Absent):
        return _again(context, order)
    return _unconfirmed(context, record, attempt, answer.until)


def _sent_by(context: Context, attempt: AttemptRecord) -> float:
    """When the last call was surely made.  A worker that died may have called until its time was over."""
    return attempt.sent_by or attempt.submitted_at + SEND_WITHIN * context.settings.lease_s


def send(context: Context, order: Order) -> Pending | None:
    """The intent is written.  What the backend answers decides what is written next."""
    record, attempt = order.record, order.attempt
    adapter = context.adapter(attempt.backend)
    if time.monotonic() > order.send_by:
        # This worker was held up.  Another one may be looking for the attempt already, and would not find it.
        log.warning("%s was not sent: the lease of this worker is nearly over", attempt.marker)
        return None
    try:
        ref = native.with_predecessors(context, ref_of(record, attempt), attempt)
        if attempt.after:
            point("waits_there")
        handle = adapter.submit(ref, _as_wanted_now(order))
    except CannotWait as error:
        point("submit_returned")
        return _taken_back(context, record, attempt, error)
    except Rejected as error:
        point("submit_returned")
        return _rejected(context, record, attempt, error)
    except Busy as error:
        point("submit_returned")
        return _wait(context, record, replace(attempt, sent=False), error)
    except OutcomeUnknown:
        point("submit_returned")
        asked_at = context.store.now()
        return _unconfirmed(context, record, replace(attempt, sent_by=asked_at), asked_at + UNCONFIRMED_S)
    point("submit_returned")
    return _handed_over(context, record, attempt, handle)


def _as_wanted_now(order: Order) -> JobSpec:
    """What was submitted held was held here, and has been released: its backend is not to hold it as well."""
    return changed(order.spec, hold=order.record.held) if order.spec.hold else order.spec


def _again(context: Context, order: Order) -> Pending | None:
    """Proven that the backend does not have it: the same attempt, with its intent written anew."""
    record, attempt = order.record, order.attempt
    wanted = _still_wanted(record, attempt)
    if record.cancel or wanted == "":
        _withdrawn(context, record, attempt)
        return None
    if context.store.backends.read(attempt.backend).paused:
        return _paused(context, record, attempt)
    now, again = round(context.store.now(), 3), attempt.again or attempt.sent
    renewed = replace(attempt, sent=True, sent_by=None, submitted_at=now, again=again, task_indices=wanted)
    change = Change(
        attempt=renewed,
        set={"reason": None, "message": None},
        due=(f"{ACT}:{attempt.backend}", context.settings.lease_s),
        keeps_claim=True,
        no_progress=True,
    )
    guard = changed(_guard(record), after=attempt.after)
    written = context.store.jobs.move(record.id, guard, change)
    point("intent_written")
    if written is Written.CHANGED:
        return _taken_back(context, record, attempt, CannotWait("what it was to wait for has gone on"))
    if written is not Written.OK:
        return None
    return send(context, replace(order, attempt=renewed))


def _still_wanted(record: JobRecord, attempt: AttemptRecord) -> str | None:
    """The tasks of an array that nobody has cancelled since the attempt was made."""
    if attempt.task_indices is None or not record.cancel_tasks:
        return attempt.task_indices
    unwanted = record.unwanted
    return compact_indices(i for i in expand_indices(attempt.task_indices) if i not in unwanted)


# ---- what is written after an answer -----------------------------------------------------------------


def _handed_over(context: Context, record: JobRecord, attempt: AttemptRecord, handle: Handle) -> Pending:
    held = changed(attempt, state=AttemptState.QUEUED, handle=handle, sent=True)
    waits = bool(attempt.after)
    change = Change(
        set={
            "state": JobState.QUEUED,
            "reason": Reason.DEPENDENCY_NOT_MET if waits else None,
            "message": native.sentence(attempt) if waits else None,
        },
        attempt=held,
        live=(attempt.backend, Live(attempt=attempt.number, handle=handle)),
        no_due=True,
        events=(("queued", {"attempt": attempt.number}),),
        wake=attempt.backend in native.backends(context),  # its dependants may wait there, too
        look_again=waits,
    )
    told = {"attempt": attempt.number, "backend": attempt.backend, "handle": dict(handle)}
    log.info("handed over", extra={"job": record.id, **told})
    hint = (lambda: context.hint(f"drain:{attempt.backend}")) if record.cancel else None
    return _pending(record, change, "handle_written", hint)


def _rejected(context: Context, record: JobRecord, attempt: AttemptRecord, error: Rejected) -> Pending:
    """Final at this backend.  Another one may take the job, as another attempt."""
    ended = replace(
        attempt,
        state=AttemptState.ENDED,
        outcome=JobState.FAILED,
        reason=error.reason,
        message=str(error),
        ended_at=context.store.now(),
    )
    change = Change(
        set={
            "state": JobState.ACCEPTED,
            "backend": None,
            "message": str(error)[:500],
            "excluded": (*record.excluded, attempt.backend),
            "act": None,  # the next attempt is handed over as it is wanted by then
            "before": None,
        },
        attempt=ended,
        not_live=attempt.backend,
        due=(f"{SUBMIT}:{UNPLACED}", 0),
        events=(("rejected", {"backend": attempt.backend, "message": str(error)[:500]}),),
    )
    return _pending(record, change, "handle_written", lambda: context.hint(f"drain:{UNPLACED}"))


def _taken_back(context: Context, record: JobRecord, attempt: AttemptRecord, error: CannotWait) -> Pending:
    ended = replace(attempt, ended_at=context.store.now())
    change = native.taken_back(record, ended, str(error))
    return _pending(record, change, "taken_back", lambda: native.hint(context))


def _wait(
    context: Context, record: JobRecord, attempt: AttemptRecord, error: Busy | OutcomeUnknown
) -> Pending:
    """The backend did not act, or cannot be asked whether it did."""
    reason = error.reason if isinstance(error, Busy) else Reason.BACKEND_DOWN
    if attempt.sent:
        reason = Reason.SUBMIT_UNCONFIRMED
    failed(context, attempt.backend, error)
    change = Change(
        set={"reason": reason, "message": str(error)[:500]},
        attempt=attempt,
        due=(f"{ACT}:{attempt.backend}", wait_s(record, error, UNCONFIRMED_S)),
        unless_cancelled=record.cancel is None,
        quiet=record.reason is reason and attempt.sent,
    )
    return _pending(record, change, "handle_written")


def _paused(context: Context, record: JobRecord, attempt: AttemptRecord) -> Pending:
    """Proven that it is not there, and nothing is to be sent now."""
    message = f"the backend {attempt.backend} is paused: nothing is submitted to it until it is resumed"
    change = Change(
        set={"reason": Reason.DRAINED, "message": message},
        attempt=replace(attempt, sent=False),
        due=(f"{ACT}:{attempt.backend}", PAUSED_S),
        quiet=record.reason is Reason.DRAINED,
    )
    return _pending(record, change, "handle_written")


def _unconfirmed(context: Context, record: JobRecord, attempt: AttemptRecord, until: float) -> Pending:
    """Not seen, but the request may still be on its way: ask again then, and not before."""
    delay_s = max(0.05, until - context.store.now())
    change = Change(
        set={"reason": Reason.SUBMIT_UNCONFIRMED},
        attempt=attempt,
        due=(f"{ACT}:{attempt.backend}", delay_s),
        quiet=record.reason is Reason.SUBMIT_UNCONFIRMED,
    )
    return _pending(record, change, "handle_written")


def _withdrawn(context: Context, record: JobRecord, attempt: AttemptRecord) -> None:
    """Cancelled while it was unconfirmed, and now proven that it never arrived."""
    ended = replace(
        attempt,
        state=AttemptState.ENDED,
        outcome=JobState.CANCELLED,
        reason=Reason.CANCELLED,
        ended_at=context.store.now(),
    )
    change = Change(
        set={
            "state": JobState.CANCELLED,
            "reason": Reason.CANCELLED,
            "message": None,
            "ended_by": record.cancel or next(iter(record.cancel_tasks)),
        },
        attempt=ended,
        events=(("cancelled", {"reason": Reason.CANCELLED}),),
    )
    context.store.jobs.end(record.id, _guard(record), change)
    point("handle_written")


def _pending(record: JobRecord, change: Change, name: str, hint: Callable[[], None] | None = None) -> Pending:
    """``name``: of the point after it.  ``hint``: what is sent once it is written."""

    def go_on(written: Written) -> None:
        point(name)
        if hint is not None and written is Written.OK:
            hint()

    return Pending(Write(record.id, _guard(record), change), go_on)


def _guard(record: JobRecord) -> Guard:
    return Guard(epoch=record.epoch, states=(JobState.SUBMITTING,))


def as_decided(context: Context, claim: Claim, attempt: AttemptRecord) -> JobSpec:
    """The spec as the first submit of this attempt had it: options of the policy, inputs as resolved."""
    spec = unpack_spec(claim.spec)
    inputs = tuple(replace(item, uri=attempt.inputs.get(item.name, item.uri)) for item in spec.inputs)
    parts = context.store.jobs.parts(claim.record.id)
    packed = parts.decisions.get(attempt.number) if parts else None
    spec = replace(spec, inputs=inputs)
    return with_options(spec, unpack(packed)) if packed else spec
