"""What a service's own objects tell of it beside its Deployment: where it answers, and whether its number of
replicas is being looked after.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters.kubernetes.names import MARKER, Manifest, member, rows
from adapters.kubernetes.records import conditions
from adapters.kubernetes.resources import AUTOSCALERS, SERVICES, Resource

NOT_WANTED = "ScalingDisabled"
"""Of a service without replicas: cancelled, or scaled to nothing by hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Belonging:
    """What one object tells."""

    marker: str
    uid: str
    port: int | None = None
    idle: str | None = None  # why the autoscaler changes nothing


Belongings = Mapping[str, Sequence[Belonging]]
"""By marker."""


def service(found: Manifest) -> Belonging | None:
    first = next(iter(rows(member(found, "spec", "ports"))), None)
    port = member(first, "port")
    return _belonging(found, port=port if isinstance(port, int) else None)


def autoscaler(found: Manifest) -> Belonging | None:
    return _belonging(found, idle=why_idle(found))


def why_idle(found: Manifest) -> str | None:
    """It says so by conditions that do not hold; before its first look it has none."""
    told = conditions(member(found, "status"))
    for word in ("AbleToScale", "ScalingActive"):
        one = told.get(word)
        if one is not None and one.status == "False" and one.reason != NOT_WANTED:
            return f"its autoscaler changes nothing: {one.message or one.reason}"
    return None


def _belonging(found: Manifest, *, port: int | None = None, idle: str | None = None) -> Belonging | None:
    marker, uid = member(found, "metadata", "labels", MARKER), member(found, "metadata", "uid")
    if not isinstance(marker, str) or not isinstance(uid, str):
        return None
    return Belonging(marker=marker, uid=uid, port=port, idle=idle)


OPTIONAL = frozenset({AUTOSCALERS})
"""Without the right to read them nothing is said of them, and all else is seen."""
READERS: Mapping[Resource, Callable[[Manifest], Belonging | None]] = {
    SERVICES: service,
    AUTOSCALERS: autoscaler,
}
