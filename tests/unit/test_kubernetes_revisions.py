"""What is told of a service on Kubernetes while one revision takes the place of another."""

from __future__ import annotations

from adapters.kubernetes import names, serving
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.records import pod

MARKER = "wb-test-01jabcdefghjkmnpqrstvwxyz0-1"
NO_ROOM = "0/1 nodes are available: 1 Insufficient cpu."
READY = {"type": "Ready", "status": "True"}
UNPLACED = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_ROOM}


def of_revision(number, *conditions, phase="Running", **metadata):
    labels = {names.MARKER: MARKER, names.REVISION: str(number)}
    status = {"phase": phase, "conditions": list(conditions)}
    return pod({"metadata": {"name": f"pod-{number}", "labels": labels, **metadata}, "status": status})


def seen(*pods, wanted=1, revision=2):
    root = {
        "kind": "Deployment",
        "metadata": {
            "name": MARKER,
            "namespace": "jobs",
            "labels": {names.MARKER: MARKER},
            "annotations": {names.REVISION: str(revision)},
        },
        "spec": {"replicas": wanted},
    }
    found = serving.of_service(Bundle(root=root, pods=pods), (), "cluster.local").service
    assert found is not None
    return found


def test_an_update_that_gets_no_further_says_why():
    """Updated and ready are both what is wanted: one waits for room, and an old one still serves."""
    found = seen(of_revision(1, READY), of_revision(2, UNPLACED, phase="Pending"))

    assert (found.wanted, found.updated, found.ready) == (1, 1, 1)
    assert found.message == NO_ROOM


def test_a_service_that_is_as_it_is_wanted_says_nothing():
    assert seen(of_revision(2, READY)).message is None


def test_an_old_replica_that_has_been_told_to_go_is_nothing_to_wait_for():
    leaving = of_revision(1, READY, deletionTimestamp="2026-01-01T00:00:00Z")

    found = seen(leaving, of_revision(2, READY))

    assert (found.updated, found.ready, found.message) == (1, 1, None)
