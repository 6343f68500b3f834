"""What one machine has to give: CPUs, memory and GPUs by index.  Pure."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from adapters.local.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import Resources
from api_spec.reasons import Reason


@dataclass(frozen=True)
class Need:
    """Of one task or replica.  Memory 0: the user did not say, and none is set aside."""

    cpus: int
    memory_mib: int
    gpus: int


@dataclass(frozen=True)
class Slots:
    """What is free.  May be negative: the operator gave the backend less than what runs uses."""

    cpus: int
    memory_mib: int
    gpus: tuple[int, ...]

    def hold(self, need: Need) -> bool:
        return self.cpus >= need.cpus and self.memory_mib >= need.memory_mib and len(self.gpus) >= need.gpus

    def take(self, need: Need) -> tuple[Slots, tuple[int, ...]]:
        """What is left, and the indices of the GPUs that were taken: the lowest free ones."""
        taken, left = self.gpus[: need.gpus], self.gpus[need.gpus :]
        return Slots(self.cpus - need.cpus, self.memory_mib - need.memory_mib, left), taken


def whole(options: Options) -> Slots:
    return Slots(options.cpus, options.memory_mib, tuple(range(options.gpus)))


def free(options: Options, unfinished: Iterable[sqlite3.Row]) -> Slots:
    """A replica that waits for its next start keeps its slot, or a hiccup would become an outage."""
    left = whole(options)
    cpus, memory_mib = left.cpus, left.memory_mib
    used: set[int] = set()
    for task in unfinished:
        cpus -= task["cpus"]
        memory_mib -= task["memory_mib"]
        used.update(gpu_indices(task["gpus"]))
    return Slots(cpus, memory_mib, tuple(index for index in left.gpus if index not in used))


def gpu_indices(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)


def need_of(resources: Resources) -> Need:
    return Need(resources.cpus_per_node, resources.memory_per_node_mib or 0, resources.gpus_per_node)


def shortage(need: Need, left: Slots, code: Reason, whose: str) -> list[Refusal]:
    """One sentence for each thing that is short, with the numbers."""
    # fmt: off
    rows = (
        ("CPUs",          need.cpus,       left.cpus,       "/resources/cpus_per_task"),
        ("MiB of memory", need.memory_mib, left.memory_mib, "/resources/memory_per_node"),
        ("GPUs",          need.gpus,       len(left.gpus),  "/resources/gpus_per_node"),
    )
    # fmt: on
    return [
        Refusal(code, f"asks for {asked} {unit}; {whose} {max(0, there)}", field)
        for unit, asked, there, field in rows
        if asked > there
    ]
