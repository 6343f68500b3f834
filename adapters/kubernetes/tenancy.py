"""What a namespace allows: its quotas, its limits for one pod, and the claims that there are.  Pure.

``Inventory.details["tenancy"]`` is {namespace: {"quotas", "limits", "claims", "queues"}}; a namespace, or a
member of one, that is not in it could not be read, and refuses nothing:

    quotas   [{"name", "hard": {"requests.nvidia.com/gpu": 8.0}}], without those of some pods only
    limits   ``limit_ranges``
    claims   [names]
    queues   [names] of LocalQueues, where there is Kueue; ``extensions`` looks at them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.base import Inventory
from adapters.kubernetes import devices, limit_ranges, names, pods, volumes
from adapters.kubernetes.capacity import sizes
from adapters.kubernetes.limit_ranges import MIB, size
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

FIELDS = {
    "cpu": "/resources/cpus_per_task",
    "memory": "/resources/memory_per_node",
    "pods": "/resources/nodes",
}


# ---- read ---------------------------------------------------------------------------------------------


def quotas(found: Sequence[Manifest]) -> list[dict[str, Any]]:
    """What holds for every pod: one with scopes is for some only, and nobody can say here for which."""
    whole = [one for one in found if not _is_scoped(one)]
    return [{"name": _name(one), "hard": sizes(member(one, "spec", "hard"))} for one in whole]


def _is_scoped(found: Manifest) -> bool:
    return bool(member(found, "spec", "scopes") or member(found, "spec", "scopeSelector"))


def named(found: Sequence[Manifest]) -> list[str]:
    return [_name(one) for one in found]


def _name(found: Manifest) -> str:
    return str(member(found, "metadata", "name"))


# ---- refused ------------------------------------------------------------------------------------------


def refusals(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    namespace = names.namespace_of(spec.project or "", options)
    there = inventory.details.get("tenancy", {}).get(namespace, {})
    yield from _quotas(spec, options, str(namespace), there.get("quotas", ()))
    for name, why in limit_ranges.faults(_of_a_pod(spec, options), there.get("limits", ()), str(namespace)):
        yield Refusal(Reason.NEVER_FITS, why, _field(name))
    if (known := there.get("claims")) is not None:
        yield from _claims(spec, options, str(namespace), known)


def _quotas(
    spec: JobSpec, options: Options, namespace: str, found: Sequence[Mapping[str, Any]]
) -> Iterator[Refusal]:
    """Only what can never be: what others use of it now may be free when the job comes to it."""
    count = pods_at_once(spec)
    asked = {"pods": float(count)}
    if devices.are_claimed(spec, options):
        of_class = f"{devices.class_of(spec, options)}.deviceclass.resource.k8s.io/devices"
        asked[of_class] = float(count * spec.resources.gpus_per_node)
    for name, each in _of_a_pod(spec, options).items():
        asked |= {f"requests.{name}": count * each, f"limits.{name}": count * each}
        if name in ("cpu", "memory"):
            asked[name] = count * each  # a quota may leave "requests." out
    for quota in found:
        for name, hard in quota["hard"].items():
            if name != "limits.cpu" and asked.get(name, 0.0) > hard:  # pods have no limit of CPUs
                allowed = f"the quota {quota['name']} of {namespace} allows {size(name, hard)}"
                message = f"asks for {size(name, asked[name])} of {name}; {allowed}"
                yield Refusal(Reason.QUOTA_EXCEEDED, message, _field(name))


def pods_at_once(spec: JobSpec) -> int:
    """Without so many it is not what was asked for; of an array the tasks may come one by one."""
    if spec.service is not None:
        return spec.service.replicas.min
    return spec.resources.nodes


def _of_a_pod(spec: JobSpec, options: Options) -> dict[str, float]:
    wanted = spec.resources
    found = {name: float(count) for name, count in pods.extended(spec, options).items()}
    found["cpu"] = float(wanted.cpus_per_node)
    if wanted.memory_per_node_mib is not None:
        found["memory"] = wanted.memory_per_node_mib * MIB
    return found


def _claims(spec: JobSpec, options: Options, namespace: str, known: Sequence[str]) -> Iterator[Refusal]:
    for number, volume in enumerate(spec.volumes):
        try:
            source = volumes.source_of(volume)
        except volumes.CannotMount:
            continue  # refused by itself
        if source.kind == "pvc" and source.name not in known:
            message = f"mounts the claim {source.name}, which {namespace} does not have"
            yield Refusal(Reason.UNSUPPORTED, message, f"/volumes/{number}/source")
    wanted = options.outputs_claim
    if spec.outputs and wanted is not None and wanted not in known:
        message = f"has outputs, which are kept in the claim {wanted}, and {namespace} does not have it"
        yield Refusal(Reason.UNSUPPORTED, message, "/outputs")


def _field(name: str) -> str:
    short = name.removeprefix("requests.").removeprefix("limits.")
    return FIELDS.get(short, "/resources/gpus_per_node")
