"""What jobs have taken of a cluster within a time, by account and user."""

from __future__ import annotations

import pytest

from adapters.slurm.usage import by_account
from tests.slurm_rows import row

TRES = {"cpu": 8.0, "mem": 1000.0, "gres/gpu": 2.0}


def run(started_at, ended_at, **fields):
    members = {"account": "vision", "user": "ana", "tres": TRES, "accounted": True, **fields}
    return row("COMPLETED", started_at=started_at, ended_at=ended_at, **members)


@pytest.mark.parametrize(
    "started_at, ended_at, seconds",
    [
        (100, 150, 50),
        (50, 150, 50),
        (150, 250, 50),
        (50, 250, 100),
        (150, None, 50),
        (None, None, 0),
        (0, 100, 0),
    ],
    ids=["within", "began before", "ended after", "all of it", "still runs", "never started", "before"],
)
def test_a_run_counts_for_the_part_that_lies_within_the_time(started_at, ended_at, seconds):
    used = by_account([run(started_at, ended_at)], since=100, until=200)

    assert [(one.cpu_s, one.gpu_s, one.memory_mib_s) for one in used] == (
        [(8.0 * seconds, 2.0 * seconds, 1000.0 * seconds)] if seconds else []
    )


def test_each_user_of_each_account_has_a_sum():
    runs = [run(0, 10), run(0, 20, energy_j=5.0), run(0, 10, user="ben"), run(0, 10, account="speech")]

    used = by_account(runs, since=0, until=100)

    assert [(one.account, one.user, one.runs, one.cpu_s, one.energy_j) for one in used] == [
        ("speech", "ana", 1, 80.0, 0.0),
        ("vision", "ana", 2, 240.0, 5.0),
        ("vision", "ben", 1, 80.0, 0.0),
    ]


def test_what_the_controller_shows_is_not_counted_beside_its_record():
    assert by_account([run(0, 10, accounted=False)], since=0, until=100) == []
