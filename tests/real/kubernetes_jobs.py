"""Small jobs and services for a real Kubernetes.  On a fake node ``outcome`` says what becomes of a pod, and
further labels how and when: ``kubernetes/stages.py``.
"""

from __future__ import annotations

from typing import Any

from api_spec.jobs import JobSpec, Kind, Replicas, Resources, ScaleOn, Service

SMALL = Resources(memory_per_node_mib=100)
ON_TWO = Resources(nodes=2, memory_per_node_mib=100)


def job(outcome: str = "success", **changes: Any) -> JobSpec:
    labels = {"outcome": outcome, "run": "300ms", **changes.pop("labels", {})}
    return small(labels, kind=Kind.BATCH, command=("work",), **changes)


def service(
    outcome: str = "hang", *, least: int = 1, most: int = 4, scale_on: ScaleOn | None = None, **changes: Any
) -> JobSpec:
    served = Service(port=8000, replicas=Replicas(min=least, max=most), scale_on=scale_on)
    return small({"outcome": outcome}, kind=Kind.INFERENCE, service=served, **changes)


def small(labels: dict[str, str], **changes: Any) -> JobSpec:
    wanted = {"name": "job", "project": "vision", "image": "registry.example/job:1", "resources": SMALL}
    return JobSpec(**{**wanted, **changes}, labels=labels)
