"""The table of an array's tasks: what goes in comes out, however odd."""

from __future__ import annotations

import zlib

import pytest

from adapters.base import TaskObservation
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle.tasks import TaskRow, apply, pack_table, unpack_table

WINDOWS_ACCESS_VIOLATION = 0xC0000005  # as some places show it: over 31 bits


def table(*rows):
    return {row.index: row for row in rows}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"exit_code": 0, "signal": None},
        {"exit_code": None, "signal": 9},
        {"exit_code": 255},
        {"exit_code": 70_000},
        {"exit_code": -70_000},
        {"exit_code": 2**31 - 1},
        {"exit_code": 2**31},
        {"exit_code": WINDOWS_ACCESS_VIOLATION},
        {"exit_code": -(2**31)},
        {"exit_code": 2**63},
        {"signal": 2**31},
        {"attempt": 300},
        {"reason": Reason.NODE_LOST, "state": JobState.FAILED, "started_at": 1e9, "ended_at": 1e9 + 5},
    ],
    ids=str,
)
def test_a_row_comes_out_as_it_went_in(fields):
    rows = table(TaskRow(index=1), TaskRow(index=7, **fields), TaskRow(index=9, exit_code=3))

    assert unpack_table(pack_table(rows)) == rows


def test_a_table_without_odd_rows_is_rows_of_24_bytes_alone():
    """The form of the first release, which is read for ever."""
    packed = pack_table(table(*(TaskRow(index=i, exit_code=0) for i in range(10))))

    reader = zlib.decompressobj()
    assert len(reader.decompress(packed)) == 240
    assert reader.unused_data == b""


def test_a_task_that_ends_with_an_odd_exit_code_has_it_in_the_table():
    ended = TaskObservation(
        state=AttemptState.ENDED,
        outcome=JobState.FAILED,
        reason=Reason.NON_ZERO_EXIT,
        exit_code=WINDOWS_ACCESS_VIOLATION,
    )
    seen = apply(table(TaskRow(index=0)), 1, {0: ended})

    row = unpack_table(pack_table(seen))[0]

    assert (row.state, row.exit_code) == (JobState.FAILED, WINDOWS_ACCESS_VIOLATION)
