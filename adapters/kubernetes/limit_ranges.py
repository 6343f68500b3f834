"""What the LimitRanges of a namespace make of a pod with one container, and refuse of it.  Pure.

``Inventory.details["tenancy"][NAMESPACE]["limits"]``:

    [{"name", "of": "Container" or "Pod", "max", "min", "limit", "request", "ratio": {"cpu": 4.0}}]

``limit`` and ``request`` are what a container gets that does not say.  Of GPUs and the like only what is
asked for is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.kubernetes.capacity import sizes
from adapters.kubernetes.names import Manifest, member, rows

KINDS = ("Container", "Pod")
ALWAYS = ("cpu", "memory")
MIB = 2.0**20
Sizes = dict[str, float]


def read(found: Sequence[Manifest]) -> list[dict[str, Any]]:
    return [
        {
            "name": str(member(one, "metadata", "name")),
            "of": row["type"],
            "max": sizes(row.get("max")),
            "min": sizes(row.get("min")),
            "ratio": sizes(row.get("maxLimitRequestRatio")),
            **(_given(row) if row["type"] == "Container" else {"limit": {}, "request": {}}),
        }
        for one in found
        for row in rows(member(one, "spec", "limits"))
        if row.get("type") in KINDS
    ]


def _given(row: Mapping[str, Any]) -> dict[str, Sizes]:
    """What is left out of a row the API server fills from its others."""
    limit = {**sizes(row.get("max")), **sizes(row.get("default"))}
    return {"limit": limit, "request": {**sizes(row.get("min")), **limit, **sizes(row.get("defaultRequest"))}}


@dataclass(frozen=True)
class Amount:
    """Of one resource, as the pod will have it; ``None``: no such number."""

    name: str
    asked: float | None  # by the job
    request: float | None
    limit: float | None


def faults(
    asked: Mapping[str, float], found: Sequence[Mapping[str, Any]], namespace: str
) -> Iterator[tuple[str, str]]:
    """Resource and sentence.  ``asked``: requests of the pod, which are its limits too, but for CPUs."""
    limits, requests = _agreed(found, "limit"), _agreed(found, "request")
    for name in sorted({*asked, *ALWAYS}):
        own = asked.get(name)
        if (own is None or name == "cpu") and None in (limits.get(name, 0), requests.get(name, 0)):
            continue  # nobody can say which of several defaults it gets
        limit = own if own is not None and name != "cpu" else limits.get(name)
        amount = Amount(name, own, own if own is not None else requests.get(name), limit)
        for one in found:
            if (why := _fault(amount, one)) is not None:
                yield name, why.format(limit=f"the limit {one['name']} of {namespace}")


def _agreed(found: Sequence[Mapping[str, Any]], which: str) -> dict[str, float | None]:
    """``None``: several LimitRanges say different things, and the API server takes one of them."""
    said: dict[str, set[float]] = defaultdict(set)
    for one in found:
        for name, amount in one[which].items():
            said[name].add(amount)
    return {name: amounts.pop() if len(amounts) == 1 else None for name, amounts in said.items()}


def _fault(amount: Amount, found: Mapping[str, Any]) -> str | None:
    """In the order of the API server's own checks, but for the default, which makes a pod that cannot be."""
    name, request, limit = amount.name, amount.request, amount.limit
    top, least, ratio = (found[table].get(name) for table in ("max", "min", "ratio"))
    has = _told(amount, found["of"].lower())
    if top is not None and request is not None and request > top:
        return f"{has}; {{limit}} allows {size(name, top)}"
    if top is not None and limit is None:
        return f"has no limit of {name}; {{limit}} wants one of at most {size(name, top)}"
    if top is not None and limit is not None and limit > top:
        return f"may use {size(name, limit)} of {name} by default; {{limit}} allows {size(name, top)}"
    if name in found["limit"] and request is not None and limit is not None and request > limit:
        return f"{has}; {{limit}} makes {size(name, limit)} the most of a container that does not say"
    if least is not None and request is None:
        return f"asks for no {name}; {{limit}} wants at least {size(name, least)}"
    if least is not None and request is not None and request < least:
        return f"{has}; {{limit}} wants at least {size(name, least)}"
    return _beyond_the_ratio(amount, has, ratio) if ratio else None


def _beyond_the_ratio(amount: Amount, has: str, ratio: float) -> str | None:
    if not amount.request:
        return f"asks for no {amount.name}; {{limit}} wants some, and a limit of at most {ratio:g} times that"
    if amount.limit is None:
        return f"has no limit of {amount.name}; {{limit}} wants one of at most {ratio:g} times the request"
    if amount.limit / amount.request > ratio:
        most = size(amount.name, amount.limit)
        return f"{has} and may use {most}; {{limit}} allows {ratio:g} times as much"
    return None


def _told(amount: Amount, kind: str) -> str:
    if amount.asked is None:
        return f"gets {size(amount.name, amount.request or 0.0)} of {amount.name} by default"
    return f"asks for {size(amount.name, amount.asked)} of {amount.name} a {kind}"


def size(name: str, amount: float) -> str:
    return f"{round(amount / MIB)}Mi" if name.endswith("memory") else f"{amount:g}"
