"""What a Workload of Kueue says of a job, in our words.  The texts are those of Kueue's source."""

from __future__ import annotations

import pytest

from adapters.kubernetes import kueue, names, observations
from adapters.kubernetes.observations import of_job
from api_spec.reasons import PENDING, Reason
from api_spec.states import AttemptState, JobState
from tests.unit.kubernetes_objects import RUNNING, bundle, condition, job, pod

R = Reason


def queued(*conditions, **changes):
    root = job(*conditions, suspend=True, **changes)
    root["metadata"]["labels"] |= {kueue.QUEUE: "research"}
    return root


def workload(*conditions, active=True, **status):
    return {"spec": {"active": active}, "status": {"conditions": list(conditions), **status}}


def why(*conditions, **changes):
    return kueue.why(queued(), workload(*conditions, **changes))


def no_quota(reason, message="because"):
    return condition("QuotaReserved", reason, message, "False")


FLAVORS = "couldn't assign flavors to pod set main: "
REQUESTS = "previously considered podsets requests (0) + current podset request (9) > maximum capacity (4)"
SAID = {
    "no flavor": (no_quota("NoMatchingFlavor"), R.NEVER_FITS),
    "more than there is": (no_quota("ExceedsMaxQuota"), R.NEVER_FITS),
    "no such queue": (no_quota("Misconfigured"), R.INVALID_SPEC),
    "no quota now": (no_quota("WaitingForQuota"), R.CAPACITY),
    "no topology now": (no_quota("TopologyPlacementFailed"), R.CAPACITY),
    "others go": (no_quota("WaitingForPreemptedWorkloads"), R.CAPACITY),
    "others come": (no_quota("WaitingForPodsReady"), R.PRIORITY),
    "stopped": (no_quota("Suspended"), R.SUSPENDED),
    "not looked at": (no_quota("PendingEvaluation"), R.SUSPENDED),
    "old, no quota now": (
        no_quota("Pending", f"{FLAVORS}insufficient unused quota for cpu in flavor a, 1 more needed"),
        R.CAPACITY,
    ),
    "old, never": (
        no_quota("Pending", f"{FLAVORS}insufficient quota for cpu in flavor a, {REQUESTS}"),
        R.NEVER_FITS,
    ),
    "old, one flavor now, one never": (
        no_quota(
            "Pending",
            f"{FLAVORS}insufficient quota for cpu in flavor a, {REQUESTS}, "
            "insufficient unused quota for cpu in flavor b, 1 more needed",
        ),
        R.CAPACITY,
    ),
    "old, wrong nodes": (no_quota("Pending", "flavor a doesn't match node affinity"), R.NEVER_FITS),
    "old, taint": (no_quota("Pending", "untolerated taint {gpu} in flavor a"), R.NEVER_FITS),
    "old, not covered": (no_quota("Pending", "resource x/y unavailable in ClusterQueue"), R.NEVER_FITS),
    "old, no such queue": (no_quota("Inadmissible", "LocalQueue serach doesn't exist"), R.INVALID_SPEC),
    "old, stopped": (no_quota("Inadmissible", "ClusterQueue all is stopped"), R.SUSPENDED),
    "old, inactive": (no_quota("Inadmissible", "ClusterQueue all is inactive"), R.SUSPENDED),
    "a word of next year": (no_quota("MoonIsFull"), R.CAPACITY),
    "preempted": (condition("Evicted", "Preempted"), R.PRIORITY),
    "not ready in time": (condition("Evicted", "PodsReadyTimeout"), R.CAPACITY),
    "its queue was stopped": (condition("Evicted", "LocalQueueStopped"), R.SUSPENDED),
    "a node of it failed": (condition("Evicted", "NodeFailures"), R.CAPACITY),
    "gone for a reason of next year": (condition("Evicted", "MoonIsFull"), R.UNKNOWN),
    "admitted": (condition("Admitted", "Admitted"), R.STARTING),
    "given up": (condition("Finished", "FailedToStart"), R.INVALID_SPEC),
}


@pytest.mark.parametrize("case", SAID)
def test_a_reason_of_kueue_is_one_of_ours(case):
    told, reason = SAID[case]

    assert why(told)[0] is reason


def test_every_reason_is_one_that_a_job_can_wait_for():
    assert {*kueue.NOT_RESERVED.values(), *dict(kueue.SAID).values(), *kueue.EVICTED.values()} <= {*PENDING}


@pytest.mark.parametrize("reason", ["NoMatchingFlavor", "ExceedsMaxQuota", "Misconfigured"])
def test_what_never_resolves_says_so(reason):
    assert why(no_quota(reason))[1] == "in the queue research: because; waiting changes nothing"
    assert why(no_quota("WaitingForQuota"))[1] == "in the queue research: because"


def test_a_workload_may_have_no_condition_at_all():
    """Behind the head of a strict queue Kueue writes none."""
    assert why() == (R.SUSPENDED, f"in the queue research: {kueue.NOTHING_SAID}")


def test_a_job_may_have_no_workload():
    assert kueue.why(queued(), None) == (R.SUSPENDED, f"in the queue research: {kueue.NOT_SEEN}")


def test_the_checks_that_an_admission_waits_for_are_named():
    checks = [
        {"name": "nodes", "state": "Pending", "message": "nodes are being bought"},
        {"name": "licence", "state": "Ready"},
    ]

    told = why(condition("QuotaReserved", "QuotaReserved"), admissionChecks=checks)

    assert told == (
        R.STARTING,
        "in the queue research: quota is reserved: nodes is Pending nodes are being bought",
    )


def test_why_it_was_sent_back_says_more_than_that_it_waits():
    evicted = condition("Evicted", "Preempted", "Preempted to accommodate a workload")

    assert why(no_quota("Pending", "Preempted to accommodate a workload"), evicted)[0] is R.PRIORITY
    assert why(no_quota("ExceedsMaxQuota"), evicted)[0] is R.NEVER_FITS


def test_what_somebody_else_has_deactivated_is_not_held():
    """``release`` would not be asked for, since nobody has held it."""
    evicted = condition("Evicted", "DeactivatedDueToRequeuingLimitExceeded", "exceeded the number of tries")

    reason, message = why(evicted, active=False)

    assert reason is R.SUSPENDED
    assert message.endswith("exceeded the number of tries; it is deactivated there")


def test_what_the_broker_has_held_is_held():
    held = queued(annotations={names.HELD: "2026-01-01"})

    assert kueue.why(held, workload(active=False))[0] is R.HELD
    assert kueue.why(held, None)[0] is R.HELD
    assert of_job(bundle(job(suspend=True))).reason is R.HELD, "of no queue, only a hold suspends it"


EVICTIONS = {
    "none": ({}, 0),
    "counted": ({"schedulingStats": {"evictions": [{"reason": "Preempted", "count": 2}]}}, 2),
    "several": (
        {
            "schedulingStats": {
                "evictions": [{"reason": "Preempted", "count": 2}, {"reason": "X", "count": 1}]
            }
        },
        3,
    ),
    "told to": ({"schedulingStats": {"evictions": [{"reason": "Deactivated", "count": 1}]}}, 0),
    "too often": (
        {
            "schedulingStats": {
                "evictions": [
                    {"reason": "Deactivated", "underlyingCause": "RequeuingLimitExceeded", "count": 1}
                ]
            }
        },
        1,
    ),
    "old": ({"conditions": [condition("Evicted", "Preempted")]}, 1),
    "old, admitted again": ({"conditions": [condition("Evicted", "QuotaReserved", "", "False")]}, 1),
    "old, told to": ({"conditions": [condition("Evicted", "Deactivated")]}, 0),
    "old, counted": ({"conditions": [condition("Evicted", "X")], "requeueState": {"count": 4}}, 4),
    "odd": ({"schedulingStats": {"evictions": [7, {"count": "x"}, {"reason": None, "count": True}]}}, 0),
}


@pytest.mark.parametrize("case", EVICTIONS)
def test_how_often_it_was_sent_back(case):
    status, count = EVICTIONS[case]

    assert kueue.restarts({"status": status}, has_stopped=True) == count


def test_a_job_is_sent_back_when_its_pods_have_gone():
    """Kueue has counted it when it stops the Job.  Told of a job that runs, it was no news any more when the
    job waited, and the broker took that for an old answer."""
    stats = {"schedulingStats": {"evictions": [{"reason": "Preempted", "count": 2}]}}
    evicted = workload(condition("Evicted", "Preempted"), **stats)

    goes = seen(queued(), pod("Running", RUNNING), of=evicted)
    gone = seen(queued(), of=evicted)
    again = seen(
        job(),
        pod("Running", RUNNING),
        of=workload(condition("Evicted", "QuotaReserved", "", "False"), **stats),
    )

    assert (goes.state, goes.restarts) == (AttemptState.RUNNING, 1)
    assert (gone.state, gone.restarts) == (AttemptState.QUEUED, 2)
    assert (again.state, again.restarts) == (AttemptState.RUNNING, 2)


@pytest.mark.parametrize("odd", [{}, {"spec": None, "status": 7}, {"status": {"conditions": [None, 7, {}]}}])
def test_an_odd_workload_breaks_nothing(odd):
    assert kueue.why(queued(), odd)[0] is R.SUSPENDED
    assert (kueue.restarts(odd, has_stopped=True), kueue.is_active(odd), kueue.word(odd)) == (0, True, None)
    assert kueue.by_owner([odd, {"metadata": {"labels": {kueue.JOB_UID: 7}}}]) == {}


def test_of_several_workloads_of_one_job_the_newest_counts():
    def made(name, when):
        return {"metadata": {"name": name, "creationTimestamp": when, "labels": {kueue.JOB_UID: "u"}}}

    found = kueue.by_owner([made("new", "2026-01-02T00:00:00Z"), made("old", "2026-01-01T00:00:00Z")])

    assert found["u"]["metadata"]["name"] == "new"


# ---- states ---------------------------------------------------------------------------------------------


def seen(root, *pods, of=None):
    return of_job(observations.Bundle(root=root, pods=pods, workload=of))


def test_a_job_in_a_queue_is_queued_with_kueues_word():
    told = seen(queued(condition("Suspended")), of=workload(no_quota("ExceedsMaxQuota")))

    assert (told.state, told.reason) == (AttemptState.QUEUED, R.NEVER_FITS)
    assert (told.native_state, told.native_reason) == ("Suspended", "ExceedsMaxQuota")


def cancelled(count, active):
    root = queued(condition("Suspended"), annotations={names.CANCELLED: "2026-01-01"})
    root["spec"]["parallelism"] = count
    return seen(root, of=workload(active=active) if active is not None else None)


@pytest.mark.parametrize(
    "count, active, over",
    [(0, True, True), (0, None, True), (2, True, False), (2, None, False), (2, False, True)],
)
def test_a_cancelled_job_is_over_when_kueue_can_start_no_pod_of_it(count, active, over):
    told = cancelled(count, active)

    assert (told.state is AttemptState.ENDED) is over
    assert told.outcome is (JobState.CANCELLED if over else None)


def test_what_kueue_has_started_before_it_heard_of_a_hold_goes_on():
    root = queued(annotations={names.HELD: "2026-01-01"})
    runs = observations.Bundle(root=root, pods=[pod("Running", RUNNING)], workload=workload())
    waits = observations.Bundle(root=root, pods=[], workload=workload())

    assert observations.may_be_started(waits)
    assert not observations.may_be_started(runs)


def test_a_replica_that_kueue_keeps_waiting_says_why():
    gated = condition("PodScheduled", "SchedulingGated", "non-empty scheduling gates", "False")
    waits, runs = pod("Pending", None, gated, index=0), pod("Running", RUNNING, index=1)

    assert kueue.of_attempt({"pod-0": {"a": 1}, "pod-1": {"b": 1}}, "root", [runs, waits]) == {"a": 1}
    assert kueue.of_attempt({"pod-1": {"b": 1}}, "root", [runs, waits]) is None


# ---- which version ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "served, chosen",
    [(["v1beta1", "v1beta2"], "v1beta2"), (["v1beta1"], "v1beta1"), (["v2"], None), ([], None)],
)
def test_the_newest_version_that_both_know_is_used(served, chosen):
    assert kueue.version(served) == chosen
