"""What pyslurm says of a job, as a record."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from adapters.slurm import observations, pyslurm_rows
from adapters.slurm.script import NOT_STARTED, SECOND_COPY
from api_spec.reasons import Reason

NOTHING = {"resident_memory": 0, "consumed_energy": 0}
RUNNING = {
    "id": 12, "name": "wb-a-1", "user_name": "ana", "state": "RUNNING",
    "submit_time": 1000, "start_time": 1010, "requeue_count": 1, "exit_code": 0, "exit_code_signal": 0,
    "cpus": 8, "memory": 512, "num_nodes": 2,
    "allocated_nodes": "n[1-2]", "time_limit": 60, "priority": 7,
}  # fmt: skip


class Says(SimpleNamespace):
    """An object of pyslurm's: what it does not know is None."""

    def __getattr__(self, name):
        return None


def job(**changes):
    return pyslurm_rows.job(Says(**{**RUNNING, **changes}))


def ended(state="FAILED", reason="NonZeroExitCode", **changes):
    return job(state=state, state_reason=reason, end_time=1020, **changes)


def accounted(stats=NOTHING, **changes):
    return pyslurm_rows.accounted(Says(**{**RUNNING, "nodelist": "n1", "stats": Says(**stats), **changes}))


def test_a_job_that_runs():
    found = job()

    assert (found.id, found.name, found.user, found.states) == (12, "wb-a-1", "ana", ("RUNNING",))
    assert (found.submitted_at, found.started_at, found.planned_at, found.ended_at) == (
        1000,
        1010,
        None,
        None,
    )
    assert (found.nodes, found.restarts, found.time_limit_min) == (("n1", "n2"), 1, 60)
    assert found.tres == {"cpu": 8, "mem": 512, "node": 2}


def test_the_start_of_a_job_that_waits_is_a_plan():
    found = job(state="PENDING", start_time=2000)

    assert (found.started_at, found.planned_at, found.tres) == (None, 2000, {})


# What pyslurm says of an end, and the exit code and signal that it was.
ENDS = [
    ({"exit_code": 3}, (3, None)),
    ({"exit_code_signal": 9}, (None, 9)),
    ({"exit_code": 0, "reason": "NonZeroExitCode"}, (128, None)),
    ({"exit_code": 0, "reason": "NodeFail"}, (0, None)),
    ({"exit_code": 103}, (SECOND_COPY, None)),
    ({"exit_code": 104}, (NOT_STARTED, None)),
    ({"exit_code": 0, "state": "COMPLETED", "reason": "None"}, (0, None)),
]


@pytest.mark.parametrize("said, was", ENDS)
def test_an_exit_code_is_read_as_pyslurm_writes_it(said, was):
    """It takes 128 from those that are as large: the guard's second copy would look like the job's end."""
    found = ended(**said)

    assert (found.exit_code, found.signal) == was


def test_of_two_copies_the_one_that_the_guard_ended_does_not_count():
    second, first = ended(id=13, exit_code=103), job(id=14)

    assert observations.reading([second, first]).rows == (first,)


def test_an_exit_code_is_told_only_at_an_end():
    """While it completes, pyslurm shows the flag alone and 15 as its code."""
    found = job(state="COMPLETING", exit_code_signal=15)

    assert (found.exit_code, found.signal, found.ended_at) == (None, None, None)


ARRAYS = [
    ({}, (None, None)),
    ({"array_id": 12, "array_task_id": 3}, (3, None)),
    ({"array_id": 12, "array_tasks_waiting": "4-9"}, (None, "4-9")),
    ({"array_id": 12}, (0, None)),
]


@pytest.mark.parametrize("said, was", ARRAYS, ids=["no array", "task 3", "waiting tasks", "task 0"])
def test_a_task_is_known_by_its_number(said, was):
    """pyslurm takes the 0 of task 0 for nothing."""
    found = job(**said)

    assert (found.task, found.waiting_tasks) == was


def test_the_database_has_a_mask_of_the_tasks_that_wait():
    assert accounted(array_id=12, array_tasks_waiting="0xB").waiting_tasks == "0,1,3"


def test_a_sentence_in_the_reasons_place_is_a_message():
    found = job(state="PENDING", state_reason="Nodes required for job are DOWN")

    assert (found.reason, found.message) == (None, "Nodes required for job are DOWN")
    assert job(state="PENDING", state_reason="Priority").reason == "Priority"


DEPENDENCIES = [
    (None, None),
    ({"afterok": [], "singleton": False, "satisfy": "all"}, None),
    (
        {"afterok": [7, "8_1"], "afterany": [9], "singleton": True, "satisfy": "all"},
        "afterok:7:8_1,afterany:9,singleton",
    ),
    ({"afterok": [7], "afternotok": [8], "satisfy": "any"}, "afterok:7?afternotok:8"),
]  # fmt: skip


@pytest.mark.parametrize("said, written", DEPENDENCIES)
def test_a_dependency_is_written_as_slurm_writes_it(said, written):
    assert job(dependencies=said).dependency == written


def test_what_a_job_has_used_is_in_the_database():
    found = accounted(
        state="FAILED", exit_code_signal=9, end_time=1020, elapsed_time=10, cancelled_by="root",
        stats={"resident_memory": 512 * 2**20, "consumed_energy": 40},
    )  # fmt: skip

    assert found.accounted
    assert (found.elapsed_s, found.peak_memory_mib, found.energy_j, found.cancelled_by) == (
        10,
        512,
        40,
        "root",
    )
    told = observations.observation("wb-a-1", observations.reading([found]), "hpc")
    assert told.reason is Reason.OUT_OF_MEMORY


def test_what_the_database_does_not_know_is_not_said():
    found = accounted(
        state="PENDING", start_time=None, nodelist="None assigned", time_limit="PartitionLimit",
    )  # fmt: skip

    assert (found.nodes, found.time_limit_min) == ((), None)
    assert (found.peak_memory_mib, found.energy_j) == (None, None)
