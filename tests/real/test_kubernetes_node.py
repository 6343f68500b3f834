"""A real node does what it promises: containers, logs, services, metrics.  It leaves nothing.  As root."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.real import ports
from tests.real.daemons import processes_of
from tests.real.kubernetes import before, leftovers, objects
from tests.real.kubernetes.api import ApiError
from tests.real.kubernetes.layout import LISTENERS, NODE_NAME
from tests.real.kubernetes.objects import ended, job, log_of, pod_of, pod_spec
from tests.real.test_kubernetes_cluster import BOOT_AND_TELL

pytestmark = pytest.mark.process

AUTOSCALERS = "/apis/autoscaling/v2/namespaces"
# Busy while the file is there.
WORK_OR_WAIT = (
    "while :; do if [ -e /switch/on ]; then i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; "
    "else sleep 0.2; fi; done"
)


def shell(script, **changes):
    return pod_spec(["sh", "-c", script], **changes)


def test_a_job_runs_in_a_container_and_has_a_log(kubernetes_node, namespace, record_property):
    api = kubernetes_node.api
    api.create(job(namespace, "train", shell("echo from $HOSTNAME; echo trouble >&2")))

    assert ended(api, namespace, "train") == "Complete"

    pod = pod_of(api, namespace, "train")
    assert pod["spec"]["nodeName"] == NODE_NAME
    assert set(log_of(api, pod).splitlines()) == {f"from {pod['metadata']['name']}", "trouble"}
    booted = f"booted in {kubernetes_node.boot_s:.1f} s"
    record_property("summary", f"real Kubernetes {kubernetes_node.version} with a real node: {booted}")


def test_the_exit_code_of_a_container_is_seen(kubernetes_node, namespace):
    api = kubernetes_node.api
    api.create(job(namespace, "train", shell("exit 3")))

    assert ended(api, namespace, "train") == "Failed"

    [container] = pod_of(api, namespace, "train")["status"]["containerStatuses"]
    assert container["state"]["terminated"]["exitCode"] == 3


def test_work_for_gpus_goes_to_the_fake_nodes(kubernetes_node, namespace):
    api = kubernetes_node.api
    api.create(job(namespace, "train", pod_spec(requests={"nvidia.com/gpu": "8"})))

    assert ended(api, namespace, "train") == "Complete"

    assert pod_of(api, namespace, "train")["spec"]["nodeName"].startswith("gpu-")


def test_the_restricted_profile_is_enforced_and_the_image_runs_in_it(kubernetes_node):
    api = kubernetes_node.api
    namespace = kubernetes_node.new_namespace(labels={"pod-security.kubernetes.io/enforce": "restricted"})
    spec = shell("id -u", securityContext={"runAsNonRoot": True, "runAsUser": 65534})
    spec["securityContext"]["seccompProfile"] = {"type": "RuntimeDefault"}
    locked = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec["containers"][0]["securityContext"] = locked

    api.create(job(namespace, "train", spec))

    assert ended(api, namespace, "train") == "Complete"
    assert log_of(api, pod_of(api, namespace, "train")) == "65534\n"
    with pytest.raises(ApiError, match="violates PodSecurity"):
        root = {"metadata": {"name": "root", "namespace": namespace}, "spec": shell("true")}
        api.create({"apiVersion": "v1", "kind": "Pod", **root})
    kubernetes_node.remove_namespace(namespace)


def test_a_service_leads_to_its_pod(kubernetes_node, namespace):
    """By kube-proxy's rules; from the host, which stands for a client."""
    api = kubernetes_node.api
    serve = shell("echo hello >/www/index.html; exec httpd -f -p 8000 -h /www")
    api.create(objects.deployment(namespace, "web", serve))
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    address = api.create(service)["spec"]["clusterIP"]

    def answer():
        ask = ["busybox", "nc", "-w", "2", address, "80"]
        said = subprocess.run(ask, input="GET / HTTP/1.0\r\n\r\n", capture_output=True, text=True)
        return said.stdout

    assert wait_until(answer, 40).endswith("hello\n")


def test_an_autoscaler_follows_the_load_within_seconds(kubernetes_node, namespace, tmp_path):
    api, switch = kubernetes_node.api, tmp_path / "on"
    spec = shell(
        f"trap 'exit 0' TERM; {WORK_OR_WAIT}",
        requests={"cpu": "100m"},
        volumes=[{"name": "switch", "hostPath": {"path": str(tmp_path)}}],
    )
    spec["containers"][0]["volumeMounts"] = [{"name": "switch", "mountPath": "/switch"}]
    spec["containers"][0]["resources"]["limits"] = {"cpu": "200m"}
    api.create(objects.deployment(namespace, "load", spec))
    api.create(autoscaler(namespace, "load"))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/load"

    def ready():
        return api.get(path)["status"].get("readyReplicas", 0)

    wait_until(lambda: measured(api, namespace, "load"), 40, "there is a metric")
    assert ready() == 1

    switch.touch()
    wait_until(lambda: ready() == 3, 40, "three replicas are ready")
    switch.unlink()
    wait_until(lambda: ready() == 1, 60, "one replica is left")


def autoscaler(namespace, name):
    at_once = {"stabilizationWindowSeconds": 0}
    down = {**at_once, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}]}
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            "behavior": {"scaleUp": at_once, "scaleDown": down},
        },
    }


def measured(api, namespace, name):
    status = api.get(f"{AUTOSCALERS}/{namespace}/horizontalpodautoscalers/{name}").get("status", {})
    metrics = [one.get("resource", {}).get("current", {}) for one in status.get("currentMetrics") or ()]
    return any("averageUtilization" in current for current in metrics)


def test_a_killed_kubelet_loses_its_node_and_finds_it_again(kubernetes_node, namespace):
    api = kubernetes_node.api
    api.create(job(namespace, "train", shell("sleep 600")))
    wait_until(lambda: pod_of(api, namespace, "train")["status"]["phase"] == "Running", 20)

    kubernetes_node.kill("kubelet")
    wait_until(lambda: not kubernetes_node.nodes_are_ready(), 30, "the node is lost")
    kubernetes_node.start("kubelet")

    wait_until(kubernetes_node.nodes_are_ready, 30, "the node is back")


# ---- coming and going --------------------------------------------------------------------------------


@pytest.fixture
def the_only_node(kubernetes_node):
    """The test may close it; those after it find it again."""
    yield kubernetes_node
    if not kubernetes_node.directory.exists():
        kubernetes_node.start_all()


def traces(cluster):
    listening = [name for name in LISTENERS if ports.answers(cluster.layout.port(name))]
    return [*leftovers.everything(cluster.directory), *leftovers.of_a_node(), *listening]


def test_a_closed_node_leaves_nothing(the_only_node):
    """Containers that run on, and dead daemons, are no hindrance."""
    api, namespace = the_only_node.api, the_only_node.new_namespace()
    memory = {"volumes": [{"name": "memory", "emptyDir": {"medium": "Memory"}}]}
    spec = shell("trap '' TERM; sleep 600", **memory)
    spec["containers"][0]["volumeMounts"] = [{"name": "memory", "mountPath": "/dev/shm"}]
    api.create(job(namespace, "train", spec, completions=3, parallelism=3))

    def running():
        return [pod["status"]["phase"] for pod in objects.pods(api, namespace)] == ["Running"] * 3

    wait_until(running, 30, "three containers run")
    the_only_node.kill("kubelet")
    the_only_node.kill("containerd")
    assert leftovers.mounts(the_only_node.directory)
    assert before.settings()["vm.overcommit_memory"] == "1"  # the kubelet's doing

    the_only_node.close()

    assert not traces(the_only_node)


def test_a_node_whose_owner_was_killed_leaves_nothing(the_only_node):
    the_only_node.close()
    was = machine()
    command = [sys.executable, "-c", BOOT_AND_TELL, "node"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        directory = Path(owner.stdout.readline().strip())
        assert processes_of(directory)
        assert leftovers.in_use()

        owner.kill()

    def gone():
        return not (leftovers.everything(directory) or leftovers.of_a_node())

    wait_until(gone, 30, "the guard is done")
    assert machine() == was


def machine():
    """What is there of settings and folders, and what the container runtime remembers."""
    return before.settings(), before.folders(), sorted(Path("/run/containerd").rglob("*"))
