"""What a Deployment and its pods say of a service."""

from __future__ import annotations

import pytest

from adapters.kubernetes import names, serving, words
from adapters.kubernetes.belongings import READERS
from api_spec.reasons import PENDING, Reason
from api_spec.states import AttemptState, JobState
from tests.unit.kubernetes_objects import (
    MARKER,
    RUNNING,
    bundle,
    condition,
    deployment,
    metadata_of,
    pod,
    terminated,
    waiting,
)

A = AttemptState
READY = condition("Ready")
CANCELLED = {names.CANCELLED: "2026-01-01T00:00:15+00:00"}


def seen(root, *pods, port=8000, scaler=()):
    belongings = [belonging("Service", {"ports": [{"port": port}] if port else []})]
    belongings += [belonging("HorizontalPodAutoscaler", {}, *scaler)] if scaler else []
    return serving.of_service(bundle(root, *pods), belongings, "cluster.local")


def belonging(kind, spec, *conditions):
    """As it is read."""
    (read,) = [read for resource, read in READERS.items() if resource.kind == kind]
    return read({"metadata": metadata_of({}), "spec": spec, "status": {"conditions": list(conditions)}})


def replica(index=0, *conditions, revision="1", **changes):
    given = conditions or (READY,)
    return pod("Running", RUNNING, *given, index=index, labels={names.REVISION: revision}, **changes)


def test_a_service_runs_when_a_replica_is_ready():
    found = seen(deployment(replicas=2), replica(0), replica(1, condition("Ready", status="False")))

    assert (found.state, found.service.wanted, found.service.ready) == (A.RUNNING, 2, 1)
    assert found.service.endpoint == f"http://{MARKER}.jobs.svc.cluster.local:8000"
    assert found.service.message == "a replica runs and does not answer its health check yet"


def test_a_service_whose_port_nobody_has_yet_has_no_endpoint():
    assert seen(deployment(), replica(), port=None).service.endpoint is None


def test_a_service_whose_replicas_are_all_ready_has_nothing_to_explain():
    assert seen(deployment(), replica()).service.message is None


WORKS = condition("ScalingActive", "ValidMetricFound"), condition("AbleToScale", "ReadyForNewScale")
NO_METRICS = condition("ScalingActive", "FailedGetResourceMetric", "no metrics returned", "False")
NO_TARGET = condition("AbleToScale", "FailedGetScale", "not found", "False")
OFF = condition("ScalingActive", "ScalingDisabled", "the replica count of the target is zero", "False")
LIMITED = condition("ScalingLimited", "TooManyReplicas", "more than the maximum")
SCALERS = {
    "works": (WORKS, None),
    "has not looked yet": ((condition("ScalingActive", status="Unknown"),), None),
    "gets no metrics": ((NO_METRICS,), "its autoscaler changes nothing: no metrics returned"),
    "cannot scale": ((NO_TARGET, NO_METRICS), "its autoscaler changes nothing: not found"),
    "is off where there is no replica": ((OFF,), None),
    "is at its limit": ((*WORKS, LIMITED), None),
}


@pytest.mark.parametrize("case", SCALERS)
def test_a_number_of_replicas_that_nobody_looks_after_is_told(case):
    """All that are wanted are ready; that no more will ever be wanted only the autoscaler says."""
    told, message = SCALERS[case]
    found = seen(deployment(), replica(), scaler=told)

    assert (found.state, found.message, found.service.message) == (A.RUNNING, None, message)


def test_what_keeps_replicas_from_being_ready_goes_before_what_the_autoscaler_says():
    found = seen(deployment(), replica(0, condition("Ready", status="False")), scaler=(NO_METRICS,))

    assert found.service.message == "a replica runs and does not answer its health check yet"


NOT_READY = {
    "no pod yet": ((), Reason.STARTING, "its pods have not been made yet"),
    "image": ((pod("Pending", waiting("ImagePullBackOff", "not found")),), Reason.IMAGE_PULL, "not found"),
    "no room": (
        (pod("Pending", None, condition("PodScheduled", "Unschedulable", "Insufficient cpu", "False")),),
        Reason.CAPACITY,
        "Insufficient cpu",
    ),
    "crashes": (
        (
            pod(
                "Running",
                waiting("CrashLoopBackOff", "back-off"),
                restarts=3,
                container={"lastState": terminated(7, "Error")},
            ),
        ),
        Reason.STARTING,
        "a replica has ended with exit code 7 and was started again 3 times",
    ),
    "is killed": (
        (
            pod(
                "Running",
                waiting("CrashLoopBackOff"),
                restarts=1,
                container={"lastState": terminated(137, "OOMKilled")},
            ),
        ),
        Reason.STARTING,
        "a replica was killed for want of memory and was started again once",
    ),
    "says why": (
        (
            pod(
                "Running",
                waiting("CrashLoopBackOff"),
                restarts=2,
                container={
                    "lastState": terminated(1, "Error", "Traceback\n  ...\nKeyError: 'model'\n"),
                },
            ),
        ),
        Reason.STARTING,
        "a replica has ended with exit code 1 (its last words: \"KeyError: 'model'\")"
        " and was started again 2 times",
    ),
    "cannot be started": (
        (
            pod(
                "Running",
                waiting("CrashLoopBackOff"),
                restarts=1,
                container={"lastState": terminated(128, "StartError", "exec: vllm: not found")},
            ),
        ),
        Reason.STARTING,
        'a replica could not be started (its last words: "exec: vllm: not found") and was started again once',
    ),
    "is ended by a signal": (
        (
            pod(
                "Running",
                waiting("CrashLoopBackOff"),
                restarts=1,
                container={"lastState": terminated(143, "Error")},
            ),
        ),
        Reason.STARTING,
        "a replica was ended by signal 15 and was started again once",
    ),
}


@pytest.mark.parametrize("case", NOT_READY)
def test_why_a_service_does_not_serve_yet(case):
    pods, reason, message = NOT_READY[case]
    found = seen(deployment(), *pods)

    assert (found.state, found.reason, found.message) == (A.QUEUED, reason, message)


def test_what_keeps_replicas_from_being_made_goes_before_all():
    failure = condition("ReplicaFailure", "FailedCreate", 'pods "x" is forbidden: exceeded quota: small')

    assert seen(deployment(failure)).reason is Reason.QUOTA_EXCEEDED


def test_a_service_that_lost_its_last_replica_is_not_back_in_the_queue():
    ready_once = condition("Progressing", "NewReplicaSetAvailable")

    assert seen(deployment(ready_once), replica(0, condition("Ready", status="False"))).state is A.RUNNING
    assert seen(deployment(ready_once, replicas=0)).state is A.QUEUED


def test_replicas_that_go_are_not_counted():
    gone = replica(0, metadata={"deletionTimestamp": "2026-01-01T00:00:30Z"})

    assert seen(deployment(), gone).service.ready == 0


def test_replicas_of_the_newest_revision_are_counted_apart():
    root = deployment(replicas=2, annotations={names.REVISION: "2"})
    found = seen(root, replica(0, revision="1"), replica(1, revision="2")).service

    assert (found.revision, found.updated, found.ready) == (2, 1, 2)


@pytest.mark.parametrize(
    ("replicas", "pods", "message"),
    [
        (3, 2, "2 of 3 pods have been made"),
        (2, 3, "1 replicas are about to go"),
        (2, 2, None),
        (0, 0, None),
    ],
)
def test_numbers_that_differ_have_a_sentence_also_where_no_pod_is_at_fault(replicas, pods, message):
    """Between the wish and the controller's answer there was none."""
    assert seen(deployment(replicas=replicas), *map(replica, range(pods))).service.message == message


@pytest.mark.parametrize("text", [None, "", "two", "-1", "²", "9" * 20])
def test_a_revision_that_cannot_be_read_is_the_first(text):
    assert seen(deployment(annotations={names.REVISION: text}), replica()).service.revision == 1


# ---- cancelled -------------------------------------------------------------------------------------------


def test_a_pod_that_was_evicted_keeps_no_cancelled_service_alive():
    """Its object stays, and no process is left of it."""
    evicted, leaving = (
        pod("Failed", reason="Evicted"),
        replica(1, metadata={"deletionTimestamp": "2026-01-01"}),
    )
    root = deployment(replicas=0, annotations=CANCELLED)

    assert seen(root, evicted).outcome is JobState.CANCELLED
    assert seen(root, evicted, leaving).outcome is None


def test_a_cancelled_service_is_over_when_its_last_pod_is_gone():
    root = deployment(replicas=0, annotations=CANCELLED)

    assert seen(root, replica()).state is not A.ENDED
    found = seen(root)
    assert (found.state, found.outcome, found.service.endpoint) == (A.ENDED, JobState.CANCELLED, None)


@pytest.mark.parametrize("status", [{"observedGeneration": 1}, {"running": 1}, {"observedGeneration": None}])
def test_a_cancelled_service_is_not_over_before_the_controller_has_seen_it(status):
    assert seen(deployment(replicas=0, annotations=CANCELLED, **status)).state is not A.ENDED


def test_a_service_without_replicas_that_nobody_cancelled_is_not_over():
    assert seen(deployment(replicas=0)).state is A.QUEUED


# ---- the tables ------------------------------------------------------------------------------------------


def test_every_reason_to_wait_has_its_place():
    """Else the worst of several could not be found."""
    waits = [*words.WAITING.values(), *(reason for _, reason in (*words.UNSCHEDULABLE, *words.FAILED_CREATE))]

    assert not set(waits) - set(PENDING)


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 129, 143, 192, 193, 255])
def test_an_exit_code_is_one_thing(code):
    end = words.end_of_code(code)

    assert (end.exit_code is None) != (end.signal is None)
    assert (end.signal is not None) == (128 < code < 193)


PORTS = [(None, None), ([], None), ([{"port": 80}], 80), ([{"port": "x"}], None), ("odd", None)]


@pytest.mark.parametrize(("ports", "port"), PORTS)
def test_a_port_that_cannot_be_read_is_none(ports, port):
    assert belonging("Service", {"ports": ports}).port == port
