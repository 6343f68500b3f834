"""Jobs in Kueue's queues and JobSets on a real control plane.

Kueue and JobSet are played by the test: their kinds have no schema, and it writes what they would say.  Real
are API server, scheduler and the Job controller, which suspends and resumes; nodes and pods are kwok's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Absent, Found
from api_spec.jobs import Placement
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes.queues import JobSets, Kueue, condition, installed
from tests.real.kubernetes_bench import Bench, a_bench
from tests.real.kubernetes_jobs import ON_TWO, job
from tests.stack import Parts, job_until

pytestmark = pytest.mark.process

A = AttemptState
QUEUE = "research"
PENDING = "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor a, 2 more"
PREEMPTED = "Preempted to accommodate a workload (UID: 1) due to prioritization in the ClusterQueue"


class QueueBench(Bench):
    """Its jobs go to a queue; and Kueue's hands."""

    def __init__(self, tenant, stack):
        super().__init__(tenant, stack)
        self.kueue = Kueue(self.api, self.namespace)
        self.kueue.make_queue(QUEUE)
        self.job_sets = JobSets(self.api, self.namespace)
        self.adapter = self.adapter_of(queue=QUEUE)

    def root(self, ref, kind="jobs"):
        [found] = self.tenant.objects(kind, ref.marker)
        group = "batch/v1" if kind == "jobs" else "jobset.x-k8s.io/v1alpha2"
        return {"apiVersion": group, "kind": "Job" if kind == "jobs" else "JobSet", **found}

    def accepted(self, spec, kind="jobs"):
        """A job that Kueue has seen, and what it sees of it."""
        ref = self.submit(spec)
        root = self.root(ref, kind)
        self.kueue.accept(root)
        return ref, root

    def is_suspended(self, ref):
        """And the Job controller has seen whether it is."""
        rows = self.root(ref)["status"].get("conditions", [])
        return next((one["status"] == "True" for one in rows if one["type"] == "Suspended"), None)


@pytest.fixture(scope="module")
def with_kinds(kubernetes):
    """Only on a cluster of the tests' own, which ``bench`` asks for: another may have the real ones."""
    with installed(kubernetes):
        yield kubernetes


@pytest.fixture
def bench(own_kubernetes, with_kinds, tmp_path):
    with a_bench(with_kinds, tmp_path, kind=QueueBench) as bench:
        yield bench


@pytest.fixture
def of_sets(bench):
    """Where jobs on several nodes are JobSets."""
    bench.adapter = bench.adapter_of(queue=QUEUE, job_sets=True)
    return bench


def on_two(outcome="success", **changes):
    return job(outcome, resources=ON_TWO, **changes)


# ---- a job in a queue -----------------------------------------------------------------------------------


def test_a_job_waits_in_its_queue_with_the_reason_that_kueue_gives(bench):
    ref = bench.submit(job())
    before = bench.look(ref)
    bench.kueue.accept(bench.root(ref))
    silent = bench.look(ref)

    bench.kueue.says(bench.root(ref), condition("QuotaReserved", "Pending", PENDING, holds=False))
    seen = bench.look(ref)
    (why, *_) = bench.adapter.explain_pending(ref)

    assert (before.state, before.reason) == (silent.state, silent.reason) == (A.QUEUED, Reason.SUSPENDED)
    assert (seen.state, seen.reason, seen.native_reason) == (A.QUEUED, Reason.CAPACITY, "Pending")
    assert PENDING in seen.message and PENDING in why.message
    assert bench.root(ref)["spec"]["suspend"] is True
    assert not bench.tenant.objects("pods")


def test_what_kueue_starts_runs_to_its_end(bench):
    ref, root = bench.accepted(job())

    bench.kueue.admit(root)

    seen = bench.until_state(ref, A.ENDED)
    assert (seen.outcome, seen.exit_code, seen.restarts) == (JobState.COMPLETED, 0, 0)


def test_what_kueue_sends_back_waits_again_and_is_counted(bench):
    ref, root = bench.accepted(job("hang"))
    bench.kueue.admit(root)
    bench.until_state(ref, A.RUNNING)

    bench.kueue.evict(root, "Preempted", PREEMPTED)
    back = bench.until(ref, lambda seen: seen.state is A.QUEUED and not bench.tenant.live_pods())
    bench.kueue.admit(
        root, schedulingStats={"evictions": [{"reason": "Preempted", "underlyingCause": "", "count": 1}]}
    )
    again = bench.until_state(ref, A.RUNNING)

    assert (back.reason, back.restarts) == (Reason.PRIORITY, 1)
    assert PREEMPTED in back.message
    assert again.restarts == 1


# ---- held and cancelled ---------------------------------------------------------------------------------


def test_a_job_is_held_in_its_queue_by_its_workload(bench):
    """``spec.suspend`` is Kueue's: whoever else writes it is overruled."""
    ref, root = bench.accepted(job())

    bench.adapter.hold(ref)
    held = bench.look(ref)
    assert bench.kueue.workload(root)["spec"]["active"] is False
    bench.adapter.release(ref)
    released = bench.look(ref)

    assert (held.state, held.reason) == (A.QUEUED, Reason.HELD)
    assert released.reason is Reason.SUSPENDED
    assert bench.kueue.workload(root)["spec"]["active"] is True
    assert bench.root(ref)["spec"]["suspend"] is True


def test_a_hold_that_came_before_kueue_holds_when_kueue_comes(bench):
    ref = bench.submit(job())
    bench.adapter.hold(ref)
    root = bench.root(ref)

    bench.kueue.accept(root)
    seen = bench.look(ref)

    assert seen.reason is Reason.HELD
    assert bench.kueue.workload(root)["spec"]["active"] is False


def test_a_hold_ends_nothing_that_kueue_has_started(bench):
    ref, root = bench.accepted(job("hang"))
    bench.kueue.admit(root)
    bench.until_state(ref, A.RUNNING)

    bench.adapter.hold(ref)

    assert bench.look(ref).state is A.RUNNING
    assert bench.kueue.workload(root)["spec"]["active"] is True


@pytest.mark.parametrize("seen_by_kueue", [True, False])
def test_a_job_that_is_cancelled_in_its_queue_never_starts(bench, seen_by_kueue):
    """Not even where Kueue, which has not heard of it yet, starts it afterwards."""
    ref = bench.submit(job("hang"))
    root = bench.root(ref)
    if seen_by_kueue:
        bench.kueue.accept(root)

    bench.adapter.cancel(ref)
    bench.adapter.cancel(ref)
    end = bench.until_state(ref, A.ENDED)
    bench.kueue.start(root, True)

    wait_until(lambda: bench.is_suspended(ref) is False, 30, "the Job controller has resumed it")
    assert (end.outcome, end.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert not bench.tenant.objects("pods")
    if seen_by_kueue:
        assert bench.kueue.workload(root)["spec"]["active"] is False


def test_a_job_that_is_cancelled_while_it_runs_is_given_back_to_kueue(bench):
    ref, root = bench.accepted(job("hang"))
    bench.kueue.admit(root)
    bench.until_state(ref, A.RUNNING)

    bench.adapter.cancel(ref)

    end = bench.until_state(ref, A.ENDED)
    assert (end.outcome, end.restarts) == (JobState.CANCELLED, 0)
    assert bench.kueue.workload(root)["spec"]["active"] is False
    assert not bench.tenant.live_pods()
    bench.adapter.cleanup(ref)
    wait_until(lambda: bench.adapter.find(ref.marker, since=0) == Absent(), 20, "it is gone")


def test_the_broker_says_that_kueue_has_sent_a_job_back(bench, tmp_path):
    """Through API, worker and controller: a requeue, and no second attempt."""
    wanted = {"kind": "batch", "name": "job", "image": "a:1", "labels": {"outcome": "hang"}}
    with Parts(tmp_path, bench.tenant.config(queue=QUEUE), lease_s=5, poll_s=0.3) as parts:
        parts.start("api", "worker", "controller")
        client = parts.client()
        wait_until(lambda: client.backend("k8s")["reachable"], 60, "the cluster is known")
        (taken,) = client.submit([{**wanted, "resources": {"memory_per_node": "50MiB"}}])
        job_id = taken["job"]["id"]

        job_until(client, job_id, lambda job: job["state"] == "QUEUED")
        [root] = bench.tenant.objects("jobs")
        root = {"apiVersion": "batch/v1", "kind": "Job", **root}
        bench.kueue.accept(root)
        bench.kueue.admit(root)
        job_until(client, job_id, lambda job: job["state"] == "RUNNING")
        bench.kueue.evict(root, "Preempted", PREEMPTED)
        back = job_until(client, job_id, lambda job: job["state"] == "QUEUED")
        client.cancel(job_id)
        end = job_until(client, job_id, lambda job: job["state"] == "CANCELLED")

        [attempt] = client.attempts(job_id)
    assert (back["reason"], attempt["restarts"]) == ("Priority", 1)
    assert PREEMPTED in back["message"]
    assert end["reason"] == "Cancelled"


# ---- before it is sent ----------------------------------------------------------------------------------


def test_a_queue_that_is_not_there_is_refused_with_those_that_are(bench):
    inventory = bench.adapter.inventory()
    wanted = job(placement=Placement(kubernetes={"queue": "serach"}))

    (refused,) = bench.adapter.refusals(wanted, inventory)

    assert refused.message.endswith(f"does not have; it has {QUEUE}")
    assert not bench.adapter.refusals(job(), inventory)


def test_the_check_finds_the_queue_and_every_right(bench):
    found = {one.subject: one for one in bench.adapter.check()}

    assert all(one.well for one in found.values()), found
    assert found["queues"].message == f"{bench.namespace} has the queue {QUEUE} (Kueue v1beta2)"


# ---- JobSets --------------------------------------------------------------------------------------------


def started(bench, ref):
    bench.kueue.accept(bench.root(ref, "jobsets"))
    bench.kueue.admit(bench.root(ref, "jobsets"))
    bench.job_sets.make_its_job(ref.marker)
    bench.job_sets.says(ref.marker, condition("Suspended", "ResumeJobs", "jobset is resumed", holds=False))


def test_a_job_on_several_nodes_is_a_job_set_once(of_sets):
    wanted = on_two()
    ref = of_sets.submit(wanted)

    again = of_sets.adapter.submit(replace(ref, handle=None), wanted)

    [made] = of_sets.tenant.objects("jobsets", ref.marker)
    assert (ref.handle["kind"], again["uid"]) == ("JobSet", made["metadata"]["uid"])
    assert not of_sets.tenant.objects("jobs")
    assert of_sets.adapter.find(ref.marker, since=0) == Found(ref.handle)
    assert [one.ref.marker for one in of_sets.adapter.list_ours(0)] == [ref.marker]
    assert not of_sets.adapter.refusals(wanted, of_sets.adapter.inventory())


def test_a_job_of_the_same_name_from_before_is_no_second_copy(of_sets):
    """The option may have been turned on between two tries of one submission."""
    wanted = on_two()
    ref = new_ref(wanted)
    of_sets.adapter_of(queue=QUEUE).submit(ref, wanted)

    handle = of_sets.adapter.submit(ref, wanted)

    assert handle["kind"] == "Job"
    assert not of_sets.tenant.objects("jobsets")
    assert isinstance(of_sets.adapter.find(ref.marker, since=0), Found)


def test_a_job_set_runs_when_all_its_pods_do_and_ends_as_it_says(of_sets):
    ref = of_sets.submit(on_two(labels={"run": "2s"}))
    waiting = of_sets.look(ref)
    started(of_sets, ref)
    running = of_sets.until_state(ref, A.RUNNING)
    wait_until(lambda: not of_sets.tenant.live_pods(), 30, "its pods are over")
    pods = of_sets.tenant.objects("pods", ref.marker)

    of_sets.job_sets.says(
        ref.marker,
        condition("Completed", "AllJobsCompleted", "jobset completed successfully"),
        terminalState="Completed",
    )

    end = of_sets.look(ref)
    assert (waiting.state, waiting.reason) == (A.QUEUED, Reason.SUSPENDED)
    assert len(pods) == 2
    assert set(running.nodes) == {pod["spec"]["nodeName"] for pod in pods}
    assert (end.state, end.outcome, end.exit_code) == (A.ENDED, JobState.COMPLETED, 0)
    of_sets.adapter.cleanup(ref)
    wait_until(lambda: not of_sets.tenant.objects("jobsets"), 20, "it is cleaned up")
    wait_until(lambda: not of_sets.tenant.objects("pods"), 20, "and all that belongs to it")


def test_a_job_set_fails_as_its_pod_did(of_sets):
    ref = of_sets.submit(on_two("fail", labels={"exit": "3"}))
    started(of_sets, ref)
    wait_until(lambda: not of_sets.tenant.live_pods() and of_sets.tenant.objects("pods"), 30)

    message = "jobset failed due to one or more job failures (first failed job: workers-0)"
    of_sets.job_sets.says(ref.marker, condition("Failed", "FailedJobs", message), terminalState="Failed")

    end = of_sets.look(ref)
    assert (end.outcome, end.reason, end.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 3)


def test_a_cancelled_job_set_is_over_only_when_kueue_cannot_start_it(of_sets):
    """Its pods are nobody's to take away, so Kueue has to have heard of it."""
    ref = of_sets.submit(on_two("hang"))
    of_sets.adapter.cancel(ref)
    of_sets.job_sets.suspend_its_job(ref.marker)
    early = of_sets.look(ref)

    of_sets.kueue.accept(of_sets.root(ref, "jobsets"))

    end = of_sets.until_state(ref, A.ENDED)
    assert early.state is A.QUEUED
    assert end.outcome is JobState.CANCELLED
    assert of_sets.kueue.workload(of_sets.root(ref, "jobsets"))["spec"]["active"] is False


def test_a_job_set_that_is_cancelled_while_it_runs_ends_with_its_pods(of_sets):
    ref = of_sets.submit(on_two("hang"))
    started(of_sets, ref)
    of_sets.until_state(ref, A.RUNNING)

    of_sets.adapter.cancel(ref)
    of_sets.job_sets.suspend_its_job(ref.marker)

    end = of_sets.until_state(ref, A.ENDED)
    assert end.outcome is JobState.CANCELLED
    assert not of_sets.tenant.live_pods()


def test_a_quota_that_lets_no_pod_of_a_job_set_be_made_is_told(of_sets):
    """The event is about the Job that the JobSet has made, and not about the JobSet."""
    of_sets.tenant.limit({"pods": "0"})
    ref = of_sets.submit(on_two())

    started(of_sets, ref)

    seen = of_sets.until(ref, lambda seen: seen.reason is Reason.QUOTA_EXCEEDED)
    assert "exceeded quota" in seen.message
