"""What Slurm's rows say of one attempt: the copy that counts, its state, its end, its tasks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.slurm import observations
from adapters.slurm.script import SECOND_COPY
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.slurm_rows import MARKER, row

A = AttemptState


def seen(*rows, expected=()):
    return observations.observation(MARKER, observations.reading(rows), "hpc", expected)


# ---- one job -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state, fields, outcome, reason, exit_code, signal",
    [
        ("COMPLETED", {"exit_code": 0}, "COMPLETED", Reason.COMPLETED, 0, None),
        ("FAILED", {"exit_code": 3}, "FAILED", Reason.NON_ZERO_EXIT, 3, None),
        ("FAILED", {"signal": 11}, "FAILED", Reason.SIGNALLED, None, 11),
        ("FAILED", {"signal": 11, "reason": "JobLaunchFailure"}, "FAILED", Reason.SIGNALLED, None, 11),
        ("FAILED", {"signal": 53}, "FAILED", Reason.LAUNCH_FAILED, None, None),
        ("FAILED", {"exit_code": 232}, "FAILED", Reason.LAUNCH_FAILED, 232, None),
        ("FAILED", {"reason": "JobLaunchFailure"}, "FAILED", Reason.LAUNCH_FAILED, None, None),
        ("FAILED", {"reason": "NodeDown"}, "FAILED", Reason.NODE_LOST, None, None),
        ("TIMEOUT", {"exit_code": 0}, "FAILED", Reason.TIME_LIMIT, None, None),
        ("TIMEOUT", {"signal": 15}, "FAILED", Reason.TIME_LIMIT, None, 15),
        ("DEADLINE", {}, "FAILED", Reason.TIME_LIMIT, None, None),
        ("NODE_FAIL", {"failed_node": "n3"}, "FAILED", Reason.NODE_LOST, None, None),
        ("PREEMPTED", {}, "FAILED", Reason.PREEMPTED, None, None),
        ("OUT_OF_MEMORY", {"signal": 125}, "FAILED", Reason.OUT_OF_MEMORY, None, None),
        ("CANCELLED", {"signal": 15}, "CANCELLED", Reason.CANCELLED, None, None),
        (
            "CANCELLED",
            {"reason": "DependencyNeverSatisfied"},
            "CANCELLED",
            Reason.DEPENDENCY_FAILED,
            None,
            None,
        ),
    ],
)
def test_an_end_says_how(state, fields, outcome, reason, exit_code, signal):
    """The state decides: a job that ran into its limit has the code of whatever it did last."""
    found = seen(row(state, started_at=5.0 if "Dep" not in str(fields) else None, ended_at=9.0, **fields))

    assert found.state is A.ENDED
    assert (found.outcome, found.reason) == (JobState(outcome), reason)
    assert (found.exit_code, found.signal) == (exit_code, signal)
    assert found.ended_at == 9.0


@pytest.mark.parametrize(
    "peak_mib, reason", [(4000.0, Reason.OUT_OF_MEMORY), (100.0, Reason.SIGNALLED), (None, Reason.SIGNALLED)]
)
def test_a_kill_at_the_limit_of_memory_is_out_of_memory(peak_mib, reason):
    """Without cgroups Slurm says FAILED by signal 9 and no more."""
    killed = row("FAILED", signal=9, started_at=1.0, tres={"mem": 4000.0}, peak_memory_mib=peak_mib)

    assert seen(killed).reason is reason


def test_what_a_cgroup_has_killed_says_how_much_it_had():
    killed = row("OUT_OF_MEMORY", signal=125, started_at=1.0, tres={"mem": 100.0}, nodes=("n1",))

    assert seen(killed).message.endswith("more memory than its 100 MiB")
    assert seen(replace(killed, nodes=("n1", "n2"))).message.endswith("more memory than it had asked for")


def test_who_cancelled_it_at_slurm_is_told():
    assert seen(row("CANCELLED", cancelled_by="root")).message == "cancelled at Slurm by root"


GAVE_UP = (Reason.DEPENDENCY_FAILED, "Slurm cancelled it: a dependency can never be met")
BY_ANA = (Reason.CANCELLED, "cancelled at Slurm by ana")


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"reason": "DependencyNeverSatisfied"}, GAVE_UP),
        ({"reason": "Dependency"}, (Reason.CANCELLED, None)),
        ({"reason": "Dependency", "cancelled_by": "ana"}, BY_ANA),
        ({"reason": "Dependency", "accounted": True}, GAVE_UP),
        ({"accounted": True}, GAVE_UP),
        ({"reason": "Dependency", "accounted": True, "cancelled_by": "ana"}, BY_ANA),
        ({"accounted": True, "cancelled_by": "ana"}, BY_ANA),
        ({"accounted": True, "nodes": ("n1",)}, (Reason.CANCELLED, None)),
    ],
    ids=str,
)
def test_a_cancel_by_somebody_is_told_from_one_by_slurm_itself(fields, expected):
    """What somebody cancels while it waits for another job keeps "Dependency" as its reason for ever."""
    found = seen(row("CANCELLED", submitted_at=5.0, ended_at=9.0, **fields))

    assert (found.reason, found.message) == expected


def test_what_was_cancelled_in_the_queue_never_started():
    """Of a dependency that could not be met at its submission Slurm says that it started when it ended."""
    reason = "DependencyNeverSatisfied"

    found = seen(row("CANCELLED", reason=reason, submitted_at=5.0, started_at=5.0, ended_at=5.0))

    assert (found.reason, found.started_at) == (Reason.DEPENDENCY_FAILED, None)


@pytest.mark.parametrize(
    "told, message",
    [
        ({"failed_node": "n3", "nodes": ("n1", "n3")}, "the node n3 failed"),
        ({"nodes": ("n1",)}, "the node n1 failed"),
        ({"nodes": ("n1", "n3")}, "one of the nodes n1, n3 failed"),
        ({}, None),
    ],
)
def test_a_node_that_failed_is_named_also_where_slurm_does_not_say_which(told, message):
    assert seen(row("NODE_FAIL", **told)).message == message


def test_what_waits_has_a_reason_and_no_start():
    """Slurm shows the planned start, or that of the run before a requeue, where the start would be."""
    found = seen(row("PENDING", reason="Resources", started_at=99.0, restarts=1))

    assert (found.state, found.reason, found.restarts) == (A.QUEUED, Reason.CAPACITY, 1)
    assert (found.started_at, found.nodes) == (None, ())


def test_what_runs_says_where_and_since_when():
    found = seen(row("RUNNING", started_at=5.0, nodes=("n1", "n2")))

    assert (found.state, found.started_at, found.nodes) == (A.RUNNING, 5.0, ("n1", "n2"))
    assert found.handle == {"cluster": "hpc", "id": 7, "user": "ana"}


def test_what_is_planned_or_how_far_ahead_others_are_does_not_change_what_is_seen():
    """It changes with every pass of the scheduler; each change would be written for every waiting job."""
    waiting = row("PENDING", reason="Priority", priority=10, planned_at=100.0)

    assert seen(waiting) == seen(replace(waiting, priority=11, planned_at=200.0))


def test_an_unknown_word_is_kept_and_moves_nothing():
    found = seen(row("DREAMING"))

    assert (found.state, found.outcome, found.native_state) == (None, None, "DREAMING")


def test_nothing_under_a_name_is_no_reading():
    assert observations.reading([]) is None


# ---- copies and earlier runs -------------------------------------------------------------------------


def test_a_second_copy_that_the_guard_has_ended_does_not_count():
    first = row("COMPLETED", id=8, submitted_at=2.0, started_at=5.0, exit_code=0)
    second = row("FAILED", id=7, submitted_at=1.0, started_at=6.0, exit_code=SECOND_COPY)

    assert seen(first, second).handle["id"] == 8


def test_of_copies_that_wait_the_oldest_counts_and_the_others_are_to_be_cancelled():
    first, second = row("PENDING", id=9, submitted_at=1.0), row("PENDING", id=4, submitted_at=2.0)

    found = observations.reading([second, first])

    assert [one.id for one in found.rows] == [9]
    assert [one.id for one in found.copies] == [4]


def test_a_copy_that_runs_counts_before_an_older_one_that_waits():
    """It has claimed the attempt; the other one would end itself."""
    waits, runs = (
        row("PENDING", id=4, submitted_at=1.0),
        row("RUNNING", id=9, submitted_at=2.0, started_at=3.0),
    )

    assert observations.reading([waits, runs]).rows[0].id == 9


def test_a_copy_that_has_ended_is_not_to_be_cancelled():
    ended, runs = (
        row("CANCELLED", id=4, submitted_at=2.0),
        row("RUNNING", id=9, submitted_at=1.0, started_at=3.0),
    )

    assert observations.reading([ended, runs]).copies == ()


def test_the_run_before_a_requeue_is_not_a_job_of_its_own():
    """The database keeps each run of a requeued job as a row with its id."""
    before = row("NODE_FAIL", submitted_at=1.0, started_at=2.0, accounted=True)
    after = row("COMPLETED", submitted_at=3.0, started_at=4.0, exit_code=0, accounted=True)

    assert seen(before, after).outcome is JobState.COMPLETED
    assert seen(after, before).outcome is JobState.COMPLETED


def test_what_the_controller_says_counts_before_what_the_database_says():
    recorded = row("NODE_FAIL", submitted_at=1.0, started_at=2.0, accounted=True)

    assert seen(recorded, row("PENDING", submitted_at=1.0, restarts=1)).state is A.QUEUED


# ---- arrays ------------------------------------------------------------------------------------------


def task(index, *states, **fields):
    return row(*states, array_id=7, task=index, **{"id": 100 + index, **fields})


def waiting(text, **fields):
    return row("PENDING", array_id=7, waiting_tasks=text, **fields)


def test_tasks_that_wait_stand_in_one_row():
    found = seen(waiting("2-4%1"), task(0, "COMPLETED", exit_code=0), task(1, "RUNNING", started_at=3.0))

    assert {index: one.state for index, one in found.tasks.items()} == {
        0: A.ENDED, 1: A.RUNNING, 2: A.QUEUED, 3: A.QUEUED, 4: A.QUEUED
    }  # fmt: skip
    assert found.state is A.RUNNING


def test_a_list_of_waiting_tasks_that_was_cut_leaves_the_rest_waiting():
    """Slurm cuts it at 64 characters."""
    found = seen(waiting("1,3,5,..."), task(1, "RUNNING"), expected=(1, 3, 5, 8))

    assert {index: one.state for index, one in found.tasks.items()} == {
        1: A.RUNNING, 3: A.QUEUED, 5: A.QUEUED, 8: A.QUEUED
    }  # fmt: skip


def test_an_array_of_which_nothing_has_started_waits():
    found = seen(waiting("0-3", reason="Priority"))

    assert (found.state, found.reason) == (A.QUEUED, Reason.PRIORITY)


def test_between_two_tasks_an_array_still_runs():
    """It never goes back to waiting, which only a requeue may do."""
    assert seen(waiting("1-3"), task(0, "COMPLETED", exit_code=0)).state is A.RUNNING


@pytest.mark.parametrize(
    "ends, outcome, reason, message",
    [
        (["COMPLETED", "COMPLETED"], JobState.COMPLETED, Reason.COMPLETED, None),
        (["COMPLETED", "TIMEOUT"], JobState.FAILED, Reason.TIME_LIMIT, "1 of 2 tasks failed, first task 1"),
        (["CANCELLED", "COMPLETED"], JobState.CANCELLED, Reason.CANCELLED, "1 of 2 tasks were cancelled"),
        (
            ["TIMEOUT", "CANCELLED"],
            JobState.CANCELLED,
            Reason.CANCELLED,
            "1 of 2 tasks were cancelled, 1 failed",
        ),
    ],
    ids=["completed", "failed", "cancelled", "failed-and-cancelled"],
)
def test_an_array_ends_as_its_tasks_did(ends, outcome, reason, message):
    found = seen(
        *(task(index, end, started_at=1.0 + index, ended_at=5.0 + index) for index, end in enumerate(ends))
    )

    assert (found.state, found.outcome, found.reason, found.message) == (A.ENDED, outcome, reason, message)
    assert (found.started_at, found.ended_at) == (1.0, 6.0)


def test_an_array_that_was_cancelled_while_it_waited_ends_in_all_its_tasks():
    """The row of those that wait ends as a whole, with its list."""
    found = seen(row("CANCELLED", array_id=7, waiting_tasks="0-2"))

    assert {one.outcome for one in found.tasks.values()} == {JobState.CANCELLED}
    assert set(found.tasks) == {0, 1, 2}


def test_the_handle_of_an_array_is_its_own_id_and_not_that_of_a_task():
    assert seen(task(3, "RUNNING")).handle["id"] == 7


@pytest.mark.parametrize(
    "accounted, outcome, reason",
    [(True, JobState.CANCELLED, Reason.CANCELLED), (False, JobState.FAILED, Reason.LOST)],
)
def test_of_a_task_without_a_row_the_end_of_its_array_tells(accounted, outcome, reason):
    """Slurm keeps nothing of a task that was cancelled while it waited.  How the array ended say those that
    are known: the broker may have seen this one end."""
    found = observations.reading([task(0, "COMPLETED"), task(1, "COMPLETED")])

    told = observations.observation(MARKER, found, "hpc", [0, 1, 2], accounted=accounted)

    assert (told.outcome, told.tasks[2].outcome, told.tasks[2].reason) == (
        JobState.COMPLETED,
        outcome,
        reason,
    )


def test_a_task_without_a_row_says_nothing_while_its_array_goes_on():
    found = observations.reading([task(0, "COMPLETED"), task(1, "RUNNING")])

    assert set(observations.observation(MARKER, found, "hpc", [0, 1, 2], accounted=True).tasks) == {0, 1}


def test_tasks_that_wait_in_a_list_that_was_cut_keep_an_array_from_its_end():
    """Slurm cuts the list, and a comment with many single indices does not hold them either."""
    ended = row("COMPLETED", id=8, array_id=7, task=1, started_at=1.0, exit_code=0)
    waiting = row("PENDING", id=7, array_id=7, waiting_tasks="3,5,9,...")

    assert seen(ended, waiting).state is A.RUNNING
