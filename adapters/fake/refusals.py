"""What the fake cannot honour.  Pure.

It can honour everything but what its option ``refuses`` names; what fits follows from the inventory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from adapters.base import Inventory, NodeShape
from adapters.fake.script import Plan
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec, Resources
from api_spec.reasons import Reason


def refusals(spec: JobSpec, inventory: Inventory | None, refused: Collection[str] = ()) -> Iterator[Refusal]:
    for field in refused:
        if getattr(spec, field):
            yield Refusal(Reason.UNSUPPORTED, f"this fake does not know the field {field}", f"/{field}")
    try:
        Plan.of(spec.environment)
    except (ValueError, AttributeError, TypeError) as error:
        yield Refusal(Reason.INVALID_SPEC, f"a FAKE_ variable cannot be read: {error}", "/environment")
    if inventory is not None:
        yield from too_large(spec, inventory)


def too_large(spec: JobSpec, inventory: Inventory) -> Iterator[Refusal]:
    wanted = spec.resources
    fitting = sum(shape.count for shape in inventory.shapes if holds(shape, wanted))
    if not fitting:
        yield Refusal(Reason.NEVER_FITS, f"no node has {in_words(wanted)}", "/resources")
    elif fitting < wanted.nodes:
        sentence = f"asks for {wanted.nodes} nodes with {in_words(wanted)}; there are {fitting}"
        yield Refusal(Reason.NEVER_FITS, sentence, "/resources/nodes")
    longest_s = inventory.limits.get("time_limit_s")
    if longest_s is not None and (spec.time_limit_s or 0) > longest_s:
        sentence = f"asks for {spec.time_limit_s} s; the limit is {longest_s:g} s"
        yield Refusal(Reason.NEVER_FITS, sentence, "/time_limit")


def holds(shape: NodeShape, wanted: Resources) -> bool:
    return (
        shape.cpus >= wanted.cpus_per_node
        and shape.memory_mib >= (wanted.memory_per_node_mib or 0)
        and shape.gpus >= wanted.gpus_per_node
        and wanted.gpu_type in (None, shape.gpu_type)
    )


def in_words(wanted: Resources) -> str:
    kind = f" of type {wanted.gpu_type}" if wanted.gpu_type else ""
    memory = f", {wanted.memory_per_node_mib} MiB" if wanted.memory_per_node_mib else ""
    return f"{wanted.cpus_per_node} CPUs{memory}, {wanted.gpus_per_node} GPUs{kind}"
