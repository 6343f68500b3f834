"""The table of an array job's tasks: 24 bytes each, in order of index, packed as one value.  Pure.

States and reasons stand there by their place in ``JobState`` and ``Reason``: new ones are added at the end.
Numbers that do not fit into a row stand behind the rows as JSON: index -> attempt, exit code, signal.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from adapters.base import TaskObservation
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

_ROW = struct.Struct("<IBBBxiiII")  # index, state, reason, attempt, exit code, signal, started, ended
_STATES = list(JobState)
_REASONS = [None, *Reason]
_NONE = -(2**31)  # no exit code, no signal
_LEAST, _MOST, _ATTEMPTS = -(2**31) + 1, 2**31 - 1, 255  # that fit into a row


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    index: int
    state: JobState = JobState.QUEUED
    attempt: int = 1
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None


Table = dict[int, TaskRow]


def table_of(spec: JobSpec, packed: bytes | None) -> Table | None:
    """None: not an array job.  Before anything was observed every task waits."""
    if spec.array is None:
        return None
    if packed is None:
        return {index: TaskRow(index=index) for index in spec.array.task_indices}
    return unpack_table(packed)


def pack_table(table: Table) -> bytes:
    rows = zlib.compress(b"".join(_pack(row) for _, row in sorted(table.items())), 1)
    odd = {i: (row.attempt, row.exit_code, row.signal) for i, row in table.items() if not _fits(row)}
    return rows + json.dumps(odd).encode() if odd else rows


def unpack_table(packed: bytes) -> Table:
    reader = zlib.decompressobj()
    rows = (_unpack(row) for row in _ROW.iter_unpack(reader.decompress(packed)))
    table = {row.index: row for row in rows}
    for index, (attempt, exit_code, signal) in json.loads(reader.unused_data or b"{}").items():
        odd = table[int(index)]
        table[odd.index] = replace(odd, attempt=attempt, exit_code=exit_code, signal=signal)
    return table


def counts(table: Table) -> dict[str, int]:
    return dict(Counter(str(row.state) for row in table.values()))


def apply(table: Table, attempt: int, seen: Mapping[int, TaskObservation]) -> Table:
    """What an observation of ``attempt`` says; a task that has ended in it stays as it ended."""
    out = dict(table)
    for index, task in seen.items():
        row = out.get(index, TaskRow(index=index))
        if row.state in _ENDED and row.attempt >= attempt:
            continue
        out[index] = _as_seen(row, attempt, task)
    return out


def _as_seen(row: TaskRow, attempt: int, task: TaskObservation) -> TaskRow:
    return replace(
        row,
        attempt=attempt,
        state=_state(task),
        reason=task.reason,
        exit_code=task.exit_code,
        signal=task.signal,
        started_at=task.started_at,
        ended_at=task.ended_at,
    )


def closed(table: Table, outcome: JobState, reason: Reason) -> Table:
    """With it an attempt is over: what was not seen to end did so in a way that nobody knows."""
    ends = {i: row for i, row in table.items() if row.state not in _ENDED}
    return {**table, **{i: replace(row, state=outcome, reason=reason) for i, row in ends.items()}}


def open_rows(table: Table, running: Collection[int], attempt: int) -> set[int]:
    """What has not ended, or is run again by this attempt, which runs ``running``."""
    again = set(running)
    return {
        i for i, row in table.items() if row.state not in _ENDED or (i in again and row.attempt < attempt)
    }


def given_up(table: Table, indices: Iterable[int], at: float | None = None) -> Table:
    """They were cancelled; ``at`` None: nobody knows when they ended."""
    ends = {i: table[i] for i in indices if i in table}
    end = TaskObservation(
        state=AttemptState.ENDED, outcome=JobState.CANCELLED, reason=Reason.CANCELLED, ended_at=at
    )
    return {**table, **{i: _as_seen(row, row.attempt, end) for i, row in ends.items()}}


def failed_for(table: Table, reasons: Iterable[Reason]) -> list[int]:
    """The tasks that another attempt has to run."""
    wanted = set(reasons)
    return [i for i, row in sorted(table.items()) if row.state is JobState.FAILED and row.reason in wanted]


def not_completed(table: Table) -> list[int]:
    return [i for i, row in sorted(table.items()) if row.state is not JobState.COMPLETED]


_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


def _state(task: TaskObservation) -> JobState:
    if task.state is AttemptState.ENDED:
        return task.outcome or JobState.FAILED
    return JobState.RUNNING if task.state is AttemptState.RUNNING else JobState.QUEUED


def _fits(row: TaskRow) -> bool:
    numbers = [number for number in (row.exit_code, row.signal) if number is not None]
    return row.attempt <= _ATTEMPTS and all(_LEAST <= number <= _MOST for number in numbers)


def _number(number: int | None) -> int:
    return number if number is not None and _LEAST <= number <= _MOST else _NONE


def _pack(row: TaskRow) -> bytes:
    return _ROW.pack(
        row.index,
        _STATES.index(row.state),
        _REASONS.index(row.reason),
        min(row.attempt, _ATTEMPTS),
        _number(row.exit_code),
        _number(row.signal),
        int(row.started_at or 0),
        int(row.ended_at or 0),
    )


def _unpack(raw: tuple[int, ...]) -> TaskRow:
    index, state, reason, attempt, exit_code, signal, started, ended = raw
    return TaskRow(
        index=index,
        state=_STATES[state],
        reason=_REASONS[reason],
        attempt=attempt,
        exit_code=None if exit_code == _NONE else exit_code,
        signal=None if signal == _NONE else signal,
        started_at=float(started) if started else None,
        ended_at=float(ended) if ended else None,
    )
