"""From the rows of one marker to one observation: which copy counts, its state, how it ended.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.base import AttemptRef, Handle, Observation, TaskObservation
from adapters.slurm import words
from adapters.slurm.records import Job
from adapters.slurm.script import SECOND_COPY
from adapters.slurm.told import Told
from adapters.slurm.words import Word
from api_spec.quantities import InvalidQuantity, expand_indices
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A = AttemptState


@dataclass(frozen=True, kw_only=True)
class Reading:
    """All that is known under one name.  ``copies``: what is live beside the one that counts."""

    rows: tuple[Job, ...]
    copies: tuple[Job, ...] = ()

    @property
    def single(self) -> Job | None:
        """The row of what is no array."""
        return self.rows[0] if len(self.rows) == 1 and self.rows[0].array_id is None else None


def reading(rows: Iterable[Job]) -> Reading | None:
    """The job that counts: not one that the guard has ended, then one that has started, then the oldest."""
    rows = tuple(rows)
    if len(rows) == 1:  # as nearly always
        return Reading(rows=rows)
    groups: dict[int, list[Job]] = defaultdict(list)
    for row in latest(rows):
        groups[row.group].append(row)
    if not groups:
        return None
    ordered = sorted(groups.values(), key=_precedence)
    others = [row for group in ordered[1:] for row in group if not is_over(row)]
    return Reading(rows=tuple(ordered[0]), copies=tuple(others))


def _precedence(group: Sequence[Job]) -> tuple[bool, bool, float, int]:
    second = all(map(is_second_copy, group))
    # One that was requeued waits without a start, and as if it were submitted when it was requeued.
    started = any(row.started_at is not None or row.restarts for row in group)
    return second, not started, min(row.submitted_at or 0.0 for row in group), group[0].group


def latest(rows: Iterable[Job]) -> list[Job]:
    """One row for each job and task: the controller's before the database's, the latest run of a requeued
    one before the earlier, which the database keeps as rows of their own."""
    newest: dict[tuple[str, int, int | None], Job] = {}  # ids are reused
    for row in sorted(
        rows, key=lambda one: (not one.accounted, one.submitted_at or 0.0, one.started_at or 0.0)
    ):
        newest[(row.name, row.group, row.task)] = row
    return list(newest.values())


def is_second_copy(row: Job) -> bool:
    """The guard has ended it, or it chose that exit code itself."""
    return is_over(row) and row.exit_code == SECOND_COPY


def is_over(row: Job) -> bool:
    word = words.word(row.states)
    return word is not None and word.state is A.ENDED


def waits(row: Job) -> bool:
    word = words.word(row.states)
    return word is not None and word.state is A.QUEUED


def handle_of(cluster: str | None, row: Job) -> Handle:
    return {"cluster": cluster, "id": row.group, "user": row.user}


def is_array(rows: Sequence[Job]) -> bool:
    return any(row.task is not None or row.waiting_tasks is not None for row in rows)


def elsewhere(ref: AttemptRef, cluster: str | None) -> Observation | None:
    """Of what was handed to another cluster than the one that answers now: nothing moves it."""
    told = (ref.handle or {}).get("cluster")
    if told is None or cluster is None or told == cluster:
        return None
    return Observation(
        marker=ref.marker,
        state=None,
        native_state="ELSEWHERE",
        native_reason=f"it is at the cluster {told}, and {cluster} answers",
        handle=ref.handle,
    )


# ---- one job -----------------------------------------------------------------------------------------


def observation(
    marker: str,
    found: Reading,
    cluster: str | None,
    expected: Sequence[int] = (),
    *,
    accounted: bool = False,
) -> Observation:
    """``expected``: the indices of an array, where they are known.  ``accounted``: by the database the rows
    are all that there ever were."""
    if is_array(found.rows) or expected:
        gone = CANCELLED_IN_THE_QUEUE if accounted else FORGOTTEN
        return _of_array(marker, found.rows, cluster, expected, gone)
    row = found.rows[0]
    word = words.word(row.states)
    told = Told.of(row, word)
    return Observation(
        marker=marker,
        state=word.state if word else None,
        outcome=word.outcome if word else None,
        reason=told.reason,
        message=told.message,
        native_state="+".join(row.states),
        native_reason=row.reason,
        restarts=row.restarts,
        exit_code=told.exit_code,
        signal=told.signal,
        started_at=_started_at(row, word),
        ended_at=row.ended_at if word and word.state is A.ENDED else None,
        nodes=row.nodes if _started_at(row, word) is not None else (),
        handle=handle_of(cluster, row),
    )


def _started_at(row: Job, word: Word | None) -> float | None:
    """What was cancelled in the queue has the time of its end as that of its start, and no nodes."""
    never = word is not None and word.outcome is JobState.CANCELLED and row.started_at == row.ended_at
    if word is None or word.state is A.QUEUED or (never and not row.nodes):
        return None
    return row.started_at


# ---- an array ----------------------------------------------------------------------------------------


# Tasks of an array that is over and of which there is no row.  Slurm keeps none of one that was cancelled
# before it started; without a database also none of one that ended a while ago.
CANCELLED_IN_THE_QUEUE = TaskObservation(state=A.ENDED, outcome=JobState.CANCELLED, reason=Reason.CANCELLED)
FORGOTTEN = TaskObservation(state=A.ENDED, outcome=JobState.FAILED, reason=Reason.LOST)


def _of_array(
    marker: str, rows: Sequence[Job], cluster: str | None, expected: Sequence[int], gone: TaskObservation
) -> Observation:
    tasks = tasks_of(rows, expected)
    state = None if any(words.word(row.states) is None for row in rows) else _array_state(tasks, rows)
    started = [task.started_at for task in tasks.values() if task.started_at is not None]
    ended = [task.ended_at for task in tasks.values() if task.ended_at is not None]
    waiting = next((row for row in rows if words.word(row.states) == words.BASES["PENDING"]), rows[0])
    told = _array_end(tasks) if state is A.ENDED else Told()
    if state is A.ENDED:
        tasks = {**dict.fromkeys(expected, gone), **tasks}
    return Observation(
        marker=marker,
        state=state,
        outcome=told.outcome,
        reason=Told.of(waiting, words.word(waiting.states)).reason if state is A.QUEUED else told.reason,
        message=told.message,
        native_state="+".join(sorted({state for row in rows for state in row.states})),
        native_reason=waiting.reason,
        restarts=max(row.restarts for row in rows),
        exit_code=told.exit_code,
        signal=told.signal,
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if state is A.ENDED else None,
        nodes=tuple(sorted({node for row in rows if row.started_at is not None for node in row.nodes})),
        handle=handle_of(cluster, rows[0]),
        tasks=tasks,
    )


def tasks_of(rows: Sequence[Job], expected: Sequence[int]) -> Mapping[int, TaskObservation]:
    """Those that wait stand together in one row, whose list Slurm may have cut."""
    found: dict[int, TaskObservation] = {}
    waiting = [row for row in rows if row.task is None]
    for row in waiting:
        one = _task(row)
        found.update(dict.fromkeys(waiting_indices(row.waiting_tasks, expected), one))
    found.update((row.task, _task(row)) for row in rows if row.task is not None)
    return dict(sorted(found.items()))


def waiting_indices(text: str | None, expected: Sequence[int]) -> Sequence[int]:
    """ "1,3-9%2", with a throttle; one that was cut ("1,3,5,...") leaves all that are expected."""
    plain = (text or "").partition("%")[0]
    if not plain or "..." in plain:
        return expected
    try:
        return expand_indices(plain)
    except InvalidQuantity:
        return expected


def _task(row: Job) -> TaskObservation:
    word = words.word(row.states)
    told = Told.of(row, word)
    return TaskObservation(
        state=word.state if word else A.QUEUED,
        outcome=word.outcome if word else None,
        reason=told.reason,
        exit_code=told.exit_code,
        signal=told.signal,
        started_at=_started_at(row, word),
        ended_at=row.ended_at if word and word.state is A.ENDED else None,
    )


def _array_state(tasks: Mapping[int, TaskObservation], rows: Sequence[Job]) -> AttemptState:
    """Which tasks a row that waits stands for may not be known; it keeps the array from its end."""
    states = {task.state for task in tasks.values()}
    if states == {A.ENDED}:
        return A.ENDED if all(map(is_over, rows)) else A.RUNNING
    return A.QUEUED if states <= {A.QUEUED} else A.RUNNING


def _array_end(tasks: Mapping[int, TaskObservation]) -> Told:
    """Cancelled where a task was, since then nobody waits for the rest; else the first failure."""
    failed = [index for index, task in tasks.items() if task.outcome is JobState.FAILED]
    cut = [index for index, task in tasks.items() if task.outcome is JobState.CANCELLED]
    if cut:
        also = f", {len(failed)} failed" if failed else ""
        message = f"{len(cut)} of {len(tasks)} tasks were cancelled{also}"
        return Told(outcome=JobState.CANCELLED, reason=Reason.CANCELLED, message=message)
    if not failed:
        return Told(outcome=JobState.COMPLETED, reason=Reason.COMPLETED, exit_code=0)
    first = tasks[failed[0]]
    return Told(
        outcome=JobState.FAILED,
        reason=first.reason,
        message=f"{len(failed)} of {len(tasks)} tasks failed, first task {failed[0]}",
        exit_code=first.exit_code,
        signal=first.signal,
    )
