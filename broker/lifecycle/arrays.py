"""How an array job ends, and what of it runs again.  Pure.

One rule, whoever cancelled: an array of which a task was cancelled is CANCELLED in the end, because nobody
waits for the whole of it any more; else it is as its first failure, else COMPLETED.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from adapters.base import TaskObservation
from api_spec.jobs import JobSpec
from api_spec.quantities import expand_indices
from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.lifecycle import tasks
from broker.lifecycle.tasks import Table, TaskRow
from broker.store.records import AttemptRecord, JobRecord

Seen = Mapping[int, TaskObservation]

_SAYS_LITTLE = (Reason.SIGNALLED, Reason.LOST)


def running(attempt: AttemptRecord) -> tuple[int, ...]:
    return expand_indices(attempt.task_indices) if attempt.task_indices else ()


def to_run(record: JobRecord, spec: JobSpec) -> list[int]:
    """What the next attempt runs: what it has to, but what somebody has cancelled meanwhile."""
    if spec.array is None:
        return []
    left = expand_indices(record.next_tasks) if record.next_tasks else spec.array.task_indices
    unwanted = record.unwanted
    return [index for index in left if index not in unwanted]


def applied(table: Table, attempt: int, seen: Seen, unwanted: Collection[int]) -> Table:
    """What was to be cancelled, and then died of a signal or was seen by nobody, was cancelled."""
    told = {
        index: replace(task, outcome=JobState.CANCELLED, reason=Reason.CANCELLED)
        if index in unwanted and task.outcome is JobState.FAILED and task.reason in _SAYS_LITTLE
        else task
        for index, task in seen.items()
    }
    return tasks.apply(table, attempt, told)


def over(table: Table, attempt: AttemptRecord, unwanted: Collection[int]) -> Table:
    """The attempt has ended: nothing of what somebody had cancelled will be run any more."""
    left = tasks.open_rows(table, running(attempt), attempt.number)
    return tasks.given_up(table, left.intersection(unwanted))


def closed(table: Table, outcome: JobState, reason: Reason) -> Table:
    """A backend may have forgotten a task before anybody saw how it ended."""
    if outcome is JobState.CANCELLED:
        return tasks.closed(table, JobState.CANCELLED, Reason.CANCELLED)
    return tasks.closed(table, JobState.FAILED, reason)


def to_run_again(table: Table, reasons: Iterable[Reason], unwanted: Collection[int], lost: bool) -> list[int]:
    """``lost``: the attempt as a whole; then all that have not completed.  Otherwise those that failed."""
    if lost:
        return [index for index in tasks.not_completed(table) if index not in unwanted]
    if any(row.state is JobState.CANCELLED and i not in unwanted for i, row in table.items()):
        return []  # somebody has cancelled at the backend, perhaps all that was left
    return [index for index in tasks.failed_for(table, reasons) if index not in unwanted]


def as_the_first_failure(attempt: AttemptRecord, table: Table, failed: list[int]) -> AttemptRecord:
    """An attempt that is followed by another one has failed, whatever else was cancelled in it."""
    if attempt.outcome is JobState.FAILED:
        return attempt
    return _ending_as(attempt, table[failed[0]], f"task {failed[0]} failed")


def as_the_whole(attempt: AttemptRecord, table: Table) -> AttemptRecord:
    """By the rule: the last attempt ran some tasks only, and those that ended in an earlier one count too."""
    cut = [row for row in table.values() if row.state is JobState.CANCELLED]
    failed = [row for _, row in sorted(table.items()) if row.state is JobState.FAILED]
    if cut and attempt.outcome is not JobState.CANCELLED:
        also = f", {len(failed)} failed" if failed else ""
        message = f"{len(cut)} of {len(table)} tasks were cancelled{also}"
        cancelled = TaskRow(index=-1, state=JobState.CANCELLED, reason=Reason.CANCELLED)
        return _ending_as(attempt, cancelled, message)
    if failed and attempt.outcome is JobState.COMPLETED:
        return _ending_as(attempt, failed[0], f"task {failed[0].index} failed")
    return attempt


def _ending_as(attempt: AttemptRecord, row: TaskRow, message: str) -> AttemptRecord:
    return replace(
        attempt,
        outcome=row.state,
        reason=row.reason,
        message=message,
        exit_code=row.exit_code,
        signal=row.signal,
    )


def who_cancelled(table: Table, unwanted: Mapping[int, str]) -> str | None:
    """Who asked the broker for it; None when nobody did, of some task that was cancelled."""
    cut = [index for index, row in sorted(table.items()) if row.state is JobState.CANCELLED]
    asked = [unwanted.get(index) for index in cut]
    return None if None in asked or not asked else asked[0]
