"""A spec as the fake's script.  Pure and deterministic."""

from __future__ import annotations

import shlex
from typing import Any

from adapters.base import AttemptRef
from adapters.fake.script import write_script
from api_spec.jobs import JobSpec


def render(spec: JobSpec, ref: AttemptRef) -> str:
    body = spec.script if spec.script is not None else shlex.join([*spec.command, *spec.arguments])
    return write_script({**identity(ref), **wishes(spec, ref), **order(ref)}, body)


def identity(ref: AttemptRef) -> dict[str, Any]:
    """What the broker's state can be rebuilt from."""
    return {
        "name": ref.marker,
        "job_id": ref.job_id,
        "number": ref.number,
        "project": ref.project,
        "owner": ref.owner,
        "kind": ref.kind,
        "title": ref.name,
        "digest": ref.digest,
        "revision": ref.revision,
        "replicas": ref.replicas,
    }


def order(ref: AttemptRef) -> dict[str, Any]:
    """What is to happen first: pairs of an id of the fake's and "succeeded" or "ended"."""
    after = [[(one.ref.handle or {}).get("id"), one.when.value] for one in ref.after]
    return {"after": after} if after else {}


def wishes(spec: JobSpec, ref: AttemptRef) -> dict[str, Any]:
    wanted = spec.resources
    directives: dict[str, Any] = {
        "image": spec.image,
        "nodes": wanted.nodes,
        "cpus": wanted.cpus_per_node,
        "memory_mib": wanted.memory_per_node_mib,
        "gpus": wanted.gpus_per_node,
        "gpu_type": wanted.gpu_type,
        "time_limit_s": spec.time_limit_s,
        "environment": dict(spec.environment),
        "outputs": {output.name: output.path for output in spec.outputs},
    }
    if spec.array is not None:
        directives["tasks"] = list(ref.task_indices or spec.array.task_indices)
        directives["max_running"] = spec.array.max_running
    if spec.service is not None:
        directives |= service(spec, ref)
    return {key: value for key, value in directives.items() if value not in (None, {})}


def service(spec: JobSpec, ref: AttemptRef) -> dict[str, Any]:
    replicas = replicas_wanted(spec, ref)
    return {"kind": "inference", "replicas": replicas, "port": spec.service.port if spec.service else None}


def replicas_wanted(spec: JobSpec, ref: AttemptRef) -> int:
    if ref.replicas is not None:
        return ref.replicas
    return spec.service.replicas.min if spec.service else 0
