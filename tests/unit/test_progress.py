"""What an observation changes about a service, whose backend may say less of it than it did."""

from __future__ import annotations

import pytest

from adapters.base import Observation, ServiceObservation
from api_spec.jobs import Kind, Replicas, Service
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle.progress import Seen, progress
from broker.store.records import AttemptRecord, JobRecord
from tests.builders import spec

A = AttemptState
WANTED = spec(kind=Kind.INFERENCE, service=Service(port=80, replicas=Replicas(min=1, max=1)), command=())
BEFORE = {"endpoint": "http://a", "wanted": 1, "updated": 1, "ready": 1, "revision": 1, "message": None}


def numbers(ready, message=None):
    return ServiceObservation(
        endpoint="http://a", wanted=1, updated=1, ready=ready, revision=2, message=message
    )


def step(state, restarts=0, service=None):
    """Of a service that runs, with one replica that is ready."""
    record = JobRecord(
        id="j",
        version=1,
        epoch=1,
        kind=Kind.INFERENCE,
        name="serve",
        project="p",
        owner="ana",
        state=JobState.RUNNING,
        created=1,
        updated=1,
        attempt=1,
        ready=True,
        service=BEFORE,
    )
    attempt = AttemptRecord(number=1, marker="m", backend="b", state=A.RUNNING, submitted_at=1.0)
    observation = Observation(
        marker="m",
        state=state,
        restarts=restarts,
        reason=Reason.IMAGE_PULL if state is A.QUEUED else None,
        message="no such image" if state is A.QUEUED else None,
        service=service,
    )
    return progress(Seen(record=record, attempt=attempt, spec=WANTED, table=None, observation=observation))


def test_a_service_that_lost_its_last_replica_says_so_and_runs_on():
    """Its numbers were those from before, until one was ready again."""
    change = step(A.QUEUED, service=numbers(0, "no such image")).change

    assert "state" not in change.set
    assert (change.set["ready"], change.set["reason"]) == (None, None)
    assert change.set["service"] == {**BEFORE, "ready": 0, "revision": 2, "message": "no such image"}
    assert [name for name, _ in change.events] == ["not_ready"]


@pytest.mark.parametrize("service", [None, numbers(0)])
def test_one_that_its_backend_has_queued_again_is_queued(service):
    change = step(A.QUEUED, restarts=1, service=service).change

    assert (change.set["state"], change.set["reason"]) == (JobState.QUEUED, Reason.IMAGE_PULL)


def test_an_answer_that_is_late_moves_nothing():
    change = step(A.QUEUED).change

    assert (change.set, change.events) == ({}, ())
