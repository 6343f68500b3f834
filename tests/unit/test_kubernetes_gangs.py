"""A job on several nodes of which only a part has started, and how long it may hold that part."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.kubernetes import explain, gangs, names, observations
from adapters.kubernetes.observations import A, J
from api_spec.jobs import Array, Kind, Resources
from api_spec.reasons import Reason
from tests.builders import spec
from tests.contract.places import new_ref
from tests.fakes import INSTANCE
from tests.unit.kubernetes_objects import BEGAN_S, RUNNING, bundle, condition, job, pod, terminated
from tests.unit.kubernetes_stub import JOBS, MARKER, PODS, job_object, listed, says, status

LIMIT_S = 60.0
LATE = BEGAN_S + LIMIT_S
FULL = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
STARTED = pod("Running", RUNNING, index=0)
WAITS = pod("Pending", None, condition("PodScheduled", "Unschedulable", FULL, "False"), index=1)
LEAVES = pod("Running", RUNNING, index=1, metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"})
MARKS = {names.CANCELLED: "2026-01-01T00:01:10Z", names.WITHDRAWN: "withdrawn after 60 s"}


def test_what_holds_a_part_of_its_nodes_for_too_long_is_withdrawn():
    why = gangs.verdict(bundle(job(count=2), STARTED, WAITS), LIMIT_S, LATE)

    assert why == f"withdrawn after 60 s, so that its nodes are free: 1 of 2 pods have started; {FULL}"


def test_pods_that_were_never_made_count_as_well():
    why = gangs.verdict(bundle(job(count=3), STARTED), LIMIT_S, LATE)

    assert why and why.endswith("1 of 3 pods have started; 1 of 3 pods have been made")


LEFT_ALONE = {
    "has time left": (job(count=2), [STARTED, WAITS], LATE - 1),
    "holds nothing": (job(count=2), [WAITS], LATE),
    "has a part that is done, and holds nothing": (
        job(count=2),
        [pod("Succeeded", terminated(), index=0), WAITS],
        LATE,
    ),
    "is whole": (job(count=2), [STARTED, pod("Running", RUNNING, index=1)], LATE),
    "has a part that is done": (job(count=2), [STARTED, pod("Succeeded", terminated(), index=1)], LATE),
    "is held": (job(count=2, suspend=True), [STARTED, WAITS], LATE),
    "was cancelled": (job(count=2, annotations={names.CANCELLED: "now"}), [STARTED, WAITS], LATE),
    "was whole, and a pod is taken": (job(count=2), [STARTED, LEAVES], LATE),
    "was whole, and a pod has failed": (job(count=2), [STARTED, pod("Failed", index=1)], LATE),
    "was whole, and a pod is gone": (job(count=2, failed=1), [STARTED], LATE),
    "fails": (job(condition("FailureTarget"), count=2), [STARTED, WAITS], LATE),
    "is over": (job(condition("Failed"), count=2), [STARTED, WAITS], LATE),
    "has no count": ({"kind": "Job", "spec": {"completions": "odd"}}, [STARTED], LATE),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_a_job_is_left_alone_that(case):
    root, pods, now = LEFT_ALONE[case]

    assert gangs.verdict(bundle(root, *pods), LIMIT_S, now) is None


def test_what_was_withdrawn_says_so_until_its_pods_are_gone_and_then_could_not_be_started():
    """An end that ``retry.on`` may name: the next attempt begins when nothing of this one is left."""
    root = job(condition("Suspended"), count=2, suspend=True, annotations=MARKS)

    ending = observations.of_job(bundle(root, STARTED))
    ended = observations.of_job(bundle(root))

    assert (ending.state, ending.reason) == (A.QUEUED, Reason.CAPACITY)
    assert ending.message == "it is being withdrawn: withdrawn after 60 s"
    assert (ended.state, ended.outcome, ended.reason) == (A.ENDED, J.FAILED, Reason.LAUNCH_FAILED)
    assert ended.message == "withdrawn after 60 s"


def test_what_was_withdrawn_could_not_be_started_though_its_pods_count_as_failed():
    """The controller may see that the pods have ended before it sees that the Job is suspended."""
    failed = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    root = job(failed, count=2, suspend=True, annotations=MARKS)

    ended = observations.of_job(bundle(root, pod("Failed", terminated(143, "Error"))))

    assert (ended.state, ended.outcome, ended.reason) == (A.ENDED, J.FAILED, Reason.LAUNCH_FAILED)
    assert (ended.message, ended.signal) == ("withdrawn after 60 s", None)


def test_why_it_waits_is_not_that_somebody_holds_it():
    """It is suspended, as a job that is held."""
    root = job(condition("Suspended"), count=2, suspend=True, annotations=MARKS)

    (why,) = explain.reasons(bundle(root, STARTED), (), Kind.BATCH.value)

    assert (why.code, why.message) == (Reason.CAPACITY, "it is being withdrawn: withdrawn after 60 s")


def test_what_completed_before_it_was_withdrawn_has_completed():
    root = job(condition("Complete"), count=2, annotations=MARKS)

    assert observations.of_job(bundle(root)).outcome is J.COMPLETED


# ---- what is sent ----------------------------------------------------------------------------------------


def raw_pod(index, started):
    metadata = {
        "name": f"{MARKER}-{index}-abcde",
        "labels": {names.MARKER: MARKER},
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    state = {"containerStatuses": [{"name": "main", "state": RUNNING}]} if started else {}
    return {
        "metadata": metadata,
        "spec": {},
        "status": {"phase": "Running" if started else "Pending", **state},
    }


def look(server, ref, **options):
    server.says("GET", JOBS, listed(job_object(spec={"completions": 2, "parallelism": 2})))
    server.says("GET", PODS, listed(raw_pod(0, True), raw_pod(1, False)))
    server.says("PATCH", f"{JOBS}/{MARKER}", options.pop("answer", says(job_object())))
    return server.adapter(**options).observe([ref]).found[MARKER]


ON_TWO = spec(image="a:1", kind=Kind.BATCH, resources=Resources(nodes=2))
REF = new_ref(ON_TWO, marker=MARKER, job_id="01JABCDEFGHJKMNPQRSTVWXYZ0")


def test_it_is_suspended_as_it_was_seen_and_bears_the_reason(server):
    look(server, REF, partial_start_s=LIMIT_S)

    (body,) = server.bodies("PATCH")
    assert body["spec"] == {"suspend": True}
    assert body["metadata"]["resourceVersion"] == "7"
    assert "1 of 2 pods have started" in body["metadata"]["annotations"][names.WITHDRAWN]
    assert body["metadata"]["annotations"][names.CANCELLED]


def test_without_the_option_it_waits(server):
    assert look(server, REF).message == "1 of 2 pods have started; one starts"
    assert not server.bodies("PATCH")


def test_an_array_needs_no_gang(server):
    tasks = new_ref(replace(ON_TWO, array=Array(indices="0-1")), marker=MARKER)

    assert look(server, tasks, partial_start_s=LIMIT_S).state is A.RUNNING
    assert not server.bodies("PATCH")


def test_what_is_in_a_queue_is_left_to_kueue(server):
    """It starts a Job as a whole, and would only start it again."""
    labels = {**names.labels(MARKER, INSTANCE), "kueue.x-k8s.io/queue-name": "research"}
    two = {"completions": 2, "parallelism": 2}
    server.says("GET", JOBS, listed(job_object(spec=two, metadata={"labels": labels})))
    server.says("GET", PODS, listed(raw_pod(0, True), raw_pod(1, False)))

    found = server.adapter(partial_start_s=LIMIT_S).observe([REF]).found[MARKER]

    assert found.message == "1 of 2 pods have started; one starts"
    assert not server.bodies("PATCH")


def test_one_that_has_changed_meanwhile_is_looked_at_again(server):
    """Its last pod may have started."""
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object()))

    found = look(server, REF, partial_start_s=LIMIT_S, answer=status(409, "it has changed", "Conflict"))

    assert found.state is A.QUEUED
    assert found.message.endswith("which has not been done yet: it has changed")


def test_one_that_is_cancelled_while_it_is_withdrawn_was_cancelled(server):
    """Otherwise it would be tried again, or shown as failed."""
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object(annotations=MARKS)))
    server.says("GET", PODS, listed(raw_pod(0, True)))
    server.says("PATCH", f"{JOBS}/{MARKER}", says(job_object()))

    server.adapter().cancel(REF)

    (body,) = server.bodies("PATCH")
    assert body["metadata"]["annotations"] == {names.WITHDRAWN: None}
    assert body["spec"] == {"suspend": True}


def test_it_does_not_go_with_writing_as_the_owner(server):
    """A pass does not know whose a job is; that it never withdrew anything would be noticed by nobody."""
    with pytest.raises(ValueError, match="partial_start_s does not go with impersonate"):
        server.adapter(partial_start_s=LIMIT_S, impersonate={"user": "ml:{owner}"})
