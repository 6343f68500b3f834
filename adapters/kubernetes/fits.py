"""Does the cluster hold this job: against the last inventory (its ``details`` are ``capacity``'s).  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.base import Inventory, NodeShape
from adapters.kubernetes import (
    autoscaling,
    devices,
    environment,
    extensions,
    names,
    native,
    pods,
    tenancy,
    topology,
)
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec, Resources
from api_spec.quantities import format_memory
from api_spec.reasons import Reason


def refusals(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    yield from _namespace(spec, inventory, options)
    yield from (of_resources := list(_resources(spec, inventory, options)))
    yield from tenancy.refusals(spec, inventory, options)
    if not list(native.refusals(spec, backend)):
        yield from (of_labels := list(_labels(spec, inventory, options, backend)))
        if not of_resources and not of_labels:
            yield from _together(spec, inventory, options, backend)
        yield from extensions.refusals(spec, inventory, options, backend)
        yield from topology.never(spec, inventory, options, backend)
    if spec.service is not None:
        yield from autoscaling.not_served(spec.service, inventory.details.get("apis", {}))


def _namespace(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    known, wanted = inventory.details.get("namespaces"), names.namespace_of(spec.project or "", options)
    if known is not None and wanted is not None and wanted not in known:
        message = f"belongs to the namespace {wanted}, which the cluster does not have"
        yield Refusal(Reason.NOT_ALLOWED, message, "/project")


def _resources(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    """Pods of one job may share a node, so the largest node decides and not how many there are."""
    alone = [
        *_core(spec.resources, inventory.shapes),
        *_extended(spec, inventory, options),
        *_gpu_type(spec, inventory, options),
    ]
    yield from alone
    if not alone and not any(_holds(shape, spec, options) for shape in inventory.shapes):
        wanted, are_claimed = spec.resources, devices.are_claimed(spec, options)
        what = "CPUs, memory and GPUs" if wanted.gpus_per_node and not are_claimed else "CPUs and memory"
        message = f"asks for {what} that no single node{_of_type(wanted.gpu_type)} has together"
        yield Refusal(Reason.NEVER_FITS, message, "/resources")


def _of_type(gpu_type: str | None) -> str:
    return f" with {gpu_type}" if gpu_type is not None else ""


def _core(wanted: Resources, shapes: Sequence[NodeShape]) -> Iterator[Refusal]:
    cpus = max((shape.cpus for shape in shapes), default=0)
    memory_mib = max((shape.memory_mib for shape in shapes), default=0)
    if wanted.cpus_per_node > cpus:
        message = f"asks for {wanted.cpus_per_node} CPUs a node; the largest node has {cpus}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/cpus_per_task")
    if (wanted.memory_per_node_mib or 0) > memory_mib:
        asked, has = format_memory(wanted.memory_per_node_mib or 0), format_memory(memory_mib)
        message = f"asks for {asked} of memory a node; the largest node has {has}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/memory_per_node")


def _extended(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    known = inventory.details.get("resources", {})
    for name, count in pods.extended(spec, options).items():
        if count > known.get(name, 0):
            message = f"asks for {count} {name} a node; the most that a node has is {known.get(name, 0)}"
            fabric = environment.fabric_of(spec, options).resource
            field = "/resources/fabric" if name == fabric else "/resources/gpus_per_node"
            yield Refusal(Reason.NEVER_FITS, message, field)


def _holds(shape: NodeShape, spec: JobSpec, options: Options) -> bool:
    """All of it together.  What is claimed by DRA, and a fabric, no shape tells."""
    wanted = spec.resources
    if shape.cpus < wanted.cpus_per_node or shape.memory_mib < (wanted.memory_per_node_mib or 0):
        return False
    if not wanted.gpus_per_node or devices.are_claimed(spec, options):
        return True
    if wanted.gpu_type is not None and shape.gpu_type != _product(wanted.gpu_type, options):
        return False
    return (_slices(shape, wanted) if wanted.mig_profile else shape.gpus) >= wanted.gpus_per_node


def _slices(shape: NodeShape, wanted: Resources) -> int:
    """By the name of the resource: of "+me+gfx" it does not tell where a plus was."""
    profile = wanted.mig_profile or ""
    same = [profile, *(one for one in shape.slices if pods.slice_of(one) == pods.slice_of(profile))]
    return max(shape.slices.get(one, 0) for one in same)


def _product(gpu_type: str, options: Options) -> str:
    return options.gpu_types.get(gpu_type, gpu_type)


def _gpu_type(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    wanted = spec.resources.gpu_type
    if wanted is None or devices.are_claimed(spec, options):
        return
    known = inventory.details.get("products", [])
    if _product(wanted, options) not in known:
        has = ", ".join(known) or "none that says what it is"
        message = f"asks for GPUs of type {wanted}; the cluster has {has}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/gpu_type")


def _wanted_labels(spec: JobSpec, options: Options, backend: str) -> dict[str, str]:
    of_fabric = environment.fabric_of(spec, options).node_labels
    return {**native.chosen(spec, options, backend).node_labels, **of_fabric}


def _together(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    """Each may be had, and not from the same nodes.  Of several labels each is looked at by itself."""
    labels, fabric = _wanted_labels(spec, options, backend), environment.fabric_of(spec, options).resource
    known = inventory.details.get("shapes")
    if known is None or not (labels or fabric):  # an older release did not write it
        return
    for shape in inventory.shapes:
        has = known.get(shape.name, {})
        values = {name: has.get("labels", {}).get(name, ()) for name in labels}
        with_labels = all(values[name] is None or labels[name] in values[name] for name in labels)
        with_fabric = fabric is None or has.get("resources", {}).get(fabric, 0) >= 1
        if _holds(shape, spec, options) and with_labels and with_fabric:
            return
    asked = [*(f"{name}={value}" for name, value in sorted(labels.items())), *([fabric] if fabric else [])]
    message = f"asks for nodes with {' and '.join(asked)}; none of them holds what it asks for beside that"
    yield Refusal(Reason.NEVER_FITS, message, "/resources")


def _labels(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    wanted = _wanted_labels(spec, options, backend)
    known = inventory.details.get("labels", {})
    for name, value in sorted(wanted.items()):
        values = known.get(name, ())
        if values is None or value in values:
            continue
        asked = f"{name}={value}"
        message = f"asks for nodes with {asked}; the cluster has none"
        of_fabric = name in environment.fabric_of(spec, options).node_labels
        field = "/resources/fabric" if of_fabric else "/placement/kubernetes/node_labels"
        yield Refusal(Reason.NEVER_FITS, message, field)
