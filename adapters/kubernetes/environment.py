"""The environment of a job: the contract that every backend keeps, as a container's ``env``.  Pure.

Later rows win: the backend's own ``environment``, the fabric's, the spec's, the contract.  Secrets are named,
and the kubelet reads them: no value passes through the broker.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from adapters.base import AttemptRef
from adapters.job_environment import as_text, local_path_or_uri, variable_name
from adapters.kubernetes import job_sets
from adapters.kubernetes.names import Manifest
from adapters.kubernetes.options import FabricOptions, Options
from api_spec.jobs import Array, Fabric, JobSpec

OUTPUTS = "/broker/outputs"
RENDEZVOUS_PORT = 29500
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"

RESERVED = re.compile(r"BROKER_.*|NVIDIA_VISIBLE_DEVICES|KUBERNETES_.*")
"""What the broker, the container runtime and Kubernetes say: NVIDIA_VISIBLE_DEVICES=all could be given GPUs
that nobody has granted."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def fabric_of(spec: JobSpec, options: Options) -> FabricOptions:
    """One without a table is refused before this is asked."""
    if spec.resources.fabric is Fabric.NONE:
        return FabricOptions()
    return options.fabrics.get(spec.resources.fabric.value, FabricOptions())


def of_pod(spec: JobSpec, ref: AttemptRef, options: Options, domain: str) -> list[Manifest]:
    """``domain``: under which the pods of a job on several nodes find each other."""
    plain = {**options.environment, **fabric_of(spec, options).environment, **spec.environment}
    plain |= _contract(spec, ref)
    if spec.resources.nodes > 1:
        leader = job_sets.leader(ref.marker) if job_sets.wanted(spec, options) else f"{ref.marker}-0"
        plain |= _rendezvous(spec, f"{leader}.{domain}")
    found = [{"name": name, "value": literal(value)} for name, value in plain.items()]
    return [*found, *_of_the_index(spec, ref), *_secrets(spec)]


def literal(value: str) -> str:
    """Kubernetes would put another variable in the place of ``$(NAME)``, and makes one of two dollars."""
    return value.replace("$", "$$")


def _contract(spec: JobSpec, ref: AttemptRef) -> dict[str, str]:
    found = {
        "BROKER_JOB_ID": ref.job_id,
        "BROKER_ATTEMPT": str(ref.number),
        "BROKER_NODES": str(spec.resources.nodes),
        "BROKER_OUTPUT_DIR": OUTPUTS,
    }
    for given in spec.inputs:
        if given.uri is not None:
            found[f"BROKER_INPUT_{variable_name(given.name)}"] = local_path_or_uri(given.uri)
    if spec.service is not None:
        found["BROKER_PORT"] = str(spec.service.port)
        if spec.service.model is not None:
            found["BROKER_MODEL_URI"] = local_path_or_uri(spec.service.model.uri)
    if not spec.array:
        found["BROKER_TASK_INDEX"] = "0"
    if spec.resources.nodes == 1:
        found["BROKER_NODE_RANK"] = "0"
    return found


def _rendezvous(spec: JobSpec, leader: str) -> dict[str, str]:
    """What ``torchrun`` reads for options that are not given."""
    return {
        "MASTER_ADDR": leader,
        "MASTER_PORT": str(RENDEZVOUS_PORT),
        "PET_NNODES": str(spec.resources.nodes),
        "PET_NPROC_PER_NODE": str(max(1, spec.resources.gpus_per_node)),
        "PET_MASTER_ADDR": leader,
        "PET_MASTER_PORT": str(RENDEZVOUS_PORT),
    }


def _of_the_index(spec: JobSpec, ref: AttemptRef) -> Iterator[Manifest]:
    """What only the pod knows: its place among its like."""
    if spec.resources.nodes > 1:
        for name in ("BROKER_NODE_RANK", "PET_NODE_RANK"):
            yield _field(name, INDEX)
    elif spec.array and counts_from_zero(spec, ref):
        yield _field("BROKER_TASK_INDEX", INDEX)
    if spec.service is not None:
        yield _field("BROKER_REPLICA", "metadata.name")


def indices_of(spec: JobSpec, ref: AttemptRef) -> tuple[int, ...]:
    """The task behind each index that Kubernetes gives; empty for what is no array."""
    return ref.task_indices or (spec.array.task_indices if spec.array else ())


def counts_from_zero(spec: JobSpec, ref: AttemptRef) -> bool:
    """Whether that index is the task's own, and the task has no parameters."""
    wanted = indices_of(spec, ref)
    return wanted == tuple(range(len(wanted))) and not (spec.array and spec.array.parameters)


def of_tasks(array: Array, indices: Sequence[int]) -> str:
    """For a shell to source: what each task finds beside, by the index that Kubernetes gives."""
    if not array.parameters:  # ten thousand words are 60 KB, as many cases six times that
        pick = 'task() { shift "$JOB_COMPLETION_INDEX"; export BROKER_TASK_INDEX="$1"; }'
        return f"{pick}\ntask {' '.join(map(str, indices))}\n"
    lines = ['case "$JOB_COMPLETION_INDEX" in']
    for place, index in enumerate(indices):
        given = array.parameters[index]
        found = {"BROKER_TASK_INDEX": str(index)}
        found |= {f"BROKER_PARAM_{variable_name(name)}": as_text(one) for name, one in given.items()}
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in found.items())
        lines.append(f"{place}) export {words} ;;")
    return "\n".join([*lines, "esac", ""])


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _secrets(spec: JobSpec) -> Iterator[Manifest]:
    for name, ref in spec.secrets.items():
        yield {"name": name, "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key}}}
