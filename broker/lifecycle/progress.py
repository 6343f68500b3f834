"""What an observation changes about a job.  Pure: the two state machines, requeues, retries and endings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from adapters.base import Observation
from api_spec.jobs import JobSpec
from api_spec.quantities import compact_indices
from api_spec.reasons import Reason
from api_spec.states import ATTEMPT_MOVES, AttemptState, JobState, may_move
from broker.lifecycle import arrays, native, serving, tasks
from broker.lifecycle.context import SUBMIT, UNPLACED
from broker.store.changes import Change, Event, Live
from broker.store.records import AttemptRecord, JobRecord

RETRY_AFTER_S = 1.0  # before the next attempt; doubles with each
RETRY_MAX_S = 300.0
MET: Event = ("dependencies_met", {})


@dataclass(frozen=True)
class Step:
    """A change to write; ``ends``: the job is over with it."""

    change: Change
    ends: bool = False


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One job as stored, and what its backend says of its attempt."""

    record: JobRecord
    attempt: AttemptRecord
    spec: JobSpec
    table: tasks.Table | None
    observation: Observation
    mark: str = ""  # the fingerprint of what the backend said, before an explanation was added


def fingerprint(observation: Observation) -> str:
    """Two observations with the same one say the same, but for their age."""
    return hashlib.blake2b(repr(observation).encode(), digest_size=6).hexdigest()


def progress(seen: Seen) -> Step | None:
    """None: nothing to write.  An unknown native word moves nothing, but is kept to be seen."""
    observation = seen.observation
    if observation.state is None:
        return _native_words_only(seen)
    if _is_a_step_back(seen):
        if observation.service is None:
            return _native_words_only(seen)
        return _moved(replace(seen, observation=serving.between_replicas(observation)))
    if observation.state is AttemptState.ENDED:
        return _ended(seen)
    return _moved(seen)


def _is_a_step_back(seen: Seen) -> bool:
    """RUNNING -> QUEUED is a requeue only if the backend counts one; otherwise the answer was a stale one."""
    back = seen.record.state is JobState.RUNNING and seen.observation.state is AttemptState.QUEUED
    return back and seen.observation.restarts <= seen.attempt.restarts


def _native_words_only(seen: Seen) -> Step | None:
    """``BACKEND_DOWN`` with it: this attempt cannot be seen, though the backend answers."""
    observation = seen.observation
    attempt = replace(
        seen.attempt, native_state=observation.native_state, native_reason=observation.native_reason
    )
    fields: dict[str, Any] = {}
    if observation.state is None and observation.reason is Reason.BACKEND_DOWN:
        fields = {"reason": observation.reason, "message": observation.message}
    if attempt == seen.attempt and all(getattr(seen.record, name) == one for name, one in fields.items()):
        return None
    return Step(Change(set=fields, attempt=attempt, live=_live(seen)))


# ---- under way ---------------------------------------------------------------------------------------


def _moved(seen: Seen) -> Step:
    record, observation = seen.record, seen.observation
    target = JobState.RUNNING if observation.state is AttemptState.RUNNING else JobState.QUEUED
    fields: dict[str, Any] = {}
    events: list[Event] = []
    wake = False
    if record.state is not target and may_move(record.state, target):
        fields["state"] = target
        events.append(_move_event(seen, target))
        if target is JobState.RUNNING and record.started is None:
            fields["started"] = _ms(observation.started_at) or record.updated
            wake = True
        if target is JobState.RUNNING and record.waits:  # its backend saw first that it may
            fields["waits"] = None
            events.append(MET)
    waiting = observation.reason if target is JobState.QUEUED or record.cancel else None
    fields |= {"reason": waiting, "message": _message(seen) if waiting else None}
    if observation.service is not None:
        shown, changed = serving.shown(record, observation.service)
        fields |= shown
        if changed is not None:
            wake = wake or observation.service.ready > 0
            events.append(changed)
    table, fields = _tasks(seen, fields)
    return Step(
        Change(
            set=fields,
            attempt=_attempt(seen),
            tasks=table,
            live=_live(seen),
            events=tuple(events),
            wake=wake,
        )
    )


def _message(seen: Seen) -> str | None:
    """Why it waits.  A predecessor has a name of ours, and at the backend one that no user has seen."""
    natively = seen.record.waits and seen.attempt.after
    if natively and seen.observation.reason is Reason.DEPENDENCY_NOT_MET:
        return native.sentence(seen.attempt)
    return seen.observation.message


def _move_event(seen: Seen, target: JobState) -> Event:
    observation = seen.observation
    if seen.record.state is JobState.RUNNING:
        return ("requeued", {"restarts": observation.restarts, "reason": observation.reason})
    data: dict[str, Any] = {"backend": seen.attempt.backend, "attempt": seen.attempt.number}
    if observation.nodes:
        data["nodes"] = list(observation.nodes[:16])
    return (target.lower(), data)


def _tasks(seen: Seen, fields: Mapping[str, Any]) -> tuple[bytes | None, dict[str, Any]]:
    if seen.table is None or not seen.observation.tasks:
        return None, dict(fields)
    unwanted = seen.record.unwanted
    table = arrays.applied(seen.table, seen.attempt.number, seen.observation.tasks, unwanted)
    return tasks.pack_table(table), {**fields, "tasks": tasks.counts(table)}


def _attempt(seen: Seen) -> AttemptRecord:
    observation, attempt = seen.observation, seen.attempt
    state = observation.state or attempt.state
    if state is not attempt.state and state not in ATTEMPT_MOVES[attempt.state]:
        state = attempt.state  # WITHDRAWING stays what it is until it has ended
    return replace(
        attempt,
        state=state,
        handle=observation.handle or attempt.handle,
        native_state=observation.native_state,
        native_reason=observation.native_reason,
        restarts=max(observation.restarts, attempt.restarts),
        exit_code=observation.exit_code,
        signal=observation.signal,
        started_at=observation.started_at or attempt.started_at,
        nodes=observation.nodes,
    )


def _live(seen: Seen) -> tuple[str, Live]:
    handle = seen.observation.handle or seen.attempt.handle
    live = Live(attempt=seen.attempt.number, handle=handle, fingerprint=seen.mark)
    return seen.attempt.backend, live


# ---- over --------------------------------------------------------------------------------------------


def _ended(seen: Seen) -> Step:
    record, observation = seen.record, seen.observation
    if native.came_to_nothing(seen.attempt, observation) and not record.cancel:
        return Step(native.taken_back(record, _unrun(seen), observation.message or UNRUN))
    outcome, reason = _outcome(record, observation)
    attempt = replace(
        _attempt(seen),
        state=AttemptState.ENDED,
        outcome=outcome,
        reason=reason,
        message=observation.message,
        ended_at=observation.ended_at,
        outputs=observation.outputs,
    )
    table = None if seen.table is None else _array_over(seen, attempt, seen.table)
    again = None if table is None else _tasks_to_run_again(seen, table)
    if _is_retried(seen, attempt, again):
        return _retry(seen, attempt, table, again)
    if table is not None:
        if outcome is not JobState.COMPLETED:
            table = arrays.closed(table, outcome, reason)
        attempt = arrays.as_the_whole(attempt, table)
    return Step(_end_change(seen, attempt, table), ends=True)


UNRUN = "its backend has ended it unrun"


def _unrun(seen: Seen) -> AttemptRecord:
    return replace(_attempt(seen), ended_at=seen.observation.ended_at)


def _array_over(seen: Seen, attempt: AttemptRecord, table: tasks.Table) -> tasks.Table:
    """Nothing of the attempt runs any more, and what nobody saw end will not be seen to."""
    observed, unwanted = seen.observation.tasks, seen.record.unwanted
    table = arrays.applied(table, attempt.number, observed, unwanted)
    table = arrays.over(table, attempt, unwanted)
    return arrays.closed(table, attempt.outcome or JobState.FAILED, Reason.LOST) if observed else table


def _outcome(record: JobRecord, observation: Observation) -> tuple[JobState, Reason]:
    """What was cancelled and then died of a signal was cancelled; what completed first has completed."""
    outcome = observation.outcome or JobState.FAILED
    reason = observation.reason or _DEFAULT_REASON[outcome]
    if record.cancel and reason in (Reason.SIGNALLED, Reason.LOST, Reason.DEPENDENCY_FAILED):
        return JobState.CANCELLED, Reason.CANCELLED
    return outcome, reason


_DEFAULT_REASON = {
    JobState.COMPLETED: Reason.COMPLETED,
    JobState.FAILED: Reason.NON_ZERO_EXIT,
    JobState.CANCELLED: Reason.CANCELLED,
}


def _is_retried(seen: Seen, attempt: AttemptRecord, again: list[int] | None) -> bool:
    """``again``: of an array, the tasks that another attempt would run."""
    retry = seen.spec.retry
    tries = seen.attempt.number - seen.record.withdrawn
    if seen.record.cancel or tries >= retry.max_attempts or again == []:
        return False
    if again and seen.observation.tasks:
        return True
    return attempt.outcome is JobState.FAILED and attempt.reason in retry.on


def _met_before(seen: Seen) -> tuple[Event, ...]:
    """It has run at a backend that waited for its predecessors, whose ends the broker has still to see."""
    return (MET,) if seen.record.waits and seen.observation.started_at is not None else ()


def _tasks_to_run_again(seen: Seen, table: tasks.Table) -> list[int]:
    reasons = [Reason(name) for name in seen.spec.retry.on]
    lost = not seen.observation.tasks
    return arrays.to_run_again(table, reasons, seen.record.unwanted, lost)


def _retry(seen: Seen, attempt: AttemptRecord, table: tasks.Table | None, again: list[int] | None) -> Step:
    """The attempt is over, the job is not: another attempt follows after a while."""
    if table is not None and again:
        attempt = arrays.as_the_first_failure(attempt, table, again)
    retried = ("retried", {"attempt": attempt.number, "reason": attempt.reason})
    told = f"attempt {attempt.number} ended: {attempt.reason}; another follows"
    if seen.record.waits and attempt.started_at is None:
        return Step(native.judged_anew(attempt, f"{told} when its predecessors have gone on", retried))
    delay_s = min(RETRY_MAX_S, RETRY_AFTER_S * 2 ** (attempt.number - 1))
    fields: dict[str, Any] = {
        "state": JobState.ACCEPTED,
        "backend": None,
        "reason": attempt.reason,
        "message": f"{told} in {delay_s:g} s",
        "ready": None,
        "service": None,
        "act": None,
        "before": None,
        "waits": None,  # it has run, whatever was seen first
    }
    if table is not None:
        fields |= {"next_tasks": compact_indices(again or ()), "tasks": tasks.counts(table)}
    return Step(
        Change(
            set=fields,
            attempt=attempt,
            tasks=tasks.pack_table(table) if table is not None else None,
            not_live=attempt.backend,
            due=(f"{SUBMIT}:{UNPLACED}", delay_s),
            events=(*_met_before(seen), retried),
        )
    )


def _end_change(seen: Seen, attempt: AttemptRecord, table: tasks.Table | None) -> Change:
    record, observation = seen.record, seen.observation
    outcome = attempt.outcome or JobState.FAILED
    asked = record.cancel or (arrays.who_cancelled(table, record.unwanted) if table else None)
    by = asked if outcome is JobState.CANCELLED and asked else f"backend:{attempt.backend}"
    fields: dict[str, Any] = {
        "state": outcome,
        "reason": attempt.reason,
        "message": attempt.message[:500] if attempt.message else None,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "ended_by": by,
        "ready": None,
    }
    if record.started is None and observation.started_at is not None:
        fields["started"] = _ms(observation.started_at)
    if observation.service is not None:
        fields["service"] = asdict(observation.service)
    if table is not None:
        fields["tasks"] = tasks.counts(table)
    data = {"reason": attempt.reason, "exit_code": attempt.exit_code, "signal": attempt.signal}
    return Change(
        set=fields,
        attempt=attempt,
        tasks=tasks.pack_table(table) if table is not None else None,
        events=(*_met_before(seen), (outcome.lower(), {n: v for n, v in data.items() if v is not None})),
    )


def lost(marker: str) -> Observation:
    """The observation that stands for a proven absence: nobody knows how the attempt ended."""
    return Observation(
        marker=marker,
        state=AttemptState.ENDED,
        outcome=JobState.FAILED,
        reason=Reason.LOST,
        message="the backend no longer knows it, and nobody knows how it ended",
    )


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
