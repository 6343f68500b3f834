"""Why an attempt waits, best reason first, with the cluster's own sentences."""

from __future__ import annotations

from adapters.kubernetes import explain
from api_spec.reasons import Reason
from tests.unit.kubernetes_objects import bundle, condition, deployment, event, job, pod, waiting

QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: small'


def why(root, *pods, events=(), kind="batch"):
    return [(one.code, one.message) for one in explain.reasons(bundle(root, *pods), events, kind)]


def test_a_held_job_is_held_whatever_else_is_so():
    assert why(job(suspend=True), events=[event("FailedCreate", QUOTA)]) == [(Reason.HELD, "the job is held")]


def test_what_keeps_pods_from_being_made_comes_first():
    """The Job has no condition for it."""
    assert why(job(), events=[event("FailedCreate", QUOTA)])[0] == (Reason.QUOTA_EXCEEDED, QUOTA)


def test_of_some_pods_that_were_made_the_rest_is_explained_too():
    placed = pod("Pending", waiting("ContainerCreating"))

    told = why(job(count=2), placed, events=[event("FailedCreate", QUOTA)])

    assert told == [(Reason.QUOTA_EXCEEDED, QUOTA), (Reason.STARTING, "ContainerCreating")]


def test_a_text_that_nobody_knows_is_shown_as_it_is():
    assert why(job(), events=[event("FailedCreate", "the moon is full")])[-1] == (
        Reason.UNKNOWN,
        "the moon is full",
    )


def test_the_same_reason_of_many_pods_is_told_once():
    full = condition("PodScheduled", "Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.", "False")
    pods = [pod("Pending", None, full, index=index) for index in range(3)]

    assert len(why(job(count=3), *pods)) == 1


def test_of_a_service_the_replica_is_explained():
    told = why(deployment(), pod("Pending", waiting("ErrImagePull", "not found")), kind="inference")

    assert told == [(Reason.IMAGE_PULL, "not found")]


def test_odd_events_hide_no_others():
    odd = [{}, {"reason": 7}, {"reason": "FailedCreate", "message": None, "lastTimestamp": None}]

    assert why(job(), events=[*odd, event("FailedCreate", QUOTA)])[0] == (Reason.QUOTA_EXCEEDED, QUOTA)
