"""What goes wrong on a real Kubernetes: state, reason and message are right, and no attempt has two objects.

Nodes are fake and what runs on them too; API server, etcd, scheduler and controllers are real.  The adapter
has the rights of ``deploy/kubernetes/rbac.yaml`` and no others.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Found, Unsettled
from adapters.errors import BackendError, Busy, OutcomeUnknown, Rejected
from adapters.kubernetes.adapter import KubernetesAdapter
from adapters.kubernetes.names import MARKER
from api_spec.jobs import Array, Fabric, Placement, Priority, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes_bench import SLOW_S, a_bench, bench, job_path, told
from tests.real.kubernetes_jobs import ON_TWO, job
from tests.real.kubernetes_kit import ACCOUNT

__all__ = ["bench"]  # a fixture

pytestmark = pytest.mark.process

A = AttemptState
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


# ---- how pods end and wait ------------------------------------------------------------------------------

ENDS = {
    "fail": ({"exit": "42"}, Reason.NON_ZERO_EXIT, 42, None),
    "oom": ({}, Reason.OUT_OF_MEMORY, None, 9),
    "evicted": ({}, Reason.NODE_LOST, None, None),
    "node-shutdown": ({}, Reason.NODE_LOST, None, None),
}


@pytest.mark.parametrize("outcome", ENDS)
def test_how_a_pod_fails_is_told(bench, outcome):
    labels, reason, exit_code, signal = ENDS[outcome]

    seen = bench.ended(bench.submit(job(outcome, labels=labels)))

    assert (seen.outcome, seen.reason) == (JobState.FAILED, reason)
    assert (seen.exit_code, seen.signal) == (exit_code, signal)


WAITS = {
    "image-error": (Reason.IMAGE_PULL, "Back-off pulling image"),
    "config-error": (Reason.INVALID_SPEC, 'secret "missing" not found'),
}


@pytest.mark.parametrize("outcome", WAITS)
def test_what_a_pod_waits_for_is_told(bench, outcome):
    """None of these ever ends a pod by itself."""
    reason, words = WAITS[outcome]

    seen = bench.until(bench.submit(job(outcome)), lambda seen: seen.reason is reason)

    assert seen.state is A.QUEUED
    assert words in seen.message


@pytest.mark.parametrize("array", [None, Array(indices="0")], ids=["alone", "in an array"])
def test_a_job_that_is_preempted_says_so(bench, array):
    """Its pod is gone soon afterwards, and the Job's condition has forgotten who took it."""
    group = "scheduling.k8s.io/v1"
    classes = {name: f"{bench.namespace}-{name}" for name in ("low", "high")}
    for value, name in enumerate(classes.values(), start=1):
        bench.api.create(
            {"apiVersion": group, "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
        bench.stack.callback(bench.api.delete, f"/apis/{group}/priorityclasses/{name}")
    bench.adapter = bench.adapter_of(priorities=classes)
    whole = {
        "resources": Resources(cpus_per_task=60, memory_per_node_mib=100),
        "placement": Placement(kubernetes={"node_labels": bench.tenant.only}),
    }
    with bench.tenant.own_nodes({"contested-0": {}}):
        low = bench.run(job("hang", priority=Priority.LOW, array=array, **whole))

        bench.submit(job("success", priority=Priority.HIGH, **whole))

        wait_until(lambda: not bench.tenant.live_pods(), 30, "both are over")
        seen = bench.ended(low)

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.PREEMPTED)
    assert {task.reason for task in seen.tasks.values()} <= {Reason.PREEMPTED}
    if array is None:
        assert "Preempted by pod" in seen.message or "preempting" in seen.message


def test_a_node_that_is_lost_is_told_before_its_job_can_end(bench):
    """Kubernetes keeps the pod as it was until the node is back or is removed."""
    there = Placement(kubernetes={"node_labels": bench.tenant.only})
    with bench.tenant.own_nodes({"doomed-0": {}}) as kwok:
        ref = bench.run(job("hang", placement=there))
        bench.cluster.freeze(kwok)
        seen = bench.until(ref, lambda seen: seen.message is not None, SLOW_S)
        bench.cluster.thaw(kwok)
        end = bench.ended(ref)

    assert (seen.state, seen.nodes) == (A.RUNNING, ("doomed-0",))
    assert "doomed-0" in seen.message
    assert (end.outcome, end.reason) == (JobState.FAILED, Reason.NODE_LOST)
    assert bench.copies(ref) == 1


# ---- what keeps pods from being made ---------------------------------------------------------------------


def test_a_quota_that_lets_no_pod_be_made_is_told(bench):
    """The Job itself is taken, and has no condition: only an event on it says why nothing happens."""
    bench.tenant.limit({"pods": "0"})

    ref = bench.submit(job())

    seen = bench.until(ref, lambda seen: seen.reason is Reason.QUOTA_EXCEEDED)
    (why, *_) = bench.adapter.explain_pending(ref)
    assert (seen.state, why.code) == (A.QUEUED, Reason.QUOTA_EXCEEDED)
    assert "exceeded quota" in seen.message and "exceeded quota" in why.message


def test_an_array_of_which_the_quota_lets_a_part_run_says_why_the_rest_waits(bench):
    bench.tenant.limit({"pods": "2"})

    ref = bench.submit(job("hang", array=Array(indices="0-3")))

    seen = bench.until(ref, lambda seen: seen.state is A.RUNNING and "exceeded quota" in (seen.message or ""))
    assert seen.message.startswith("other tasks wait: ")
    assert sorted(task.state for task in seen.tasks.values()) == [A.QUEUED] * 2 + [A.RUNNING] * 2


def test_a_quota_that_refuses_the_job_itself_lets_it_come_again(bench):
    bench.tenant.limit({"count/jobs.batch": "0"})

    with pytest.raises(Busy, match="exceeded quota") as refused:
        bench.submit(job())

    assert refused.value.reason is Reason.QUOTA_EXCEEDED


def test_pods_of_the_broker_pass_pod_security_restricted(own_kubernetes, tmp_path):
    with a_bench(own_kubernetes, tmp_path, RESTRICTED) as bench:
        assert bench.ended(bench.submit(job())).outcome is JobState.COMPLETED


def test_what_pod_security_forbids_is_told(own_kubernetes, tmp_path):
    """IPC_LOCK, which an operator may set for a fabric."""
    with a_bench(own_kubernetes, tmp_path, RESTRICTED) as bench:
        bench.adapter = bench.adapter_of(fabrics={"rdma": {"ipc_lock": True}})
        wanted = Resources(memory_per_node_mib=100, fabric=Fabric.RDMA)

        ref = bench.submit(job(resources=wanted))

        seen = bench.until(ref, lambda seen: seen.reason is Reason.INVALID_SPEC)
        assert "violates PodSecurity" in seen.message


def test_what_an_admission_policy_denies_is_refused_for_good(bench):
    """With 403, as a right that is missing; but to ask again would not help."""
    deny_jobs(bench)

    def denied():
        try:
            bench.submit(job())
        except Rejected as error:
            return str(error)
        return None

    assert "no jobs on Sundays" in wait_until(denied, 30, "the policy is in force")


def deny_jobs(bench):
    group, name = "admissionregistration.k8s.io/v1", f"{bench.namespace}-policy"
    chosen = {"matchLabels": {"kubernetes.io/metadata.name": bench.namespace}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}
    policy = {
        "matchConstraints": {"namespaceSelector": chosen, "resourceRules": [rule]},
        "validations": [{"expression": "false", "message": "no jobs on Sundays", "reason": "Forbidden"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    for kind, plural, spec in (
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", policy),
        ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", binding),
    ):
        path = f"/apis/{group}/{plural}"
        made = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
        bench.api.ask("POST", path, made)
        bench.stack.callback(bench.api.delete, f"{path}/{name}")


# ---- rights ----------------------------------------------------------------------------------------------


def test_a_right_that_was_withdrawn_is_told_and_nothing_is_lost(bench):
    ref = bench.run(job("hang"))
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{bench.namespace}/rolebindings/{ACCOUNT}"
    bench.api.delete(binding)

    def refused():
        try:
            bench.adapter.observe([ref])
        except Busy as error:
            return error
        return None

    error = wait_until(refused, 20, "the right is gone")
    assert error.reason is Reason.BACKEND_DOWN
    assert "cannot list resource" in str(error)
    with pytest.raises(Busy, match="cannot create resource"):
        bench.submit(job())
    with pytest.raises(Busy, match="cannot get resource"):
        bench.adapter.cancel(ref)
    assert [one.well for one in bench.adapter.check() if one.subject == "rights"] == [False]
    assert bench.copies(ref) == 1


def test_a_wrong_token_is_told_and_a_new_one_is_read(bench):
    """It is renewed under our feet; what was refused with the old one was not done."""
    token = bench.tenant.folder / "token"
    token.write_text("not.a.token")
    config = bench.tenant.config(kubeconfig=None, ca_file=str(bench.cluster.ca_file), token_file=str(token))
    adapter = KubernetesAdapter(replace(config, options={**config.options, "url": bench.cluster.url}))
    bench.stack.callback(adapter.close)
    ref = new_ref(job())

    with pytest.raises(Busy, match="does not take the broker's token"):
        adapter.submit(ref, job())
    assert bench.copies(ref) == 0
    token.write_text(bench.tenant.token)

    assert adapter.submit(ref, job())["name"] == ref.marker


def test_a_namespace_that_is_missing_is_told(bench):
    """Until somebody makes it: the RoleBinding in it is missing too, so the answer is about a right."""
    adapter = bench.adapter_of(namespace="nowhere")

    with pytest.raises(Busy, match="nowhere"):
        adapter.submit(new_ref(job()), job())

    found = {one.message for one in adapter.check() if not one.well}
    assert "there is no namespace nowhere: jobs of its projects are refused" in found
    assert [one.code for one in adapter.refusals(job(), adapter.inventory())] == [Reason.NOT_ALLOWED]


# ---- strangers -------------------------------------------------------------------------------------------


def test_an_object_that_a_stranger_deletes_is_absent_and_not_failed(bench):
    ref = bench.run(job("hang"))

    bench.api.delete(job_path(bench, ref))

    wait_until(lambda: not bench.copies(ref), 20, "it is gone")
    assert ref.marker not in bench.adapter.observe([ref]).found
    wait_until(lambda: bench.adapter.find(ref.marker, since=0) == Absent(), 20, "its pod is gone too")
    bench.adapter.cancel(ref)
    bench.adapter.cleanup(ref)


def test_a_pod_that_a_stranger_deletes_ends_the_attempt_and_none_follows(bench):
    ref = bench.run(job("hang"))
    (pod,) = bench.tenant.objects("pods", ref.marker)

    bench.api.delete(f"/api/v1/namespaces/{bench.namespace}/pods/{pod['metadata']['name']}")

    assert bench.ended(ref).outcome is JobState.FAILED
    assert not bench.tenant.live_pods()
    assert bench.copies(ref) == 1


def test_a_job_whose_labels_a_stranger_takes_is_not_absent_while_it_runs(bench):
    """The pass no longer shows it; taken for lost, it would be run once more beside itself."""
    ref = bench.run(job("hang"))
    bench.api.patch(job_path(bench, ref), {"metadata": {"labels": {MARKER: None}}})

    assert ref.marker not in bench.adapter.observe([ref]).found
    assert isinstance(bench.adapter.find(ref.marker, since=0), Unsettled)
    with pytest.raises(Rejected, match="another Job of that name"):
        bench.adapter.submit(replace(ref, handle=None), job("hang"))
    bench.api.patch(job_path(bench, ref), {"metadata": {"labels": {MARKER: ref.marker}}})

    assert bench.look(ref).state is A.RUNNING


def test_a_job_that_is_deleted_without_its_pods_is_not_absent_while_they_run(bench):
    ref = bench.run(job("hang"))

    bench.api.delete(job_path(bench, ref), propagationPolicy="Orphan")

    wait_until(lambda: not bench.copies(ref), 20, "it is gone")
    assert isinstance(bench.adapter.find(ref.marker, since=0), Unsettled)
    (pod,) = bench.tenant.live_pods()
    bench.api.delete(f"/api/v1/namespaces/{bench.namespace}/pods/{pod}")
    wait_until(lambda: bench.adapter.find(ref.marker, since=0) == Absent(), 20, "and then it is")


def test_an_object_of_somebody_else_with_our_name_is_left_alone(bench):
    ref = new_ref(job())
    body = {"completions": 1, "suspend": True, "template": pod_template()}
    metadata = {"name": ref.marker, "namespace": bench.namespace}
    bench.api.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": body})
    wait_until(
        lambda: bench.api.get(job_path(bench, ref)).get("status", {}).get("conditions"),
        30,
        "the Job controller has written what it has to",
    )
    before = bench.api.get(job_path(bench, ref))["metadata"]["resourceVersion"]

    with pytest.raises(Rejected, match="another Job of that name"):
        bench.adapter.submit(ref, job())
    bench.adapter.cancel(ref)
    bench.adapter.hold(ref)
    bench.adapter.cleanup(ref)

    assert bench.api.get(job_path(bench, ref))["metadata"]["resourceVersion"] == before
    assert not bench.adapter.observe([ref]).found


def test_a_service_of_somebody_else_with_our_name_is_left_alone(bench):
    """The job on two nodes needs one of that name, and says what is in its way."""
    wanted = job("hang", resources=ON_TWO)
    ref = new_ref(wanted)
    body = {"clusterIP": "None", "selector": {"app": "theirs"}}
    metadata = {"name": ref.marker, "namespace": bench.namespace}
    bench.api.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body})

    ref = replace(ref, handle=bench.adapter.submit(ref, wanted))

    seen = bench.look(ref)
    assert "another Service has the name" in seen.message
    (there,) = bench.tenant.objects("services")
    assert there["spec"]["selector"] == {"app": "theirs"}


def pod_template():
    return {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "theirs:1"}]}}


def test_a_condition_that_nobody_knows_moves_nothing(bench):
    ref = bench.run(job("hang"))
    before = bench.look(ref)
    odd = {"type": "Strange", "status": "True", "reason": "New", "message": "in a later Kubernetes"}

    bench.api.patch(f"{job_path(bench, ref)}/status", {"status": {"conditions": [odd]}})

    assert "Strange" in {one["type"] for one in bench.api.get(job_path(bench, ref))["status"]["conditions"]}
    assert bench.look(ref) == before


def test_a_cancelled_job_that_somebody_resumes_is_stopped_again(bench):
    ref = bench.run(job("hang"))
    bench.adapter.cancel(ref)
    bench.ended(ref)
    wait_until(lambda: not bench.tenant.objects("pods"), 20, "its pod is gone")
    bench.api.patch(job_path(bench, ref), {"spec": {"suspend": False}})
    wait_until(bench.tenant.live_pods, 20, "it runs again")

    bench.adapter.cancel(ref)

    wait_until(lambda: not bench.tenant.live_pods(), 20, "it was stopped")
    assert told(bench.ended(ref)) == (JobState.CANCELLED, Reason.CANCELLED, None)


# ---- the API server --------------------------------------------------------------------------------------


def test_a_submission_that_the_api_server_took_before_it_died_is_found(bench):
    """Its answer is lost, and nothing is started twice."""
    with bench.tenant.wire() as wire:
        adapter = bench.adapter_of(wire.url)
        wire.loses_answers_to = "POST"
        ref = new_ref(job("hang"))
        with pytest.raises(OutcomeUnknown):
            adapter.submit(ref, job("hang"))
        bench.cluster.kill("apiserver")
        with pytest.raises(BackendError):
            bench.adapter.find(ref.marker, since=time.time())
        bench.cluster.start("apiserver")

    found = bench.adapter.find(ref.marker, since=time.time())

    assert isinstance(found, Found)
    assert bench.adapter.submit(ref, job("hang")) == found.handle
    assert bench.copies(ref) == 1


def test_while_the_api_server_is_down_nothing_was_done(bench):
    ref = bench.run(job("hang"))
    bench.cluster.kill("apiserver")

    later = new_ref(job())
    with pytest.raises(Busy) as refused:
        bench.adapter.submit(later, job())
    assert refused.value.reason is Reason.BACKEND_DOWN
    with pytest.raises(Busy):
        bench.adapter.observe([ref])
    bench.cluster.start("apiserver")

    assert bench.look(ref).state is A.RUNNING
    assert bench.copies(later) == 0


def test_a_frozen_etcd_makes_a_submission_unknown_and_one_job_of_it(bench):
    """The API server waits for it; what it was asked for may be done when it is back."""
    impatient = bench.adapter_of(answer_s=2.0)
    ref = new_ref(job("hang"))
    bench.cluster.freeze("etcd")

    with pytest.raises(OutcomeUnknown):
        impatient.submit(ref, job("hang"))
    with pytest.raises(Busy):
        impatient.observe([ref])
    bench.cluster.thaw("etcd")
    wait_until(bench.api.answers, SLOW_S, "the API server answers")

    handle = bench.adapter.submit(ref, job("hang"))
    assert bench.adapter.find(ref.marker, since=time.time()) == Found(handle)
    assert bench.copies(ref) == 1
