"""Pods, Jobs and nodes as an API server shows them, with what matters to the test."""

from __future__ import annotations

from typing import Any

from adapters.kubernetes import capacity, names, records
from adapters.kubernetes.capacity import Node
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.options import Options
from tests.fakes import INSTANCE

MARKER = f"wb-{INSTANCE}-01jabcdefghjkmnpqrstvwxyz0-1"
GPU = "nvidia.com/gpu"
BEGAN, ENDED = "2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"
BEGAN_S, ENDED_S = 1767225610.0, 1767225620.0

Object = dict[str, Any]


def condition(kind: str, reason: str = "", message: str = "", status: str = "True") -> Object:
    found = {"type": kind, "status": status, "lastTransitionTime": ENDED}
    return {**found, **({"reason": reason} if reason else {}), **({"message": message} if message else {})}


def terminated(code: int = 0, reason: str = "Completed", message: str | None = None) -> Object:
    found = {"exitCode": code, "reason": reason, "message": message, "startedAt": BEGAN, "finishedAt": ENDED}
    return {"terminated": found}


RUNNING: Object = {"running": {"startedAt": BEGAN}}


def waiting(reason: str, message: str | None = None) -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def pod(
    phase: str = "Running", state: Object | None = None, *conditions: Object, **changes: Any
) -> records.Pod:
    """Of index 0, named MARKER-0-abcde on node-0, but for ``changes``; ``state`` is its container's."""
    index = changes.pop("index", 0)
    metadata = {
        "name": f"{MARKER}-{index}-abcde",
        "uid": f"pod-{index}",
        "labels": {**names.labels(MARKER, INSTANCE), **changes.pop("labels", {})},
        "annotations": {records.INDEX: str(index)},
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **changes.pop("metadata", {}),
    }
    container = {"name": names.MAIN, "state": state or {}, "restartCount": changes.pop("restarts", 0)}
    status = {
        "phase": phase,
        "conditions": list(conditions),
        "containerStatuses": [{**container, **changes.pop("container", {})}] if state else [],
        **changes,
    }
    return records.pod({"metadata": metadata, "spec": {"nodeName": f"node-{index}"}, "status": status})


def job(*conditions: Object, count: int = 1, suspend: bool = False, **status: Any) -> Object:
    return {
        "kind": "Job",
        "metadata": metadata_of(status.pop("annotations", {})),
        "spec": {"completions": count, "parallelism": count, "suspend": suspend},
        "status": {"conditions": list(conditions), **status},
    }


def deployment(*conditions: Object, replicas: int = 1, **status: Any) -> Object:
    metadata = {**metadata_of(status.pop("annotations", {})), "generation": 2}
    running = status.pop("running", 0)  # pods that the controller has counted
    found = {"observedGeneration": 2, "replicas": running, "conditions": list(conditions), **status}
    return {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}, "status": found}


def metadata_of(annotations: Object) -> Object:
    return {
        "name": MARKER,
        "namespace": "jobs",
        "uid": "root",
        "labels": names.labels(MARKER, INSTANCE),
        "annotations": annotations,
    }


def bundle(root: Object, *pods: records.Pod, events: tuple[Object, ...] = ()) -> Bundle:
    return Bundle(root=root, pods=pods, events=events)


def event(reason: str, message: str, last: str = ENDED) -> Object:
    return {"reason": reason, "message": message, "lastTimestamp": last}


def node(name: str = "node-0", labels: Object | None = None, **has: str) -> Object:
    """Ready, with 8 CPUs and 16 GiB; ``has`` with "__" for "/" and "_" for what is none."""
    resources = {key.replace("__", "/").replace("_", "."): one for key, one in has.items()}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110", **resources},
        },
    }


def nodes(*found: Object, **options: Any) -> list[Node]:
    """As the broker reads them."""
    return [capacity.node(each, Options(**options)) for each in found]
