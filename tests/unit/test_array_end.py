"""How an array job is shown when its attempt is over, and the end of some tasks was seen by nobody."""

from __future__ import annotations

import pytest

from adapters.base import Observation, TaskObservation
from api_spec.jobs import Array, Kind, Retry
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle import tasks
from broker.lifecycle.progress import Seen, lost, progress
from broker.store.records import AttemptRecord, JobRecord
from tests.builders import spec

J = JobState
COMPLETED = TaskObservation(state=AttemptState.ENDED, outcome=J.COMPLETED, reason=Reason.COMPLETED)
RUNNING = TaskObservation(state=AttemptState.RUNNING)


def step(observed, table=None, retry=None, cancel=None, asked=None):
    """What an observation makes of an array of three that runs, after ``table`` has been seen."""
    wanted = spec(array=Array(indices="0-2"), retry=retry or Retry())
    known = tasks.table_of(wanted, None)
    record = JobRecord(
        id="j",
        version=1,
        epoch=1,
        kind=Kind.TRAINING,
        name="train",
        project="p",
        owner="ana",
        state=J.RUNNING,
        created=1,
        updated=1,
        attempt=1,
        cancel=cancel,
        cancel_tasks={"user:ana": asked} if asked else {},
    )
    attempt = AttemptRecord(
        number=1,
        marker="m",
        backend="b",
        state=AttemptState.RUNNING,
        submitted_at=1.0,
        task_indices="0-2",
    )
    return progress(
        Seen(
            record=record,
            attempt=attempt,
            spec=wanted,
            table=tasks.apply(known, 1, table or {}),
            observation=observed,
        )
    )


def ended(seen, outcome=J.COMPLETED):
    reason = Reason.COMPLETED if outcome is J.COMPLETED else Reason.CANCELLED
    return Observation(marker="m", state=AttemptState.ENDED, outcome=outcome, reason=reason, tasks=seen)


def states(step):
    return [(row.state, row.reason) for row in tasks.unpack_table(step.change.tasks).values()]


def test_a_task_whose_end_nobody_saw_has_not_completed():
    """The backend forgot it while nobody looked."""
    found = step(ended({1: COMPLETED, 2: COMPLETED}), table={0: RUNNING})

    assert (found.change.set["state"], found.change.set["reason"]) == (J.FAILED, Reason.LOST)
    assert states(found)[0] == (J.FAILED, Reason.LOST)
    assert found.change.set["tasks"] == {"COMPLETED": 2, "FAILED": 1}


def test_a_task_that_was_seen_to_end_before_the_backend_forgot_it_has_ended_so():
    found = step(ended({1: COMPLETED, 2: COMPLETED}), table={0: COMPLETED})

    assert found.change.set["state"] is J.COMPLETED


def test_a_task_whose_end_nobody_saw_is_run_again_where_that_is_asked_for():
    found = step(ended({1: COMPLETED, 2: COMPLETED}), retry=Retry(max_attempts=2, on=("Lost",)))

    assert (found.change.set["state"], found.change.set["next_tasks"]) == (J.ACCEPTED, "0")


def test_no_task_of_an_array_that_is_over_is_shown_as_running():
    assert states(step(lost("m"), table={0: COMPLETED, 1: RUNNING})) == [
        (J.COMPLETED, Reason.COMPLETED),
        (J.FAILED, Reason.LOST),
        (J.FAILED, Reason.LOST),
    ]
    assert states(step(lost("m"), cancel="ana"))[0] == (J.CANCELLED, Reason.CANCELLED)


# ---- tasks that somebody has cancelled ---------------------------------------------------------------

KILLED = TaskObservation(state=AttemptState.ENDED, outcome=J.FAILED, reason=Reason.SIGNALLED, signal=9)
BAD = TaskObservation(state=AttemptState.ENDED, outcome=J.FAILED, reason=Reason.NON_ZERO_EXIT, exit_code=3)
FORGOTTEN = TaskObservation(state=AttemptState.ENDED, outcome=J.FAILED, reason=Reason.LOST)
CUT = TaskObservation(state=AttemptState.ENDED, outcome=J.CANCELLED, reason=Reason.CANCELLED)
AGAIN = Retry(max_attempts=2, on=("NonZeroExit", "Lost"))


@pytest.mark.parametrize("end", [KILLED, FORGOTTEN, CUT], ids=["a signal", "forgotten", "cancelled"])
def test_a_task_that_was_to_be_cancelled_was_cancelled(end):
    """Slurm without a database calls what it has forgotten lost."""
    found = step(ended({0: end, 1: COMPLETED, 2: COMPLETED}, J.FAILED), asked="0")

    assert states(found)[0] == (J.CANCELLED, Reason.CANCELLED)
    assert (found.change.set["state"], found.change.set["reason"]) == (J.CANCELLED, Reason.CANCELLED)
    assert found.change.set["message"] == "1 of 3 tasks were cancelled"
    assert found.change.set["ended_by"] == "user:ana"


def test_a_task_that_failed_or_completed_before_its_cancel_came_did_so():
    found = step(ended({0: BAD, 1: COMPLETED, 2: COMPLETED}, J.FAILED), asked="0,1")

    assert states(found)[:2] == [(J.FAILED, Reason.NON_ZERO_EXIT), (J.COMPLETED, Reason.COMPLETED)]
    assert found.change.set["state"] is J.FAILED


def test_a_task_whose_end_nobody_saw_was_cancelled_if_somebody_had_asked_for_it():
    found = step(ended({1: COMPLETED, 2: COMPLETED}), asked="0")

    assert states(found)[0] == (J.CANCELLED, Reason.CANCELLED)


@pytest.mark.parametrize(
    "observed, asked, again",
    [
        ({0: CUT, 1: BAD, 2: COMPLETED}, "0", "1"),
        ({0: BAD, 1: BAD, 2: COMPLETED}, "0", "1"),
        ({0: CUT, 1: BAD, 2: COMPLETED}, None, None),
        ({0: BAD, 1: COMPLETED, 2: COMPLETED}, "0", None),
    ],
    ids=["another failed", "failed before its cancel", "by somebody at the backend", "nothing is left"],
)
def test_what_was_cancelled_is_not_run_again(observed, asked, again):
    outcome = J.CANCELLED if CUT in observed.values() else J.FAILED

    found = step(ended(observed, outcome), asked=asked, retry=AGAIN)

    assert found.change.set.get("next_tasks") == again
    assert found.ends is (again is None)


def test_who_cancelled_is_said_only_where_all_was_cancelled_through_the_broker():
    mixed = step(ended({0: CUT, 1: CUT, 2: COMPLETED}, J.CANCELLED), asked="0")

    assert mixed.change.set["ended_by"] == "backend:b"


def test_an_array_that_was_lost_with_a_cancelled_task_is_cancelled_by_the_same_rule():
    found = step(lost("m"), asked="0")

    assert [state for state, _ in states(found)] == [J.CANCELLED, J.FAILED, J.FAILED]
    assert found.change.set["state"] is J.CANCELLED
    assert found.change.set["message"] == "1 of 3 tasks were cancelled, 2 failed"
