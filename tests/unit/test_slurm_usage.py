"""What jobs have taken of a cluster within a time, by account and user."""

from __future__ import annotations

import pytest

from adapters.slurm.usage import by_account, of_attempts
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


# ---- of one attempt ----------------------------------------------------------------------------------------


def test_an_attempt_has_what_its_run_was_given_and_used():
    found = of_attempts({"a": [run(100, 160, elapsed_s=50.0, peak_memory_mib=700.5, energy_j=9.0)]})["a"]

    assert (found.elapsed_s, found.cpu_s, found.gpu_s, found.memory_mib_s) == (60.0, 400.0, 100.0, 50_000.0)
    assert (found.peak_memory_mib, found.energy_j, found.peak_cpus) == (700.5, 9.0, None)


def test_an_array_is_the_sum_of_its_tasks_and_the_highest_of_their_peaks():
    tasks = [run(0, 10, peak_memory_mib=5.0, energy_j=1.0), run(5, 30, peak_memory_mib=7.0, energy_j=2.0)]

    found = of_attempts({"a": tasks})["a"]

    assert (found.elapsed_s, found.cpu_s, found.peak_memory_mib, found.energy_j) == (30.0, 280.0, 7.0, 3.0)


def test_what_nobody_measured_is_not_zero():
    found = of_attempts({"a": [run(0, 10, energy_j=0.0)]})["a"]

    assert (found.peak_memory_mib, found.energy_j) == (None, None)


def test_one_that_never_started_has_taken_nothing():
    found = of_attempts({"a": [run(None, 10)]})["a"]

    assert (found.elapsed_s, found.cpu_s) == (0.0, 0.0)


@pytest.mark.parametrize(
    "rows",
    [[], [run(0, None)], [run(0, 10), run(0, None)], [run(0, 10, accounted=False)]],
    ids=["no record", "no end yet", "a task has no end yet", "only the controller's"],
)
def test_what_is_not_in_the_accounts_yet_is_left_out(rows):
    assert of_attempts({"a": rows}) == {}
