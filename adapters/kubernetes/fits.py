"""Does the cluster hold this job: against the last inventory (its ``details`` are ``capacity``'s).  Pure."""

from __future__ import annotations

from collections.abc import Iterator

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
from api_spec.jobs import JobSpec
from api_spec.quantities import format_memory
from api_spec.reasons import Reason


def refusals(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    yield from _namespace(spec, inventory, options)
    yield from _resources(spec, inventory, options)
    yield from _gpu_type(spec, inventory, options)
    yield from tenancy.refusals(spec, inventory, options)
    if not list(native.refusals(spec, backend)):
        yield from _labels(spec, inventory, options, backend)
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
    wanted, shapes = spec.resources, inventory.shapes
    cpus = max((shape.cpus for shape in shapes), default=0)
    memory_mib = max((shape.memory_mib for shape in shapes), default=0)
    if wanted.cpus_per_node > cpus:
        message = f"asks for {wanted.cpus_per_node} CPUs a node; the largest node has {cpus}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/cpus_per_task")
    if (wanted.memory_per_node_mib or 0) > memory_mib:
        asked, has = format_memory(wanted.memory_per_node_mib or 0), format_memory(memory_mib)
        message = f"asks for {asked} of memory a node; the largest node has {has}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/memory_per_node")
    known = inventory.details.get("resources", {})
    for name, count in pods.extended(spec, options).items():
        if count > known.get(name, 0):
            message = f"asks for {count} {name} a node; the most that a node has is {known.get(name, 0)}"
            fabric = environment.fabric_of(spec, options).resource
            field = "/resources/fabric" if name == fabric else "/resources/gpus_per_node"
            yield Refusal(Reason.NEVER_FITS, message, field)
    if not list(_too_large(spec, shapes)) and not any(_holds(shape, spec) for shape in shapes):
        message = "asks for CPUs, memory and GPUs that no single node has together"
        yield Refusal(Reason.NEVER_FITS, message, "/resources")


def _too_large(spec: JobSpec, shapes: tuple[NodeShape, ...]) -> Iterator[str]:
    """What is refused by itself already."""
    wanted = spec.resources
    if wanted.cpus_per_node > max((shape.cpus for shape in shapes), default=0):
        yield "cpus"
    if (wanted.memory_per_node_mib or 0) > max((shape.memory_mib for shape in shapes), default=0):
        yield "memory"
    if wanted.gpus_per_node:
        yield "gpus: whole ones and slices of them are counted apart"


def _holds(shape: NodeShape, spec: JobSpec) -> bool:
    wanted = spec.resources
    return shape.cpus >= wanted.cpus_per_node and shape.memory_mib >= (wanted.memory_per_node_mib or 0)


def _gpu_type(spec: JobSpec, inventory: Inventory, options: Options) -> Iterator[Refusal]:
    wanted = spec.resources.gpu_type
    if wanted is None or devices.are_claimed(spec, options):
        return
    product, known = options.gpu_types.get(wanted, wanted), inventory.details.get("products", [])
    if product not in known:
        has = ", ".join(known) or "none that says what it is"
        message = f"asks for GPUs of type {wanted}; the cluster has {has}"
        yield Refusal(Reason.NEVER_FITS, message, "/resources/gpu_type")


def _labels(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    wanted = {
        **native.chosen(spec, options, backend).node_labels,
        **environment.fabric_of(spec, options).node_labels,
    }
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
