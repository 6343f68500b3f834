"""Objects that tests create, with what matters to the test, and how to see what became of them."""

from __future__ import annotations

from typing import Any

from tests.helpers import wait_until
from tests.real.kubernetes.api import Api, Object
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes.stages import PREFIX

GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists"}
PATIENCE_S = 60.0


def pod_spec(
    command: list[str] | None = None, *, requests: dict[str, str] | None = None, **changes: Any
) -> Object:
    """Without a CPU limit: in one of 10m a container takes seconds to start."""
    wanted = requests or {"cpu": "10m"}
    limits = {name: amount for name, amount in wanted.items() if "/" in name}  # of these both must be given
    container = {
        "name": "main",
        "image": BUSYBOX,
        "command": command or ["true"],
        "resources": {"requests": wanted, "limits": limits},
    }
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "tolerations": [GPU_TOLERATION] if limits else [],
        "containers": [container],
        **changes,
    }


def job(
    namespace: str, name: str, pod: Object, *, told: dict[str, str] | None = None, **changes: Any
) -> Object:
    """``told``: what a fake pod does, as {"outcome": "fail", "exit": "3"}."""
    annotations = {f"{PREFIX}/{key}": value for key, value in (told or {}).items()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"annotations": annotations}, "spec": pod},
            **changes,
        },
    }


def deployment(namespace: str, name: str, pod: Object, replicas: int = 1) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {**pod, "restartPolicy": "Always"}},
        },
    }


def ended(api: Api, namespace: str, name: str, within_s: float = PATIENCE_S) -> str:
    """The condition that a Job ended with: "Complete" or "Failed"."""

    def end() -> str:
        found = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")
        met = {row["type"] for row in found["status"].get("conditions", ()) if row["status"] == "True"}
        return next((word for word in ("Complete", "Failed") if word in met), "")

    return wait_until(end, within_s, f"job {name} ended")


def pods(api: Api, namespace: str, labels: str = "") -> list[Object]:
    return api.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector={labels}")


def pod_of(api: Api, namespace: str, job_name: str) -> Object:
    """The only pod of a Job, once it is there."""
    labels = f"batch.kubernetes.io/job-name={job_name}"
    [pod] = wait_until(lambda: pods(api, namespace, labels), PATIENCE_S, f"job {job_name} has a pod")
    return pod


def log_of(api: Api, pod: Object) -> str:
    return api.text(f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}/log")
