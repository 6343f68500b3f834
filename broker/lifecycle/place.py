"""Place: the binding decision for one attempt, and the first write of that attempt."""

from __future__ import annotations

from dataclasses import replace

from api_spec.decisions import Decision, Outcome
from api_spec.jobs import Input, JobSpec
from api_spec.reasons import Reason
from api_spec.schemas import unpack_spec
from api_spec.states import AttemptState, JobState
from broker.lifecycle.context import SUBMIT, UNPLACED, Context
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import Snapshots
from broker.lifecycle.submit import Order, look_up, send
from broker.store.changes import Change, Guard, Live
from broker.store.jobs import Claim, Written
from broker.store.records import AttemptRecord, JobRecord
from policies.engine import decide, why_waiting, with_options
from policies.records import pack

REROUTES = 3  # then the job stays where it is if it can, so that it does not wander between two equals
PATIENCE_S = 1.0  # before a job that found no backend is decided again; doubles
PATIENCE_MAX_S = 30.0
QUARANTINE_AFTER = 12  # claims without any progress: the job itself breaks its workers


def place(context: Context, snapshots: Snapshots, backend: str, claim: Claim) -> None:
    record, spec = claim.record, unpack_spec(claim.spec)
    if record.tries > QUARANTINE_AFTER and record.reason is None:
        return _set_aside(context, record)
    number = record.attempt + 1
    facts = snapshots.facts(spec, record.owner, frozenset(record.groups), record.excluded)
    decision = decide(spec, facts, context.policy, binding=True, attempt=number)
    chosen = decision.chosen
    if chosen is None:
        return _no_backend(context, record, decision)
    if chosen != backend and record.reroutes >= REROUTES and _is_eligible(decision, backend):
        decision = replace(decision, chosen=backend, summary=f"{backend} keeps it: {decision.summary}")
    elif chosen != backend:
        return _reroute(context, record, chosen)
    snapshots.assigned(decision.chosen or backend)
    return _begin(context, claim, spec, decision)


def _is_eligible(decision: Decision, backend: str) -> bool:
    return any(verdict.backend == backend and verdict.eligible for verdict in decision.verdicts)


def _reroute(context: Context, record: JobRecord, chosen: str) -> None:
    change = Change(set={"reroutes": record.reroutes + 1}, due=(f"{SUBMIT}:{chosen}", 0))
    if context.store.jobs.move(record.id, Guard(epoch=record.epoch), change) is Written.OK:
        point("rerouted")
        context.hint(f"drain:{chosen}")


def _no_backend(context: Context, record: JobRecord, decision: Decision) -> None:
    """Proven impossible: it ends.  Otherwise it waits, longer each time, and says for what."""
    why = why_waiting(decision)
    if decision.outcome is Outcome.NOTHING_FITS:
        reason = Reason.REJECTED if record.excluded else Reason.NEVER_FITS
        message = record.message if record.excluded and record.message else decision.summary
        change = Change(
            set={"state": JobState.FAILED, "reason": reason, "message": message, "ended_by": "broker"},
            decision=(record.attempt + 1, pack(decision)),
            events=(("failed", {"reason": reason}),),
        )
        context.store.jobs.end(record.id, Guard(epoch=record.epoch), change)
        return
    delay_s = min(PATIENCE_MAX_S, PATIENCE_S * 2 ** min(record.tries, 6))
    due = (f"{SUBMIT}:{UNPLACED}", delay_s)
    reason = why.code if why else Reason.BACKEND_DOWN
    message = why.message if why else decision.summary
    if record.reason is reason and record.message == message:
        context.store.jobs.move(record.id, Guard(epoch=record.epoch), Change(quiet=True, due=due))
        return
    change = Change(
        set={"reason": reason, "message": message},
        decision=(0, pack(decision)),
        due=due,
        events=(("waiting", {"reason": reason, "message": message}),),
    )
    context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)


def _set_aside(context: Context, record: JobRecord) -> None:
    """A job that breaks every worker that touches it must not do so for ever; people have to look."""
    message = f"set aside after {record.tries} tries without any progress; the log of the workers says why"
    change = Change(
        set={"held": True, "reason": Reason.HELD, "message": message, "tries": 0},
        no_due=True,
        events=(("held", {"by": "broker", "message": message}),),
    )
    context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)


def _begin(context: Context, claim: Claim, spec: JobSpec, decision: Decision) -> None:
    """Attempt, marker and time are written before the backend is called."""
    record, backend = claim.record, decision.chosen
    assert backend is not None  # noqa: S101 - place() has returned otherwise
    number = record.attempt + 1
    resolved = resolve_inputs(context, spec)
    attempt = AttemptRecord(
        number=number,
        marker=context.marker(record.id, number),
        backend=backend,
        state=AttemptState.SUBMITTING,
        submitted_at=context.store.now(),
        inputs={item.name: item.uri or "" for item in resolved.inputs},
        task_indices=claim.attempt.task_indices if claim.attempt and number > 1 else None,
    )
    change = Change(
        set={
            "state": JobState.SUBMITTING,
            "backend": backend,
            "attempt": number,
            "reason": None,
            "message": None,
            "reroutes": None,
            "tries": 0,
        },
        attempt=attempt,
        decision=(number, pack(decision)),
        live=(backend, Live(attempt=number)),
        events=(("submitting", {"backend": backend, "attempt": number}),),
    )
    guard = Guard(epoch=record.epoch, states=(JobState.ACCEPTED,))
    if context.store.jobs.move(record.id, guard, change) is not Written.OK:
        return  # cancelled, or another worker has it now
    point("intent_written")
    context.store.backends.assigned(backend)
    begun = replace(record, state=JobState.SUBMITTING, backend=backend, attempt=number)
    order = Order(record=begun, attempt=attempt, spec=with_options(resolved, decision), send_by=claim.send_by)
    if record.created / 1000 < context.store.incarnation_began():
        look_up(context, order)  # Redis may have lost that this very attempt was submitted before
    else:
        send(context, order)


def resolve_inputs(context: Context, spec: JobSpec) -> JobSpec:
    """Inputs from other jobs become the URIs that those jobs' last attempts left: the lineage."""
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
