"""From the rows of one marker to one observation: which copy counts, its state, how it ended.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.base import AttemptRef, Handle, Observation, TaskObservation
from adapters.slurm import words
from adapters.slurm.records import Job
from adapters.slurm.script import NOT_STARTED, SECOND_COPY
from adapters.slurm.words import Word
from api_spec.quantities import InvalidQuantity, expand_indices
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A = AttemptState

NO_OUTPUT_FILE = 53  # slurmd's "signal" when it cannot open the output files: nothing was started
NEVER = "DependencyNeverSatisfied"
DEPENDENCY = ("Dependency", NEVER)
NEARLY = 0.98  # of its memory: the sampling misses the last moment before the kernel kills


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
    told = _Told.of(row, word)
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


@dataclass(frozen=True, kw_only=True)
class _Told:
    outcome: JobState | None = None  # of an array; of one row its word says it
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, row: Job, word: Word | None) -> _Told:
        if word is None:
            return cls()
        if word.state is A.QUEUED:
            return cls(reason=word.reason or words.pending_reason(row.reason), message=_waits(row))
        if word.state is A.RUNNING:
            return cls(reason=word.reason)
        if word.outcome is JobState.COMPLETED:
            return cls(reason=word.reason, exit_code=0)
        if word.outcome is JobState.CANCELLED:
            return _cancelled(row)
        return _failed(row, word)


def _waits(row: Job) -> str | None:
    if row.message:
        return row.message
    if row.restarts and row.reason == "BeginTime":
        return "Slurm has requeued it and lets it wait a while before it starts again"
    return None


def _cancelled(row: Job) -> _Told:
    """By somebody, or by Slurm itself, because what it waited for can no longer happen."""
    if _was_given_up(row):
        message = "Slurm cancelled it: a dependency can never be met"
        return _Told(reason=Reason.DEPENDENCY_FAILED, message=message)
    who = f"cancelled at Slurm by {row.cancelled_by}" if row.cancelled_by else None
    return _Told(reason=Reason.CANCELLED, message=who)


def _was_given_up(row: Job) -> bool:
    """The database keeps of the reason as much as the job waited for, or nothing, but nobody's name: whom it
    names has cancelled a job that could still have started."""
    if row.accounted:
        return row.reason in (None, "None", *DEPENDENCY) and row.cancelled_by is None and not row.nodes
    return row.reason == NEVER and not row.nodes


def _failed(row: Job, word: Word) -> _Told:
    if word.reason is not None:  # the state says more than the code, which is 0 or the signal that ended it
        return _Told(reason=word.reason, message=_failure(row, word.reason), signal=row.signal or None)
    if row.signal == NO_OUTPUT_FILE:
        message = (
            "Slurm could not open its output files: does the directory exist, and may the user write to it?"
        )
        return _Told(reason=Reason.LAUNCH_FAILED, message=message)
    if row.exit_code == NOT_STARTED:
        message = "the node could not prepare it, so that it did not start; its stderr says why"
        return _Told(reason=Reason.LAUNCH_FAILED, message=message, exit_code=row.exit_code)
    if row.signal:
        return _signalled(row, row.signal)
    if row.exit_code:
        return _Told(reason=Reason.NON_ZERO_EXIT, exit_code=row.exit_code)
    if row.exit_code is None and row.accounted and row.reason not in words.ENDINGS:
        return _Told(reason=Reason.UNKNOWN, message="Slurm's accounts do not tell with what it failed")
    reason = words.ENDINGS.get(row.reason or "", Reason.LAUNCH_FAILED)
    return _Told(reason=reason, message=f"Slurm says {row.reason or 'nothing'} and no exit code")


def _signalled(row: Job, signal: int) -> _Told:
    """Without cgroups Slurm kills what takes too much memory and calls that FAILED by signal 9."""
    limit, peak = row.tres.get("mem"), row.peak_memory_mib
    if signal == 9 and limit and peak and peak >= NEARLY * limit:
        message = f"it was killed when it used {peak:.0f} MiB of its {limit:.0f} MiB"
        return _Told(reason=Reason.OUT_OF_MEMORY, message=message, signal=signal)
    return _Told(reason=Reason.SIGNALLED, signal=signal)


def _failure(row: Job, reason: Reason) -> str | None:
    if reason is Reason.NODE_LOST:
        return _lost_node(row)
    if reason is Reason.LOST:
        return "Slurm revoked it: another cluster of the federation has it"
    return None


def _lost_node(row: Job) -> str | None:
    """v0.0.38 does not say which of them."""
    node = row.failed_node or (row.nodes[0] if len(row.nodes) == 1 else None)
    if node is not None:
        return f"the node {node} failed"
    return f"one of the nodes {', '.join(row.nodes)} failed" if row.nodes else None


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
    told = _array_end(tasks) if state is A.ENDED else _Told()
    if state is A.ENDED:
        tasks = {**dict.fromkeys(expected, gone), **tasks}
    return Observation(
        marker=marker,
        state=state,
        outcome=told.outcome,
        reason=_Told.of(waiting, words.word(waiting.states)).reason if state is A.QUEUED else told.reason,
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
    told = _Told.of(row, word)
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


def _array_end(tasks: Mapping[int, TaskObservation]) -> _Told:
    """Cancelled where a task was, since then nobody waits for the rest; else the first failure."""
    failed = [index for index, task in tasks.items() if task.outcome is JobState.FAILED]
    cut = [index for index, task in tasks.items() if task.outcome is JobState.CANCELLED]
    if cut:
        also = f", {len(failed)} failed" if failed else ""
        message = f"{len(cut)} of {len(tasks)} tasks were cancelled{also}"
        return _Told(outcome=JobState.CANCELLED, reason=Reason.CANCELLED, message=message)
    if not failed:
        return _Told(outcome=JobState.COMPLETED, reason=Reason.COMPLETED, exit_code=0)
    first = tasks[failed[0]]
    return _Told(
        outcome=JobState.FAILED,
        reason=first.reason,
        message=f"{len(failed)} of {len(tasks)} tasks failed, first task {failed[0]}",
        exit_code=first.exit_code,
        signal=first.signal,
    )
