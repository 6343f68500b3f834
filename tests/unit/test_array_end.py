"""How an array job is shown when its attempt is over, and the end of some tasks was seen by nobody."""

from __future__ import annotations

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


def step(observed, table=None, retry=None, cancel=None):
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
    )
    attempt = AttemptRecord(number=1, marker="m", backend="b", state=AttemptState.RUNNING, submitted_at=1.0)
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
