"""What the watch of a cluster shows of attempts: the same as a pass, sooner, and never that one is absent."""

from __future__ import annotations

import time
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime

import pytest

from adapters.base import AttemptRef, Capability
from adapters.errors import Busy
from adapters.kubernetes import evidence, names
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.fakes import INSTANCE
from tests.helpers import PATIENCE, wait_until
from tests.unit.kubernetes_objects import RUNNING, condition, deployment, event, terminated
from tests.unit.kubernetes_stub import (
    AUTOSCALERS,
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    MARKER,
    NAMESPACE,
    PODS,
    SERVICES,
    Feed,
    handle_of,
    job_object,
    listed,
    says,
    status,
)

A = AttemptState
ALL = (JOBS, DEPLOYMENTS, PODS, SERVICES)
REF = AttemptRef(marker=MARKER, handle=handle_of(), job_id="01JABCDEFGHJKMNPQRSTVWXYZ0")
SERVED = AttemptRef(
    marker=MARKER, handle={"kind": "Deployment", "namespace": NAMESPACE, "name": MARKER, "uid": "root"}
)
QUOTA = 'Error creating: pods "x" is forbidden: exceeded quota: small, requested: pods=1'


@pytest.fixture
def server(server):
    for path in ALL:
        server.says("GET", path, listed())
    return server


@pytest.fixture
def adapter(server):
    return server.adapter()


@pytest.fixture
def watch(server, adapter):
    """Begun by the test, which has said before what there is."""
    begun = []

    def begin():
        begun.append(adapter.watch())
        wait_until(lambda: begun[0].fault is None, why=begun[0].fault)
        return begun[0]

    yield begin
    for one in begun:
        began = time.monotonic()
        one.close()
        assert time.monotonic() - began < 2.0 * PATIENCE


def now():
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def pod(phase="Running", state=None, *conditions, version="50", number=0, **metadata):
    about = {
        "name": f"{MARKER}-0-{number}",
        "namespace": NAMESPACE,
        "uid": f"pod-{number}",
        "resourceVersion": version,
        "labels": names.labels(MARKER, INSTANCE),
        "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
        "creationTimestamp": f"2026-01-01T00:00:{number:02}Z",
        **metadata,
    }
    container = {"name": names.MAIN, "state": state or {}, "restartCount": 0}
    found = {"phase": phase, "conditions": list(conditions), "containerStatuses": [container]}
    return {"kind": "Pod", "metadata": about, "spec": {"nodeName": "node-0"}, "status": found}


def job(*conditions, version="7", **changes):
    metadata = {"resourceVersion": version, **changes.pop("metadata", {})}
    return job_object(metadata=metadata, status={"conditions": list(conditions)}, **changes)


def markers(watch, within_s=5.0):
    return wait_until(lambda: set(watch.changed(0.2)), within_s, "something is told")


# ---- what is shown --------------------------------------------------------------------------------------


def test_it_shows_what_a_pass_shows_and_asks_for_nothing(server, adapter, watch):
    server.says("GET", JOBS, listed(job()))
    server.says("GET", PODS, listed(pod(state=RUNNING)))
    seen = watch()
    asked = len(server.asked)

    assert markers(seen) == {MARKER}
    told = seen.observe([REF])

    assert len(server.asked) == asked
    assert not told.complete
    assert told.found[MARKER].state is A.RUNNING
    assert told.found == adapter.observe([REF]).found


def test_a_service_is_shown_with_where_it_answers(server, adapter, watch):
    service = {
        "metadata": {"name": MARKER, "uid": "service", "labels": names.labels(MARKER, INSTANCE)},
        "spec": {"ports": [{"port": 8000}]},
    }
    served = {**deployment(condition("Available")), "kind": "Deployment"}
    server.says("GET", DEPLOYMENTS, listed(served))
    server.says("GET", SERVICES, listed(service))
    server.says("GET", PODS, listed(pod("Running", RUNNING, condition("Ready"))))
    seen = watch()
    asked = len(server.asked)

    told = seen.observe([SERVED])

    assert len(server.asked) == asked
    assert told.found[MARKER].service.endpoint == f"http://{MARKER}.{NAMESPACE}.svc.cluster.local:8000"
    assert told.found == adapter.observe([SERVED]).found


def test_what_an_autoscaler_says_is_told_and_what_it_measures_is_not(server, adapter, watch):
    def scaler(version, *conditions, **status):
        about = {"name": MARKER, "uid": "scaler", "labels": names.labels(MARKER, INSTANCE)}
        status = {"conditions": list(conditions), **status}
        return {"metadata": {**about, "resourceVersion": version}, "spec": {}, "status": status}

    fault = condition("ScalingActive", "FailedGetResourceMetric", "no metrics returned", "False")
    server.says("GET", DEPLOYMENTS, listed({**deployment(condition("Available")), "kind": "Deployment"}))
    server.says("GET", PODS, listed(pod("Running", RUNNING, condition("Ready"))))
    server.says("GET", AUTOSCALERS, listed(scaler("60")))
    (scalers,) = server.watched(AUTOSCALERS)
    seen = watch()
    markers(seen)
    assert seen.observe([SERVED]).found[MARKER].service.message is None

    scalers.tells("MODIFIED", scaler("61", currentReplicas=1))
    assert not seen.changed(0.3)
    scalers.tells("MODIFIED", scaler("62", fault))
    assert markers(seen) == {MARKER}

    told = seen.observe([SERVED]).found
    assert told[MARKER].service.message == "its autoscaler changes nothing: no metrics returned"
    server.says("GET", AUTOSCALERS, listed(scaler("62", fault)))
    assert told == adapter.observe([SERVED]).found


def test_without_the_right_to_read_autoscalers_all_else_is_seen(server, adapter, watch):
    """The roles of some sites are narrower than the one that comes with the broker."""
    server.says("GET", AUTOSCALERS, status(403, "horizontalpodautoscalers is forbidden", "Forbidden"))
    server.says("GET", DEPLOYMENTS, listed({**deployment(condition("Available")), "kind": "Deployment"}))
    server.says("GET", PODS, listed(pod("Running", RUNNING, condition("Ready"))))
    seen = watch()

    assert markers(seen) == {MARKER}
    wait_until(lambda: server.count("GET", AUTOSCALERS))
    assert seen.fault is None
    assert seen.observe([SERVED]).found == adapter.observe([SERVED]).found


def test_without_the_right_to_read_services_nothing_is_said(server, adapter):
    """A server that has just been started forbids everything; an address that has gone would be news."""
    server.says("GET", SERVICES, status(403, "services is forbidden", "Forbidden"))
    server.says("GET", DEPLOYMENTS, listed({**deployment(condition("Available")), "kind": "Deployment"}))
    server.says("GET", PODS, listed(pod("Running", RUNNING, condition("Ready"))))

    with pytest.raises(Busy, match="services is forbidden"):
        adapter.observe([SERVED])


def test_a_job_is_shown_as_its_pods_and_conditions_come(server, watch):
    server.says("GET", JOBS, listed(job()))
    (jobs,), (pods,) = server.watched(JOBS), server.watched(PODS)
    seen = watch()
    markers(seen)

    pods.tells("ADDED", pod("Pending", version="110"))
    assert markers(seen) == {MARKER}
    assert seen.observe([REF]).found[MARKER].state is A.QUEUED
    pods.tells("MODIFIED", pod("Running", RUNNING, version="111"))
    markers(seen)
    assert seen.observe([REF]).found[MARKER].state is A.RUNNING
    pods.tells("MODIFIED", pod("Succeeded", terminated(), version="112"))
    jobs.tells("MODIFIED", job(condition("Complete"), version="113"))
    wait_until(lambda: seen.changed(0.2) and seen.observe([REF]).found[MARKER].state is A.ENDED)
    assert seen.observe([REF]).found[MARKER].outcome is JobState.COMPLETED


def test_what_it_does_not_hold_is_not_absent(server, watch):
    """The object may be younger than what the watch has heard of, and one with another uid is another one."""
    server.says("GET", JOBS, listed(job()))
    (jobs,) = server.watched(JOBS)
    seen = watch()
    markers(seen)

    jobs.tells("DELETED", job(version="120"))
    assert markers(seen) == {MARKER}
    assert seen.observe([REF]).found == {}
    jobs.tells("ADDED", job(version="121", metadata={"uid": "another"}))
    assert markers(seen) == {MARKER}
    told = seen.observe([REF])

    assert (told.found, told.complete) == ({}, False)


def test_who_asks_to_be_told_again_is(server, watch):
    seen = watch()

    seen.again([MARKER], 0.3)
    began = time.monotonic()

    assert markers(seen) == {MARKER}
    assert time.monotonic() - began >= 0.25
    assert not seen.changed(0.1)


def test_a_broken_watch_says_which_and_why(server, watch):
    feed = Feed()
    server.says("WATCH", PODS, feed, status(403, 'cannot watch resource "pods"', "Forbidden"))
    seen = watch()

    feed.resets()

    why = f'{PODS} cannot be watched: cannot watch resource "pods"'
    wait_until(lambda: seen.fault == why, why=why)


def test_an_operator_may_have_no_watch(server):
    assert Capability.WATCH in server.adapter().capabilities
    assert Capability.WATCH not in server.adapter(watch=False).capabilities


# ---- what only events tell ------------------------------------------------------------------------------


def fresh(number, **metadata):
    marker = f"wb-{INSTANCE}-01jabcdefghjkmnpqrstvwxyz{number}-1"
    ref = AttemptRef(marker=marker, handle=handle_of(marker))
    about = {"creationTimestamp": now(), "resourceVersion": str(100 + number), **metadata}
    return ref, job_object(marker, metadata=about)


def test_why_a_job_gets_no_pods_is_read_once_for_all_and_not_at_once(server, adapter, watch):
    """Nothing more happens to such a Job, so it is looked at again when its pods are overdue."""
    refs, objects = zip(*(fresh(number) for number in range(5)), strict=True)
    told = [
        {**event("FailedCreate", QUOTA), "involvedObject": {"kind": "Job", "name": ref.marker}}
        for ref in refs
    ]
    server.says("GET", JOBS, listed(*objects))
    server.says("GET", EVENTS, listed(*told))
    seen = watch()
    expected = {ref.marker for ref in refs}
    assert markers(seen) == expected
    at_first = seen.observe(refs).found
    assert {one.reason for one in at_first.values()} == {Reason.STARTING}
    assert server.count("GET", EVENTS) == 0

    assert markers(seen) == expected
    later = seen.observe(refs).found

    assert {one.reason for one in later.values()} == {Reason.QUOTA_EXCEEDED}
    assert server.count("GET", EVENTS) == 1
    (why, *_) = adapter.explain_pending(refs[0])
    assert (why.code, server.count("GET", EVENTS)) == (Reason.QUOTA_EXCEEDED, 1)


def test_what_wants_events_and_may_not_have_them_yet_is_left_out(server, watch):
    """Shown without them it would look other than to a pass, and the two would write in turns."""
    ref, _ = fresh(1)
    old = job_object(ref.marker)
    told = {**event("FailedCreate", QUOTA), "involvedObject": {"kind": "Job", "name": ref.marker}}
    server.says("GET", JOBS, listed(old))
    server.says("GET", EVENTS, listed(told))
    seen = watch()
    markers(seen)

    assert seen.observe([ref]).found[ref.marker].reason is Reason.QUOTA_EXCEEDED
    assert seen.observe([ref]).found == {}
    assert server.count("GET", EVENTS) == 1
    assert markers(seen) == {ref.marker}, "it is told again"
    assert seen.observe([ref]).found[ref.marker].reason is Reason.QUOTA_EXCEEDED


def test_events_that_cannot_be_read_leave_it_to_later(server, watch):
    ref, _ = fresh(1)
    server.says("GET", JOBS, listed(job_object(ref.marker)))
    server.says("GET", EVENTS, status(500, "no"))
    seen = watch()
    markers(seen)

    assert seen.observe([ref]).found == {}
    assert markers(seen) == {ref.marker}


@pytest.mark.parametrize("pods_first", [True, False])
def test_who_took_a_pod_is_known_though_it_is_gone(server, adapter, watch, pods_first):
    """A pass that comes later finds a Job that has failed, without a pod and without an event."""
    taken = condition("DisruptionTarget", "EvictionByEvictionAPI", "Eviction API: evicting")
    failed = condition("Failed", "PodFailurePolicy", "matching FailJob rule at index 0: DisruptionTarget")
    failed["message"] = "Pod jobs/x has condition DisruptionTarget matching FailJob rule at index 0"
    server.says("GET", JOBS, listed(job()))
    server.says("GET", PODS, listed(pod(state=RUNNING)))
    (jobs,), (pods,) = server.watched(JOBS), server.watched(PODS)
    seen = watch()
    markers(seen)
    steps = [
        lambda: pods.tells("DELETED", pod("Failed", terminated(137, "Error"), taken, version="120")),
        lambda: jobs.tells("MODIFIED", job(failed, version="121")),
    ]
    for step in steps if pods_first else reversed(steps):
        found = seen.observe([REF]).found.get(MARKER)
        assert found is None or found.state is not A.ENDED
        step()
        markers(seen)

    end = seen.observe([REF]).found[MARKER]
    assert (end.outcome, end.reason) == (JobState.FAILED, Reason.PREEMPTED)
    server.says("GET", JOBS, listed(job(failed, version="121")))
    server.says("GET", PODS, listed())
    assert adapter.observe([REF]).found[MARKER].reason is Reason.NODE_LOST, "what a pass can know"


def test_a_job_that_is_told_to_be_over_before_its_pods_are_waits_for_them(server, watch):
    """Each kind is told by a watch of its own.  What the pod ends with is said once, and for ever."""
    over = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    server.says("GET", JOBS, listed(job()))
    server.says("GET", PODS, listed(pod(state=RUNNING)))
    (jobs,), (pods,) = server.watched(JOBS), server.watched(PODS)
    seen = watch()
    markers(seen)
    jobs.tells("MODIFIED", job(over, version="120"))
    markers(seen)
    early = seen.observe([REF]).found

    pods.tells("MODIFIED", pod("Failed", terminated(3, "Error"), version="121"))
    markers(seen)

    assert early == {}
    end = seen.observe([REF]).found[MARKER]
    assert (end.outcome, end.reason, end.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 3)


def test_a_job_that_is_over_does_not_wait_for_ever_for_a_pod_on_a_dead_node(server, watch, monkeypatch):
    monkeypatch.setattr(evidence, "UNUSUAL_S", 0.1)
    over = condition("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    server.says("GET", JOBS, listed(job(over)))
    server.says("GET", PODS, listed(pod(state=RUNNING)))
    seen = watch()
    markers(seen)
    assert seen.observe([REF]).found == {}

    assert markers(seen) == {MARKER}, "it is told again"

    assert seen.observe([REF]).found[MARKER].reason is Reason.TIME_LIMIT


# ---- what is being made ---------------------------------------------------------------------------------


def test_what_is_still_being_made_is_left_to_its_maker_for_a_while(server, watch):
    """And then made, as a pass would: whoever submitted it may have died."""
    body = [{"kind": "Service", "metadata": {"name": MARKER}, "spec": {"ports": [{"port": 1}]}}]
    unfinished = job(annotations={names.UNFINISHED: str(body).replace("'", '"')})
    server.says("GET", JOBS, listed(unfinished))
    server.says("POST", SERVICES, says({"kind": "Service"}, 201))
    server.says("PATCH", f"{JOBS}/{MARKER}", says(job()))
    seen = watch()
    markers(seen)

    assert seen.observe([REF]).found == {}
    assert server.count("POST", SERVICES) == 0
    assert markers(seen) == {MARKER}

    assert MARKER in seen.observe([REF]).found
    assert server.count("POST", SERVICES) == 1


# ---- memory ---------------------------------------------------------------------------------------------


def large(thing, number):
    """About as large as one of a real cluster."""
    noise = {f"f:field-{n}": {".": {}, "f:name": f"{number}-{n}"} for n in range(60)}
    metadata = {**thing["metadata"], "uid": f"uid-{number}", "name": f"name-{number}"}
    metadata["labels"] = names.labels(f"wb-{INSTANCE}-{number:026}-1", INSTANCE)
    metadata["managedFields"] = [{"fieldsV1": noise}]
    return {**thing, "metadata": metadata, "spec": {**thing["spec"], "template": noise}}


@pytest.mark.parametrize("path", [PODS, JOBS])
def test_no_more_is_kept_than_is_asked_for(server, adapter, path):
    """Of 1,000 objects, in pages, less than the JSON of them."""
    one = job() if path == JOBS else pod("Running", RUNNING, condition("Ready"), condition("PodScheduled"))
    pages = [
        listed(*(large(one, start + n) for n in range(250)), more=str(start) if start < 750 else "")
        for start in (0, 250, 500, 750)
    ]
    server.says("GET", path, *pages)
    assert adapter.client, "it is loaded"
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with closing(adapter.watch()) as seen:
            wait_until(lambda: seen.fault is None, 60)
            held = tracemalloc.get_traced_memory()[0] - before
            assert len(seen.changed(0.5)) == 1000
    finally:
        tracemalloc.stop()

    assert held < sum(len(page.body) for page in pages)
