"""What the LimitRanges of a namespace make of a pod with one container, and refuse of it.  Pure.

``Inventory.details["tenancy"][NAMESPACE]["limits"]``:

    [{"name", "of": "Container" or "Pod", "max", "min", "default", "ratio": {"cpu": 4.0}}]

The API server adds what is left out before it looks: a default limit below what a job asks for makes a pod
that cannot be.  Of GPUs and the like only what is asked for is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.kubernetes.capacity import quantity
from adapters.kubernetes.names import Manifest, member, rows

TABLES = {"max": "max", "min": "min", "default": "default", "ratio": "maxLimitRequestRatio"}
KINDS = ("Container", "Pod")
ALWAYS = ("cpu", "memory")
MIB = 2.0**20


def read(found: Sequence[Manifest]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(member(one, "metadata", "name")),
            "of": row["type"],
            **{ours: sizes(row.get(theirs)) for ours, theirs in TABLES.items()},
        }
        for one in found
        for row in rows(member(one, "spec", "limits"))
        if row.get("type") in KINDS
    ]


def sizes(found: Any) -> dict[str, float]:
    return {str(key): quantity(one) for key, one in found.items()} if isinstance(found, Mapping) else {}


def faults(
    asked: Mapping[str, float], found: Sequence[Mapping[str, Any]], namespace: str
) -> Iterator[tuple[str, str]]:
    """Resource and sentence.  ``asked``: requests of the pod, which are its limits too, but for CPUs."""
    default = _defaults(found)
    for limit in found:
        told = f"the limit {limit['name']} of {namespace}"
        for name in sorted({*asked, *ALWAYS}):
            request, most = asked.get(name), asked.get(name) if name != "cpu" else default.get(name)
            if (why := _fault(name, limit, request, most)) is not None:
                yield name, why.format(limit=told)


def _defaults(found: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Of limits; the first that says one."""
    default: dict[str, float] = {}
    for limit in found:
        if limit["of"] == "Container":
            default = {**limit["default"], **default}
    return default


def _fault(name: str, limit: Mapping[str, Any], request: float | None, most: float | None) -> str | None:
    """``most``: the limit that the pod will have, its own or by default."""
    kind = limit["of"].lower()
    top, least, ratio = (limit[table].get(name) for table in ("max", "min", "ratio"))
    default = limit["default"].get(name) if name == "cpu" else None
    if request is None:  # a container is given a default
        wants = least if limit["of"] == "Pod" else None
        return f"asks for no {name}; {{limit}} wants {size(name, wants)} a pod" if wants else None
    asks = f"asks for {size(name, request)} of {name} a {kind}"
    if top is not None and request > top:
        return f"{asks}; {{limit}} allows {size(name, top)}"
    if top is not None and most is None and limit["of"] == "Pod":
        return f"has no limit of {name}; {{limit}} wants one of at most {size(name, top)} a pod"
    if default is not None and request > default:
        return f"{asks}; {{limit}} makes {size(name, default)} the most of a container that does not say"
    if least is not None and request < least:
        return f"{asks}; {{limit}} wants at least {size(name, least)}"
    if ratio and most is None:
        return f"has no limit of {name}; {{limit}} wants one of at most {ratio:g} times what is asked for"
    if ratio and request and most is not None and most / request > ratio:
        return f"{asks} and may use {size(name, most)}; {{limit}} allows {ratio:g} times as much"
    return None


def size(name: str, amount: float) -> str:
    return f"{round(amount / MIB)}Mi" if name.endswith("memory") else f"{amount:g}"
