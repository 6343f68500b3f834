"""Native options: what a job may ask of Kubernetes beyond the common vocabulary.  Pure.

``placement.options.NAME`` goes before ``placement.kubernetes``.  ``MEANINGS`` says what each is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.quantities import InvalidQuantity, parse_memory
from api_spec.reasons import Reason

LONGEST_GRACE_S = 3600
PLACES = ("zone", "host", "rack")
HOW = ("preferred", "required")
LABEL_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
QUEUE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
FOREIGN = re.compile(r"(.*\.)?(kubernetes|k8s)\.io/.*")
KNOWN_OF_KUBERNETES = frozenset(
    {
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
    }
)


@dataclass(frozen=True, kw_only=True)
class Native:
    grace_s: int = 30
    shared_memory_mib: int = 64
    node_labels: Mapping[str, str] = field(default_factory=dict)
    queue: str | None = None
    spread: Mapping[str, str] = field(default_factory=dict)
    same_rack: str | None = None
    canary: int | None = None


class CannotRead(ValueError):
    """The message says what is wrong with the value of an option."""


def _grace(value: Any) -> Mapping[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LONGEST_GRACE_S:
        raise CannotRead(f"is {value!r} and not a whole number of seconds up to {LONGEST_GRACE_S}")
    return {"grace_s": value}


def _shared_memory(value: Any) -> Mapping[str, Any]:
    try:
        return {"shared_memory_mib": parse_memory(value)}
    except (InvalidQuantity, TypeError, AttributeError) as error:
        raise CannotRead(f"is {value!r} and not a size such as 2GiB") from error


def _node_labels(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise CannotRead(f"is {value!r} and not a table of labels")
    for name, one in value.items():
        if not isinstance(one, str) or not LABEL_NAME.fullmatch(str(name)) or not LABEL_VALUE.fullmatch(one):
            raise CannotRead(f"has {name!r}: {one!r}, which is no label")
        if FOREIGN.fullmatch(name) and name not in KNOWN_OF_KUBERNETES:
            raise CannotRead(f"has {name}, which would name a node and not a sort of nodes")
    return {"node_labels": dict(value)}


def _queue(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, str) or not QUEUE.fullmatch(value):
        raise CannotRead(f"is {value!r} and not the name of a queue")
    return {"queue": value}


def _spread(value: Any) -> Mapping[str, Any]:
    """A place alone is preferred."""
    asked = {value: "preferred"} if isinstance(value, str) else value
    if not isinstance(asked, Mapping) or not asked or not set(asked) <= set(PLACES):
        raise CannotRead(f"is {value!r} and not one of {', '.join(PLACES)}, or a table of them")
    for place, how in asked.items():
        if how not in HOW:
            raise CannotRead(f"has {place}: {how!r}, and not {' or '.join(HOW)}")
    return {"spread": dict(asked)}


def _same_rack(value: Any) -> Mapping[str, Any]:
    if value not in HOW:
        raise CannotRead(f"is {value!r} and not {' or '.join(HOW)}")
    return {"same_rack": value}


def _canary(value: Any) -> Mapping[str, Any]:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 100:
        raise CannotRead(f"is {value!r} and not a whole number of percent")
    return {"canary": value}


OPTIONS: Mapping[str, Callable[[Any], Mapping[str, Any]]] = {
    "grace_s": _grace,
    "shared_memory": _shared_memory,
    "node_labels": _node_labels,
    "queue": _queue,
    "spread": _spread,
    "same_rack": _same_rack,
    "canary": _canary,
}
MEANINGS: Mapping[str, str] = {
    "grace_s": f"seconds between SIGTERM and SIGKILL, 0 to {LONGEST_GRACE_S}; 30 by default",
    "shared_memory": 'size of `/dev/shm`, such as "2GiB"; by default `shared_memory_mib`',
    "node_labels": "table of labels and values that the nodes must have; of Kubernetes' own only "
    + ", ".join(f"`{name}`" for name in sorted(KNOWN_OF_KUBERNETES)),
    "queue": "LocalQueue of Kueue in the namespace; by default that of `queues` or `queue`",
    "spread": "`zone`, `host` or `rack`, over which the pods of a service, an array or a job on several "
    'nodes are spread as evenly as can be; or a table such as `{zone = "required", host = "preferred"}`, '
    "where pods rather wait than break what is required",
    "same_rack": "`preferred` or `required`: the nodes of a job on several are of one rack, by the backend's "
    "`rack_label`",
    "canary": "percent of the calls that a new revision gets at first; always refused so far, with what the "
    "cluster would need",
}


def chosen(spec: JobSpec, options: Options, backend: str) -> Native:
    """Of a job that has passed ``refusals``."""
    queue = options.queues.get(spec.project or "", options.queue)
    found = Native(shared_memory_mib=options.shared_memory_mib, queue=queue)
    for _, name, value in _said(spec, backend):
        found = replace(found, **OPTIONS[name](value))
    return found


def refusals(spec: JobSpec, backend: str) -> Iterator[Refusal]:
    for pointer, name, value in _said(spec, backend):
        if name not in OPTIONS:
            message = f"sets the option {name}, which this backend does not have; it has {', '.join(OPTIONS)}"
            yield Refusal(Reason.UNSUPPORTED, message, pointer)
            continue
        try:
            OPTIONS[name](value)
        except CannotRead as error:
            yield Refusal(Reason.INVALID_SPEC, f"{name} {error}", pointer)


def _said(spec: JobSpec, backend: str) -> Iterator[tuple[str, str, Any]]:
    for above, given in (
        ("/placement/kubernetes", spec.placement.kubernetes),
        (f"/placement/options/{backend}", spec.placement.options.get(backend, {})),
    ):
        for name, value in given.items():
            yield f"{above}/{name}", name, value
