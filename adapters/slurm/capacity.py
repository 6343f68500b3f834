"""What a cluster has and what of it is free, from its nodes, partitions and accounting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from adapters.base import Inventory, Load, NodeShape, ShapeLoad
from adapters.slurm import observations, words
from adapters.slurm.live import Queue
from adapters.slurm.options import Options
from adapters.slurm.records import Node, Partition
from adapters.slurm.transport import Transport
from api_spec.states import AttemptState

NOT_THERE = frozenset({"FUTURE"})
"""Nodes that are planned only.  One that is down, drained or not heard of yet, as all are when the controller
has just started, is kept: what fits on it will fit again."""
CLOSED = frozenset(
    {
        "UNKNOWN",
        "DOWN",
        "DRAIN",
        "DRAINED",
        "DRAINING",
        "FAIL",
        "FAILING",
        "ERROR",
        "MAINT",
        "NOT_RESPONDING",
        "INVALID",
    }
    | {"POWERING_DOWN", "REBOOT_ISSUED", "REBOOT_REQUESTED", "RESERVED", "BLOCKED", "INVALID_REG"}
)

_Key = tuple[int, int, tuple[tuple[str, int], ...], frozenset[str], tuple[str, ...]]


def inventory(transport: Transport, as_of: float, options: Options) -> Inventory:
    partitions = transport.partitions()
    shapes = _shapes(transport.nodes(), options)
    return Inventory(
        as_of=as_of,
        shapes=tuple(shape for shape, _ in shapes),
        features=frozenset().union(*(shape.features for shape, _ in shapes)),
        limits=_limits(partitions),
        details=_details(transport, partitions, shapes),
    )


def load(transport: Transport, queue: Queue, as_of: float, options: Options) -> Load:
    """Free is what an open node has not allocated; a node that is closed has nothing free."""
    queued, running = _counts(queue)
    found = _shapes(transport.nodes(), options)
    shapes = tuple(_free(shape, nodes, options) for shape, nodes in found)
    return Load(as_of=as_of, shapes=shapes, queued_count=queued, running_count=running)


# ---- shapes ------------------------------------------------------------------------------------------


def _shapes(nodes: Iterable[Node], options: Options) -> list[tuple[NodeShape, list[Node]]]:
    """Nodes that are alike, largest group first; the name is the same as long as the nodes are."""
    groups: dict[_Key, list[Node]] = defaultdict(list)
    for node in nodes:
        if not NOT_THERE & set(node.states):
            groups[_key(node)].append(node)
    taken: set[str] = set()
    out = []
    for key, alike in sorted(groups.items(), key=lambda item: (-len(item[1]), item[1][0].name)):
        cpus, memory_mib, rows, features, _ = key
        gres = dict(rows)
        whole = whole_gpus(gres, options)
        only = next(iter(whole)) if len(whole) == 1 else None
        shape = NodeShape(
            name=_name(key, alike, options, taken),
            count=len(alike),
            cpus=cpus,
            memory_mib=memory_mib,
            gpus=sum(whole.values()),
            gpu_type=only or None,
            gpus_by_type=_by_names_of_jobs(whole, options),
            slices={one: gres[name] for one, name in options.mig_profiles.items() if name in gres},
            features=features,
        )
        out.append((shape, alike))
    return out


def _key(node: Node) -> _Key:
    gres = tuple(sorted((name, count) for name, count in node.gres.items() if count))
    return node.cpus, node.memory_mib, gres, node.features, tuple(sorted(node.partitions))


def _name(key: _Key, alike: Sequence[Node], options: Options, taken: set[str]) -> str:
    cpus, memory_mib, gres, *_ = key
    parts = [f"{count}-{kind or 'gpus'}" for kind, count in whole_gpus(dict(gres), options).items()]
    name = "-".join([f"{cpus}-cpus-{memory_mib >> 10}-gib", *parts])
    if name in taken:
        name = f"{name}-{min(node.name for node in alike)}"
    taken.add(name)
    return name


def whole_gpus(gres: Mapping[str, int], options: Options) -> dict[str, int]:
    """By type, "" for those without one; slices are none."""
    slices = frozenset(options.mig_profiles.values())
    return {
        name.partition(":")[2]: count
        for name, count in sorted(gres.items())
        if name.partition(":")[0] == "gpu" and name not in slices
    }


def _by_names_of_jobs(whole: Mapping[str, int], options: Options) -> dict[str, int]:
    """A job may say the type as Slurm does, or as the operator translates it."""
    said = {one: whole[kind] for one, kind in options.gpu_types.items() if kind in whole}
    return {**{kind: count for kind, count in whole.items() if kind}, **said}


def _free(shape: NodeShape, nodes: Sequence[Node], options: Options) -> ShapeLoad:
    def gpus(gres: Mapping[str, int]) -> int:
        return sum(whole_gpus(gres, options).values())

    usable = [node for node in nodes if not CLOSED & set(node.states)]
    return ShapeLoad(
        name=shape.name,
        free_nodes=sum(1 for node in usable if node.cpus_allocated == 0),
        free_cpus=sum(max(0, node.cpus - node.cpus_allocated) for node in usable),
        free_memory_mib=sum(max(0, node.memory_mib - node.memory_allocated_mib) for node in usable),
        free_gpus=sum(max(0, gpus(node.gres) - gpus(node.gres_used)) for node in usable),
    )


def _counts(queue: Queue) -> tuple[int, int]:
    """Waiting and running, an array's tasks counted one by one."""
    queued = running = 0
    for rows in queue.by_name.values():
        for row in rows:
            word = words.word(row.states)
            if word is None or word.state is AttemptState.ENDED:
                continue
            if word.state is AttemptState.RUNNING:
                running += 1
            else:
                queued += max(1, len(observations.waiting_indices(row.waiting_tasks, ())))
    return queued, running


# ---- what the pure refusals need ---------------------------------------------------------------------


def _limits(partitions: Sequence[Partition]) -> Mapping[str, float]:
    """The longest time that any partition gives, one that is closed for now as well; none where one of them
    sets no limit."""
    limits = [one.time_limit_min for one in partitions]
    longest = [minutes for minutes in limits if minutes is not None]
    return {"time_limit_s": 60.0 * max(longest)} if limits and len(longest) == len(limits) else {}


def _details(
    transport: Transport, partitions: Sequence[Partition], shapes: Sequence[tuple[NodeShape, Sequence[Node]]]
) -> Mapping[str, Any]:
    nodes = [node for _, alike in shapes for node in alike]
    return {
        "partitions": [{**asdict(one), "nodes": len(one.nodes)} for one in partitions],
        "shape_partitions": {shape.name: sorted(alike[0].partitions) for shape, alike in shapes},
        "gres": sorted({name for node in nodes for name in node.gres}),
        "licenses": {one.name: one.total for one in transport.licenses()},
        "reservations": {one.name: {"users": list(one.users)} for one in transport.reservations()},
        **_accounting(transport),
    }


def _accounting(transport: Transport) -> Mapping[str, Any]:
    """``associations`` None: there is no database, and everybody may use everything."""
    if not transport.cluster().accounting:
        return {"associations": None, "qos": {}}
    by_user: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in transport.associations():
        row = asdict(one)
        by_user[row.pop("user")].append(row)
    return {"associations": dict(by_user), "qos": {one.name: asdict(one) for one in transport.qos()}}
