"""Natively: a dependant that waits in the queue of the backend that has its predecessors.

The broker's own judgement stays the last word: what the backend ends unrun, or cannot take, is judged by the
store, which fails the job, lets it go or holds it on (docs/decisions/0012).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.base import AttemptRef, Capability, Observation, Predecessor
from adapters.errors import CannotWait
from api_spec.decisions import Decision
from api_spec.jobs import JobSpec, When
from api_spec.packing import unpack_spec
from api_spec.reasons import Reason
from api_spec.states import AT_A_BACKEND, AttemptState, JobState
from broker.lifecycle.context import Context, ref_of
from broker.lifecycle.points import point
from broker.store.archive import Parts
from broker.store.changes import Change, Event, Guard
from broker.store.records import After, AttemptRecord, Edge, JobRecord
from policies.records import pack

WAITS_IN_VAIN = (Reason.DEPENDENCY_NOT_MET, Reason.NEVER_FITS)


def backends(context: Context) -> tuple[str, ...]:
    """Those that can wait for a predecessor themselves."""
    return tuple(
        name
        for name, adapter in context.adapters.items()
        if Capability.NATIVE_DEPENDENCY in adapter.capabilities
    )


def may_wait_there(spec: JobSpec) -> bool:
    """As far as the job itself goes: where an output is, is known only after it was made."""
    whole = spec.array is None and not spec.is_service
    return bool(spec.depends_on) and whole and not any(item.from_output for item in spec.inputs)


# ---- before it is sent ---------------------------------------------------------------------------------


def predecessors(context: Context, record: JobRecord, backend: str) -> tuple[After, ...] | str:
    """The attempts at this backend that are still to be waited for; or why that cannot be left to it."""
    found = []
    for job_id, when in record.deps:
        parts = context.store.jobs.parts(job_id)
        if parts is None:
            return f"job {job_id} is known no longer"
        if not _has_happened(parts.record, When(when)):
            if why := _why_not(parts, When(when), backend):
                return f"job {job_id} {why}"
            found.append((job_id, when, parts.record.attempt))
    return tuple(found) or "none of them has still to end"


def _has_happened(record: JobRecord, when: When) -> bool:
    """Or can no longer: the store, which is asked next, tells the two apart."""
    started = when is When.STARTED and record.started is not None
    return record.ended_for_good or started or (when is When.READY and record.ready)


def _why_not(parts: Parts, when: When, backend: str) -> str | None:
    record, spec = parts.record, unpack_spec(parts.spec)
    attempt = next((one for one in parts.attempts if one.number == record.attempt), None)
    if attempt is None or record.backend != backend or not _is_there(record):
        return f"is not at {backend}, or not for long"
    if when not in (When.SUCCEEDED, When.ENDED):
        return f"is to have {when}, which only the broker tells"
    if spec.array is not None or spec.is_service:
        return "is an array or a service, whose end only the broker tells"
    if spec.retry.max_attempts != 1 or attempt.again or (record.waits and when is When.ENDED):
        return "may have more than one attempt"
    return None


def with_predecessors(context: Context, ref: AttemptRef, attempt: AttemptRecord) -> AttemptRef:
    """Raises ``CannotWait`` if one of them is not, or no longer, where it was."""
    return replace(ref, after=tuple(_predecessor(context, edge) for edge in attempt.after))


def _is_there(record: JobRecord) -> bool:
    return record.state in AT_A_BACKEND and record.cancel is None


def _predecessor(context: Context, edge: After) -> Predecessor:
    job_id, when, number = edge
    parts = context.store.jobs.parts(job_id)
    attempts = parts.attempts if parts else ()
    attempt = next((one for one in attempts if one.number == number), None)
    if parts is None or attempt is None or parts.record.attempt != number or not _is_there(parts.record):
        raise CannotWait(f"job {job_id} has gone on meanwhile")
    return Predecessor(ref=ref_of(parts.record, attempt), when=When(when))


def hold_on(context: Context, record: JobRecord, decision: Decision, why: str) -> None:
    """The broker holds it until it may start, as it does with every other dependant."""
    message = f"the broker holds it: {why}"
    told = replace(decision, binding=False, attempt=None, summary=f"{decision.summary}; {message}")
    change = Change(
        set={"natively": None, "reason": Reason.DEPENDENCY_NOT_MET, "message": message},
        decision=(0, pack(told)),
        no_due=True,
        events=(("waiting", {"reason": Reason.DEPENDENCY_NOT_MET, "message": message}),),
    )
    guard = Guard(epoch=record.epoch, version=record.version, states=(JobState.ACCEPTED,))
    context.store.jobs.move(record.id, guard, change)
    point("held_on")


# ---- while it waits there, and after -------------------------------------------------------------------


def in_words(edges: Sequence[Edge | After]) -> str:
    return ", ".join(f"{edge[0]} to have {edge[1]}" for edge in edges)


def sentence(attempt: AttemptRecord) -> str:
    return f"waits for {in_words(attempt.after)}; {attempt.backend} itself holds it back until then"


def waits_for(record: JobRecord, attempts: Sequence[AttemptRecord]) -> str:
    """The edges; where a backend holds it, those that were still open when it took the job."""
    attempt = next((one for one in attempts if one.number == record.attempt and record.backend), None)
    natively = attempt is not None and attempt.after
    return sentence(attempt) if attempt and natively else f"waits for {in_words(record.deps)}"


def is_stranded(record: JobRecord, attempt: AttemptRecord) -> bool:
    """It is due at a backend that should have let it go, or given it up, by now."""
    waits = record.waits or record.reason in WAITS_IN_VAIN
    return bool(attempt.after) and record.state is JobState.QUEUED and waits


def came_to_nothing(attempt: AttemptRecord, seen: Observation) -> bool:
    """The backend gave it up because of its predecessors, or the broker has asked for it back."""
    unrun = seen.outcome is JobState.CANCELLED and bool(attempt.after)
    return unrun and (seen.reason is Reason.DEPENDENCY_FAILED or attempt.state is AttemptState.WITHDRAWING)


def taken_back(record: JobRecord, attempt: AttemptRecord, why: str) -> Change:
    """The attempt is over and counts as no try; the store judges what becomes of the job."""
    why = why[:400]
    ended = replace(
        attempt,
        state=AttemptState.ENDED,
        outcome=JobState.CANCELLED,
        reason=Reason.DEPENDENCY_NOT_MET,
        message=why,
    )
    told = {"backend": attempt.backend, "attempt": attempt.number, "message": why}
    change = judged_anew(ended, f"the broker holds it: {why}", ("withdrawn", told))
    return replace(change, set={**change.set, "withdrawn": record.withdrawn + 1})


def judged_anew(ended: AttemptRecord, message: str, event: Event) -> Change:
    """The attempt has ended unrun, and its predecessors have still their say: the store judges them."""
    return Change(
        set={
            "state": JobState.ACCEPTED,
            "backend": None,
            "reason": Reason.DEPENDENCY_NOT_MET,
            "message": message,
            "act": None,
            "before": None,
        },
        attempt=ended,
        not_live=ended.backend,
        no_due=True,
        judged=True,
        events=(event,),
    )


def hint(context: Context) -> None:
    """After ``taken_back`` was written: the job may be due, or have ended, which concerns its dependants."""
    context.hint("drain:-")
    context.hint("release")
