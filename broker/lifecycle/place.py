"""Place: the binding decision for one attempt, and the first write of that attempt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api_spec.decisions import Decision, Outcome, Refusal
from api_spec.frozen import changed
from api_spec.jobs import Input, JobSpec
from api_spec.packing import unpack_spec
from api_spec.quantities import compact_indices
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle import arrays, native
from broker.lifecycle.context import ACT, SUBMIT, UNPLACED, Context, not_configured
from broker.lifecycle.pending import Pending
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import Snapshots
from broker.lifecycle.submit import Order, look_up, send
from broker.store.changes import Change, Guard, Live, Write
from broker.store.jobs import Claim, Written
from broker.store.records import TASKS, After, AttemptRecord, JobRecord
from policies.engine import decide, why_waiting, with_options
from policies.records import pack

REROUTES = 3  # then the job stays where it is if it can, so that it does not wander between two equals
PATIENCE_S = 1.0  # before a job that found no backend is decided again; doubles
PATIENCE_MAX_S = 30.0


def place(context: Context, snapshots: Snapshots, backend: str, claim: Claim) -> Pending | None:
    """The first write of an attempt, and how it goes on; None where it came to none."""
    record, spec = claim.record, unpack_spec(claim.spec)
    if spec.array is not None and not arrays.to_run(record, spec):
        _nothing_to_run(context, record)
        return None
    number = record.attempt + 1
    facts = snapshots.facts(spec, record.owner, frozenset(record.groups), record.excluded)
    decision = decide(spec, facts, context.policy, binding=True, attempt=number)
    chosen = decision.chosen
    if record.waits:
        return _place_to_wait(context, snapshots, backend, claim, decision)
    if chosen is None:
        _no_backend(context, record, spec, decision)
        return None
    if chosen != backend and record.reroutes >= REROUTES and _is_eligible(decision, backend):
        decision = replace(decision, chosen=backend, summary=f"{backend} keeps it: {decision.summary}")
    elif chosen != backend:
        _reroute(context, record, chosen)
        return None
    snapshots.assigned(decision.chosen or backend)
    return _begin(context, claim, spec, decision)


def _place_to_wait(
    context: Context, snapshots: Snapshots, backend: str, claim: Claim, decision: Decision
) -> Pending | None:
    """Its predecessors are at this backend.  It waits there too if that is where it would be placed now."""
    elsewhere = f"it would now be placed at {decision.chosen or 'no backend'}"
    after: tuple[After, ...] | str = f"{elsewhere}, and its predecessors are at {backend}"
    if decision.chosen == backend:
        after = native.predecessors(context, claim.record, backend)
    if isinstance(after, str):
        native.hold_on(context, claim.record, decision, after)
        return None
    snapshots.assigned(backend)
    summary = f"{decision.summary}; {backend} itself waits for {native.in_words(after)}"
    return _begin(context, claim, unpack_spec(claim.spec), replace(decision, summary=summary), after)


def _nothing_to_run(context: Context, record: JobRecord) -> None:
    """Every task that was left has been cancelled, and whoever asked did not come to end the job as well."""
    if context.store.jobs.cancel(record.id, next(iter(record.cancel_tasks), "broker")) == "ended":
        point("step_done")
        context.hint("release")


def _is_eligible(decision: Decision, backend: str) -> bool:
    return any(verdict.backend == backend and verdict.eligible for verdict in decision.verdicts)


def _reroute(context: Context, record: JobRecord, chosen: str) -> None:
    change = Change(set={"reroutes": record.reroutes + 1}, due=(f"{SUBMIT}:{chosen}", 0))
    written = context.store.jobs.move(record.id, _as_read(record), change)
    point("rerouted")
    if written is Written.OK:
        context.hint(f"drain:{chosen}")
    else:
        _look_again(context, record, written)


def _as_read(record: JobRecord) -> Guard:
    """By the version too: what a user wanted in the meantime, such as a hold, is not to be passed over."""
    return Guard(epoch=record.epoch, version=record.version, states=(JobState.ACCEPTED,))


def _look_again(context: Context, record: JobRecord, written: Written) -> None:
    """Somebody changed the job since it was claimed: it is decided anew, as it is now, and at once.  One that
    waits may have a predecessor that has gone on: judged anew."""
    if written is Written.CHANGED and record.queue is not None:
        due = Change(quiet=True, due=(record.queue, 0))
        change = Change(quiet=True, no_due=True, look_again=True) if record.waits else due
        context.store.jobs.move(record.id, Guard(epoch=record.epoch, states=(JobState.ACCEPTED,)), change)
        point("step_done")


def _taken_out(context: Context, spec: JobSpec) -> str | None:
    """A backend that the job asks for and that was here before: it may come back."""
    known = context.store.backends.names() if spec.placement.backends else ()
    return next((n for n in spec.placement.backends if n in known and n not in context.adapters), None)


def _no_backend(context: Context, record: JobRecord, spec: JobSpec, decision: Decision) -> None:
    """Proven impossible: it ends.  Otherwise it waits, longer each time, and says for what."""
    why = why_waiting(decision)
    impossible = decision.outcome is Outcome.NOTHING_FITS
    away = _taken_out(context, spec) if impossible else None
    if away:
        why = Refusal(Reason.BACKEND_DOWN, not_configured(away))
    elif impossible:
        reason = Reason.REJECTED if record.excluded else Reason.NEVER_FITS
        message = record.message if record.excluded and record.message else decision.summary
        change = Change(
            set={"state": JobState.FAILED, "reason": reason, "message": message, "ended_by": "broker"},
            decision=(record.attempt + 1, pack(decision)),
            events=(("failed", {"reason": reason}),),
        )
        _look_again(context, record, context.store.jobs.end(record.id, _as_read(record), change))
        return
    delay_s = min(PATIENCE_MAX_S, PATIENCE_S * 2 ** min(record.patience, 6))
    due = (f"{SUBMIT}:{UNPLACED}", delay_s)
    reason = why.code if why else Reason.BACKEND_DOWN
    message = why.message if why else decision.summary
    news = record.reason is not reason
    change = Change(
        set={"reason": reason, "message": message, "patience": record.patience + 1},
        decision=(0, pack(decision)) if news else None,
        due=due,
        events=(("waiting", {"reason": reason, "message": message}),) if news else (),
    )
    _look_again(context, record, context.store.jobs.move(record.id, _as_read(record), change))


def _begin(
    context: Context, claim: Claim, spec: JobSpec, decision: Decision, after: tuple[After, ...] = ()
) -> Pending:
    """Attempt, marker and time are written before the backend is called."""
    record, backend = claim.record, decision.chosen or ""
    resolved = resolve_inputs(context, spec)
    attempt = AttemptRecord(
        number=record.attempt + 1,
        marker=context.marker(record.id, record.attempt + 1),
        backend=backend,
        state=AttemptState.SUBMITTING,
        submitted_at=round(context.store.now(), 3),
        inputs={item.name: item.uri or "" for item in resolved.inputs},
        task_indices=compact_indices(arrays.to_run(record, spec)) or None,
        after=after,
    )
    most = (backend, context.settings.caps_of(backend).max_live_jobs)
    guard = changed(_as_read(record), below=most, after=after)

    def go_on(written: Written) -> Pending | None:
        point("intent_written")
        if written is Written.FULL:
            _full(context, record, backend)
        if written is not Written.OK:
            _look_again(context, record, written)  # or it was cancelled, or another worker has it now
            return None
        begun = changed(record, state=JobState.SUBMITTING, backend=backend, attempt=attempt.number)
        spec = with_options(resolved, decision)
        order = Order(record=begun, attempt=attempt, spec=spec, send_by=claim.send_by)
        if record.created / 1000 < context.store.incarnation_began():
            return look_up(context, order)  # Redis may have lost that this very attempt was submitted before
        return send(context, order)

    return Pending(Write(record.id, guard, _intent(context, record, attempt, decision)), go_on)


def _intent(context: Context, record: JobRecord, attempt: AttemptRecord, decision: Decision) -> Change:
    fields: dict[str, Any] = {
        "state": JobState.SUBMITTING,
        "backend": attempt.backend,
        "attempt": attempt.number,
        **dict.fromkeys(("reason", "message", "reroutes", "patience", "next_queue", "natively")),
    }
    if record.cancel_tasks:
        fields["act"] = (TASKS,)  # a worker sees that all of them have ended, or tells the backend
    return Change(
        set=fields,
        attempt=attempt,
        decision=(attempt.number, pack(decision)),
        live=(attempt.backend, Live(attempt=attempt.number)),
        assigned=attempt.backend,
        due=(f"{ACT}:{attempt.backend}", context.settings.lease_s),
        keeps_claim=True,
        no_progress=True,
        events=(("submitting", {"backend": attempt.backend, "attempt": attempt.number}),),
    )


def _full(context: Context, record: JobRecord, backend: str) -> None:
    """Another worker was faster with the last place: decided anew, on figures that know of it."""
    change = Change(quiet=True, due=(f"{SUBMIT}:{backend}", PATIENCE_S))
    context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)
    point("step_done")


def resolve_inputs(context: Context, spec: JobSpec) -> JobSpec:
    """Inputs from other jobs become the URIs that those jobs' last attempts left: the lineage."""
    if not spec.inputs:
        return spec
    return replace(spec, inputs=tuple(_resolved(context, item) for item in spec.inputs))


def _resolved(context: Context, item: Input) -> Input:
    if item.from_output is None:
        return item
    parts = context.store.jobs.parts(item.from_output.job)
    attempts = parts.attempts if parts else ()
    for attempt in reversed(attempts):
        if item.from_output.output in attempt.outputs:
            return replace(item, uri=attempt.outputs[item.from_output.output])
    return item
