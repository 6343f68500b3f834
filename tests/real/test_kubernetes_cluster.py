"""The clusters that other tests rely on do what they promise, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.real import ports
from tests.real.daemons import processes_of
from tests.real.kubernetes import fake_nodes, leftovers, objects
from tests.real.kubernetes.api import Api, ApiError
from tests.real.kubernetes.fake_nodes import LOG_LINE
from tests.real.kubernetes.layout import LISTENERS, Options
from tests.real.kubernetes.objects import ended, job, log_of, pod_of, pod_spec

pytestmark = pytest.mark.process

SMALL = Options(cpu_nodes=1, gpu_nodes=0, mig_nodes=0)


def gpus(count):
    return pod_spec(requests={"nvidia.com/gpu": str(count)})


def test_a_job_with_gpus_completes_on_a_fake_node(own_kubernetes, namespace, record_property):
    api = own_kubernetes.api
    api.create(job(namespace, "train", gpus(8)))

    assert ended(api, namespace, "train") == "Complete"

    assert pod_of(api, namespace, "train")["spec"]["nodeName"].startswith("gpu-")
    told = f"real Kubernetes {own_kubernetes.version}: booted in {own_kubernetes.boot_s:.1f} s"
    record_property("summary", told)


def test_an_indexed_job_gets_whole_nodes_with_gpus_and_fabric(own_kubernetes, namespace):
    """All must run at once to show it: GPUs that another test has not given back yet come one by one."""
    api, wanted = own_kubernetes.api, {"nvidia.com/gpu": "8", "rdma/rdma_shared_device_a": "1"}
    indexed = {"completionMode": "Indexed", "completions": 4, "parallelism": 4}
    api.create(job(namespace, "ring", pod_spec(requests=wanted), told={"outcome": "hang"}, **indexed))

    wait_until(lambda: phases(api, namespace) == ["Running"] * 4, 60, "all four run")

    nodes = [pod["spec"]["nodeName"] for pod in objects.pods(api, namespace)]
    assert sorted(nodes) == ["gpu-0", "gpu-1", "gpu-2", "gpu-3"]


def phases(api, namespace):
    return [pod["status"]["phase"] for pod in objects.pods(api, namespace)]


def test_a_slice_of_a_gpu_is_on_the_node_that_has_slices(own_kubernetes, namespace):
    api = own_kubernetes.api
    api.create(job(namespace, "slice", pod_spec(requests={"nvidia.com/mig-1g.10gb": "1"})))

    assert ended(api, namespace, "slice") == "Complete"

    assert pod_of(api, namespace, "slice")["spec"]["nodeName"] == "mig-0"


ENDS = {
    "fail": ({"exit": "42", "message": "NCCL error"}, None, 42, "Error"),
    "oom": ({}, None, 137, "OOMKilled"),
    "evicted": ({}, "Evicted", 137, "Error"),
    "node-shutdown": ({}, "Terminated", 137, "Error"),
}


@pytest.mark.parametrize("outcome", ENDS)
def test_a_fake_pod_fails_as_it_is_told(own_kubernetes, namespace, outcome):
    details, pod_reason, exit_code, reason = ENDS[outcome]
    api = own_kubernetes.api
    api.create(job(namespace, "train", gpus(1), told={"outcome": outcome, **details}))

    assert ended(api, namespace, "train") == "Failed"

    status = pod_of(api, namespace, "train")["status"]
    container = status["containerStatuses"][0]["state"]["terminated"]
    assert (status["phase"], status.get("reason")) == ("Failed", pod_reason)
    assert (container["exitCode"], container["reason"]) == (exit_code, reason)
    assert container.get("message") == details.get("message")


WAITS = {
    "image-error": "ImagePullBackOff",
    "config-error": "CreateContainerConfigError",
    "crash-loop": "CrashLoopBackOff",
}


@pytest.mark.parametrize("outcome", WAITS)
def test_a_fake_pod_waits_as_it_is_told(own_kubernetes, namespace, outcome):
    api = own_kubernetes.api
    api.create(job(namespace, "train", gpus(1), told={"outcome": outcome}))

    def waiting():
        statuses = pod_of(api, namespace, "train")["status"].get("containerStatuses", [])
        return [one["state"]["waiting"]["reason"] for one in statuses]

    assert wait_until(waiting, 20) == [WAITS[outcome]]


def test_a_fake_pod_hangs_and_goes_when_its_job_is_deleted(own_kubernetes, namespace):
    api = own_kubernetes.api
    api.create(job(namespace, "train", gpus(1), told={"outcome": "hang"}))
    wait_until(lambda: pod_of(api, namespace, "train")["status"]["phase"] == "Running", 20)

    api.delete(f"/apis/batch/v1/namespaces/{namespace}/jobs/train")

    wait_until(lambda: not objects.pods(api, namespace), 20, "the pod is gone")


def test_a_fake_pod_of_a_deployment_runs_on_and_can_be_unready(own_kubernetes, namespace):
    api = own_kubernetes.api
    for name, outcome in (("good", "hang"), ("bad", "not-ready")):
        made = objects.deployment(namespace, name, pod_spec(["serve"]), replicas=2)
        made["spec"]["template"]["metadata"]["annotations"] = {f"{objects.PREFIX}/outcome": outcome}
        api.create(made)
    wait_until(lambda: phases(api, namespace) == ["Running"] * 4, 20, "all four run")

    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    wait_until(lambda: api.get(f"{path}/good")["status"].get("readyReplicas") == 2, 20)
    assert not api.get(f"{path}/bad")["status"].get("readyReplicas")


def test_a_fake_pod_has_a_log(own_kubernetes, namespace):
    api = own_kubernetes.api
    api.create(job(namespace, "train", gpus(1)))
    ended(api, namespace, "train")

    assert log_of(api, pod_of(api, namespace, "train")) == f"{LOG_LINE}\n"


def test_a_service_account_may_do_what_its_role_says_and_no_more(kubernetes, namespace):
    kubernetes.new_service_account(namespace)
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get"]}]
    kubernetes.allow("broker", namespace, rules)

    broker = Api(kubernetes.kubeconfig_of(namespace))

    broker.create(job(namespace, "train", gpus(1)))
    for path in (
        f"/api/v1/namespaces/{namespace}/pods",
        "/apis/batch/v1/namespaces/default/jobs",
        "/api/v1/nodes",
    ):
        with pytest.raises(ApiError) as refused:
            broker.get(path)
        assert (refused.value.status, refused.value.reason) == (403, "Forbidden")


# ---- bad days ----------------------------------------------------------------------------------------


def test_a_killed_api_server_comes_back_and_knows_its_jobs(own_kubernetes, namespace, record_property):
    api = own_kubernetes.api
    api.create(job(namespace, "before", gpus(1), told={"outcome": "hang"}))
    own_kubernetes.kill("apiserver")
    with pytest.raises(OSError):
        api.get("/version")

    began = time.monotonic()
    own_kubernetes.start("apiserver")
    took_s = time.monotonic() - began  # not asserted: the machine may be busy

    assert api.exists(f"/apis/batch/v1/namespaces/{namespace}/jobs/before")
    api.create(job(namespace, "after", gpus(1)))
    assert ended(api, namespace, "after") == "Complete"  # controllers, scheduler and kwok have found it again
    record_property("summary", f"real Kubernetes: API server back {took_s:.1f} s after its restart")


def test_a_frozen_api_server_answers_nothing_until_it_is_thawed(own_kubernetes, namespace):
    own_kubernetes.freeze("apiserver")
    with pytest.raises(TimeoutError):
        own_kubernetes.api.ask("GET", "/version", timeout_s=1)

    own_kubernetes.thaw("apiserver")

    assert own_kubernetes.api.get("/version")


def test_a_killed_scheduler_leaves_pods_waiting_until_it_is_back(own_kubernetes, namespace):
    api = own_kubernetes.api
    own_kubernetes.kill("scheduler")
    api.create(job(namespace, "train", gpus(1)))
    assert "nodeName" not in pod_of(api, namespace, "train")["spec"]

    own_kubernetes.start("scheduler")

    assert ended(api, namespace, "train") == "Complete"


def test_nodes_whose_kwok_is_frozen_are_lost_and_come_back(own_kubernetes, namespace):
    api = own_kubernetes.api
    spec = pod_spec(requests={"nvidia.com/gpu": "1"}, nodeSelector={"kubernetes.io/hostname": "lost-0"})

    with own_kubernetes.more_fake_nodes([fake_nodes.gpu_node("lost-0")]) as kwok:
        api.create(job(namespace, "train", spec, told={"outcome": "hang"}))
        wait_until(lambda: pod_of(api, namespace, "train")["status"]["phase"] == "Running", 20)
        own_kubernetes.freeze(kwok)
        reasons = wait_until(lambda: disruptions(pod_of(api, namespace, "train")), 40)
        own_kubernetes.thaw(kwok)
        wait_until(own_kubernetes.nodes_are_ready, 20, "the lost node is back")

    assert reasons == ["DeletionByTaintManager"]
    assert not api.exists("/api/v1/nodes/lost-0")


def disruptions(pod):
    return [one["reason"] for one in pod["status"]["conditions"] if one["type"] == "DisruptionTarget"]


def test_calm_mends_what_a_test_broke(own_kubernetes):
    own_kubernetes.kill("scheduler")
    own_kubernetes.freeze("etcd")
    own_kubernetes.kill("kwok")

    own_kubernetes.calm()

    assert own_kubernetes.api.answers() and own_kubernetes.nodes_are_ready()
    assert all(daemon.running for daemon in own_kubernetes.daemons.values())


# ---- coming and going --------------------------------------------------------------------------------


def test_two_clusters_live_side_by_side(own_kubernetes, new_kubernetes, namespace):
    other = new_kubernetes(SMALL)

    other.api.create(job("default", "train", pod_spec()))

    assert ended(other.api, "default", "train") == "Complete"
    assert not own_kubernetes.api.items("/apis/batch/v1/namespaces/default/jobs")


def test_a_closed_cluster_leaves_nothing(new_kubernetes):
    """A frozen part and a killed one are no hindrance."""
    cluster = new_kubernetes(SMALL)
    cluster.kill("scheduler")
    cluster.freeze("apiserver")
    assert processes_of(cluster.directory)

    cluster.close()

    assert not traces(cluster)


def traces(cluster):
    listening = [name for name in LISTENERS if ports.answers(cluster.layout.port(name))]
    return [*leftovers.everything(cluster.directory), *listening]


BOOT_AND_TELL = """
import signal, sys
from tests.real.kubernetes.cluster import boot
from tests.real.kubernetes.layout import Options
options = Options(cpu_nodes=1, gpu_nodes=0, mig_nodes=0, real_node="node" in sys.argv)
with boot(options=options) as cluster:
    print(cluster.directory, flush=True)
    signal.pause()
"""


def test_a_cluster_whose_owner_was_killed_leaves_nothing(own_kubernetes):
    """It was booted elsewhere; ours is only a witness that it can be."""
    command = [sys.executable, "-c", BOOT_AND_TELL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        directory = Path(owner.stdout.readline().strip())
        assert processes_of(directory)

        owner.kill()

    wait_until(lambda: not directory.exists() and not processes_of(directory), 20, "the guard is done")
