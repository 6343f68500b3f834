"""What a cluster has and what is free, from its nodes and the pods on them.  Pure.

``Inventory.details`` of this adapter:

    resources    {name of an extended resource: the most that one node has}
    products     [values of the label nvidia.com/gpu.product]
    labels       {label: [its values]}; null: too many values to be told, so that any may be there
    shapes       {name of a shape: resources and labels of the nodes that have it}
    namespaces   those that exist, of the configured ones; null: nobody may tell
    tenancy      what each of them allows: ``tenancy``
    apis         {group of the API server: [versions of it that are served]}
    device_classes  names of DeviceClasses; null: nobody may tell, or there is no DRA
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.base import Inventory, Load, NodeShape, ShapeLoad
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.options import Options, Toleration
from adapters.kubernetes.pods import GPU_TAINT, PRODUCT, SLICE, profile_of

MOST_VALUES = 100
"""Of a label; one with more, such as the host name, tells nodes apart and not sorts of them."""
COUNT = "nvidia.com/gpu.count"
HARD = ("NoSchedule", "NoExecute")
"""Effects of a taint that keep pods away."""
CORE = frozenset({"cpu", "memory", "pods", "ephemeral-storage"})
QUANTITY = re.compile(r"([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)?")
# fmt: off
FACTORS = {
    None: 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50, "Ei": 2.0**60,
}
# fmt: on


def quantity(value: Any) -> float:
    """0 for what is none: a node that says nonsense has nothing to give."""
    found = QUANTITY.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    size = float(found[1]) * FACTORS[found[2]] if found else 0.0
    return size if math.isfinite(size) else 0.0


def sizes(found: Any) -> dict[str, float]:
    """Of a table of quantities; empty for what is none."""
    return {str(name): quantity(one) for name, one in found.items()} if isinstance(found, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class Node:
    """What it has is what it has on a good day: a drain, a reboot or a new driver passes."""

    name: str
    takes_pods: bool
    """Of the broker, now."""
    cpus: int
    memory_mib: int
    gpus: int
    healthy_gpus: int
    product: str | None
    labels: Mapping[str, str]
    extended: Mapping[str, int]
    gpus_by_type: Mapping[str, int]
    slices: Mapping[str, int]

    @property
    def shape(self) -> str:
        parts = [f"{self.cpus}cpu", f"{self.memory_mib}mib"]
        others = sorted(name for name in self.extended if self.extended[name])
        parts += [f"{self.extended[name]}x{name}" for name in others]
        return "-".join([*parts, *([self.product] if self.product else [])])


def node(found: Manifest, options: Options) -> Node:
    """``options``: what jobs and the cluster call its GPUs, and the taints that pods stand beside."""
    whole, now = (sizes(member(found, "status", which)) for which in ("capacity", "allocatable"))
    # Where the driver of a device is away, none can be allocated; CPUs are never all the job's.
    has = {
        **whole,
        **now,
        **{name: max(whole.get(name, 0.0), now[name]) for name in now if _is_extended(name)},
    }
    labels = member(found, "metadata", "labels")
    labels = {str(key): str(one) for key, one in labels.items()} if isinstance(labels, Mapping) else {}
    extended = {name: int(size) for name, size in has.items() if _is_extended(name)}
    extended = _with_driver(extended, labels, options)
    gpus, product = extended.get(options.gpu_resource, 0), labels.get(PRODUCT)
    return Node(
        name=str(member(found, "metadata", "name")),
        takes_pods=_takes_pods(found, options),
        cpus=int(has.get("cpu", 0.0)),
        memory_mib=int(has.get("memory", 0.0)) >> 20,
        gpus=gpus,
        healthy_gpus=int(now.get(options.gpu_resource, 0.0)),
        product=product,
        labels=labels,
        extended=extended,
        gpus_by_type={name: gpus for name in _names_of(product, options) if gpus},
        slices=_slices(extended, options),
    )


def _with_driver(extended: dict[str, int], labels: Mapping[str, str], options: Options) -> dict[str, int]:
    """After some minutes without it, and after a reboot, the kubelet counts 0; the label of the feature
    discovery stays.  Where all GPUs are sliced, 0 is what there is."""
    name, count = options.gpu_resource, labels.get(COUNT, "")
    is_away = extended.get(name) == 0 and not any(extended[one] for one in extended if one.startswith(SLICE))
    return {**extended, name: int(count)} if is_away and re.fullmatch("[0-9]{1,3}", count) else extended


def _takes_pods(found: Manifest, options: Options) -> bool:
    ready = [one for one in rows(member(found, "status", "conditions")) if one.get("type") == "Ready"]
    if member(found, "spec", "unschedulable") or not ready or ready[0].get("status") != "True":
        return False
    taints = [one for one in rows(member(found, "spec", "taints")) if one.get("effect") in HARD]
    return all(any(_stands(one, taint) for one in [GPU_TAINT, *options.tolerations]) for taint in taints)


def _stands(one: Toleration, taint: Mapping[str, Any]) -> bool:
    """As the scheduler decides it."""
    alike = one.operator == "Exists" or (one.value or "") == (taint.get("value") or "")
    return one.key in (None, taint.get("key")) and one.effect in (None, taint.get("effect")) and alike


def _names_of(product: str | None, options: Options) -> list[str]:
    """A job may say the type as the label does, or as the operator translates it."""
    said = [one for one, known in options.gpu_types.items() if known == product]
    return [product, *said] if product is not None else []


def _slices(extended: Mapping[str, int], options: Options) -> dict[str, int]:
    named = {profile_of(one): one for one in extended if one.startswith(SLICE)}
    wanted = {**named, **options.mig_profiles}
    return {one: extended[name] for one, name in wanted.items() if extended.get(name)}


def _is_extended(name: str) -> bool:
    return name not in CORE and not name.startswith("hugepages-")


def inventory(
    nodes: Sequence[Node],
    namespaces: Sequence[str] | None,
    as_of: float,
    tenancy: Mapping[str, Any] | None = None,
    apis: Mapping[str, Sequence[str]] | None = None,
    device_classes: Sequence[str] | None = None,
) -> Inventory:
    grouped = _by_shape(nodes)
    return Inventory(
        as_of=as_of,
        shapes=tuple(_shape(name, some) for name, some in sorted(grouped.items())),
        features=frozenset(one.product for one in nodes if one.product),
        details={
            "resources": _most(nodes),
            "products": sorted({one.product for one in nodes if one.product}),
            "labels": _labels(nodes),
            "shapes": {
                name: {"resources": _most(some), "labels": _labels(some)} for name, some in grouped.items()
            },
            "namespaces": list(namespaces) if namespaces is not None else None,
            "tenancy": dict(tenancy or {}),
            "apis": {group: list(versions) for group, versions in (apis or {}).items()},
            "device_classes": list(device_classes) if device_classes is not None else None,
        },
    )


def _by_shape(nodes: Iterable[Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = defaultdict(list)
    for one in nodes:
        if one.cpus and one.memory_mib:
            found[one.shape].append(one)
    return found


def _shape(name: str, some: Sequence[Node]) -> NodeShape:
    first = some[0]
    return NodeShape(
        name=name,
        count=len(some),
        cpus=first.cpus,
        memory_mib=first.memory_mib,
        gpus=first.gpus,
        gpu_type=first.product,
        gpus_by_type=first.gpus_by_type,
        slices=first.slices,
    )


def _most(nodes: Iterable[Node]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for one in nodes:
        for name, count in one.extended.items():
            found[name] = max(found[name], count)
    return dict(found)


def _labels(nodes: Iterable[Node]) -> dict[str, list[str] | None]:
    """Nodes of one shape may stand in several racks and zones."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in nodes:
        for name, value in one.labels.items():
            found[name].add(value)
    return {name: sorted(some) if len(some) <= MOST_VALUES else None for name, some in found.items()}


# ---- what is free -------------------------------------------------------------------------------------


def load(nodes: Sequence[Node], pods: Sequence[Manifest], gpu_resource: str, as_of: float) -> Load:
    """``pods``: of everybody, as far as the broker may see them; what it may not see looks free.  A node that
    takes none now has nothing free."""
    live = [one for one in pods if member(one, "status", "phase") in ("Pending", "Running")]
    used, busy = _used(live), {_node_of(one) for one in live if not _comes_with_the_node(one)}
    return Load(
        as_of=as_of,
        shapes=tuple(
            _free(name, some, used, busy, gpu_resource) for name, some in sorted(_by_shape(nodes).items())
        ),
        queued_count=sum(1 for one in live if not member(one, "spec", "nodeName")),
        running_count=sum(1 for one in live if member(one, "status", "phase") == "Running"),
    )


def _used(live: Iterable[Manifest]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for one in live:
        if name := _node_of(one):
            for container in rows(member(one, "spec", "containers")):
                found[name].update(_asks(container))
    return found


def _node_of(pod: Manifest) -> str | None:
    name = member(pod, "spec", "nodeName")
    return name if isinstance(name, str) and name else None


def _comes_with_the_node(pod: Manifest) -> bool:
    """Of a DaemonSet, or of the node's own: each node has some, so that none would ever be free."""
    return any(
        one.get("kind") in ("DaemonSet", "Node") for one in rows(member(pod, "metadata", "ownerReferences"))
    )


def _asks(container: Mapping[str, Any]) -> Counter[str]:
    limits, requests = member(container, "resources", "limits"), member(container, "resources", "requests")
    asked = {**(limits if isinstance(limits, Mapping) else {})}
    asked = {name: one for name, one in asked.items() if _is_extended(str(name))}
    asked |= requests if isinstance(requests, Mapping) else {}
    # In thousandths, since a Counter counts whole things.
    return Counter({str(name): round(1000 * quantity(one)) for name, one in asked.items()})


def _free(
    name: str,
    some: Sequence[Node],
    used: Mapping[str, Counter[str]],
    busy: Collection[str | None],
    gpu_resource: str,
) -> ShapeLoad:
    cpus = memory_mib = gpus = nodes = 0
    for one in some:
        if not one.takes_pods:
            continue
        taken = used.get(one.name, Counter())
        free = max(0, one.cpus - -(-taken["cpu"] // 1000))
        cpus += free
        memory_mib += max(0, one.memory_mib - (taken["memory"] // 1000 >> 20))
        gpus += max(0, one.healthy_gpus - taken[gpu_resource] // 1000)
        nodes += one.name not in busy
    return ShapeLoad(name=name, free_nodes=nodes, free_cpus=cpus, free_memory_mib=memory_mib, free_gpus=gpus)
