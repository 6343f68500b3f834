"""Which tasks of an array Slurm is told to end, in which order, and of which it has nothing left."""

from __future__ import annotations

from adapters.base import BackendConfig, Capability
from adapters.slurm import single_tasks
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.transport import NotKnown
from tests.slurm_rows import row


class Told:
    """A transport that knows tasks by their number, and keeps what it was told."""

    def __init__(self, *unknown):
        self.unknown, self.told = unknown, []

    def cancel(self, job, user):
        self.told.append(job)
        if job in self.unknown:
            raise NotKnown(f"there is no job {job}", 2017)


def waiting(text):
    return row("PENDING", id=7, array_id=7, waiting_tasks=text)


def task(index, *states):
    return row(*states, id=100 + index, array_id=7, task=index)


def test_those_that_wait_are_cancelled_before_those_that_run():
    """Else one that waits starts in the place of one that was just ended."""
    slurm = Told()

    gone = single_tasks.cancel(slurm, [waiting("3-5"), task(1, "RUNNING"), task(2, "RUNNING")], (1, 4, 5))

    assert slurm.told == ["7_4", "7_5", "7_1"]
    assert not gone


def test_what_has_ended_or_is_being_ended_is_left_alone():
    slurm = Told()
    rows = [waiting("5"), task(1, "COMPLETED"), task(2, "COMPLETING"), task(3, "CANCELLED", "COMPLETING")]

    assert not single_tasks.cancel(slurm, rows, (1, 2, 3))
    assert slurm.told == []


def test_a_task_without_a_row_is_gone():
    slurm = Told()

    assert single_tasks.cancel(slurm, [waiting("5-9%2")], (4, 6)) == {4}
    assert slurm.told == ["7_6"]


def test_behind_the_end_of_a_list_that_was_cut_slurm_is_asked_by_number():
    slurm = Told("7_40")

    assert single_tasks.cancel(slurm, [waiting("0-2,7-9,...")], (40, 41)) == {40}
    assert slurm.told == ["7_40", "7_41"]


def test_a_call_does_a_part_of_many():
    slurm = Told()

    single_tasks.cancel(slurm, [waiting("0-999")], range(1000))

    assert len(slurm.told) == single_tasks.AT_ONCE


def test_over_pyslurm_single_tasks_cannot_be_cancelled_and_nobody_is_told_otherwise():
    options = {"directory": "/nowhere", "users": {"service": "ana"}, "transport": "pyslurm"}
    config = BackendConfig(name="hpc", type="slurm", instance="x", data_dir="", options=options)

    assert Capability.CANCEL_TASKS not in SlurmAdapter(config).capabilities
    assert Capability.CANCEL_TASKS in SlurmAdapter.capabilities
