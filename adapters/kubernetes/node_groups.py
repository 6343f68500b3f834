"""Nodes that a cluster autoscaler would bring: of what it has taken away only the operator knows.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.kubernetes import capacity
from adapters.kubernetes.capacity import Node
from adapters.kubernetes.options import NodeGroup, Options


def absent(nodes: Sequence[Node], options: Options) -> list[Node]:
    """What each group may still grow by; as nodes that take no pods now, of which nothing is free."""
    out: list[Node] = []
    for group in options.node_groups:
        out += [_node(group, options)] * (group.most - sum(_belongs(one, group) for one in nodes))
    return out


def _belongs(node: Node, group: NodeGroup) -> bool:
    return group.labels.items() <= node.labels.items()


def _node(group: NodeGroup, options: Options) -> Node:
    has = dict(group.resources)
    return capacity.node(
        {
            "metadata": {"name": "absent", "labels": dict(group.labels)},
            "status": {"capacity": has, "allocatable": has},
        },
        options,
    )
