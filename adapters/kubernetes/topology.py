"""Where the pods of one attempt stand to each other: spread over zones and nodes, or together in a rack.

Pure.  The job says how (``placement.kubernetes``: ``spread``, ``same_rack``); which label of a node names its
rack is the operator's to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.base import Inventory
from adapters.kubernetes import native
from adapters.kubernetes.names import MARKER, REVISION, Manifest
from adapters.kubernetes.native import Native
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

LABELS: Mapping[str, str] = {"zone": "topology.kubernetes.io/zone", "host": "kubernetes.io/hostname"}
WHEN_IT_CANNOT = {"preferred": "ScheduleAnyway", "required": "DoNotSchedule"}
MOST_WEIGHT = 100


def label_of(place: str, options: Options) -> str | None:
    """``None``: the operator has not said what a rack is."""
    return options.rack_label if place == "rack" else LABELS[place]


# ---- refused ------------------------------------------------------------------------------------------


def refusals(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    wanted = native.chosen(spec, options, backend)
    if wanted.same_rack is not None and spec.resources.nodes == 1:
        message = "asks for nodes of the same rack; only a job on several nodes has any"
        yield Refusal(Reason.UNSUPPORTED, message, "/placement/kubernetes/same_rack")
    if wanted.spread and not (spec.is_service or spec.array or spec.resources.nodes > 1):
        message = "asks to be spread; it has one pod"
        yield Refusal(Reason.UNSUPPORTED, message, "/placement/kubernetes/spread")
    if options.rack_label is None and _racks(wanted):
        message = f"sets {_racks(wanted)}; this backend does not know what a rack is (option rack_label)"
        yield Refusal(Reason.UNSUPPORTED, message, f"/placement/kubernetes/{_racks(wanted)}")


def _racks(wanted: Native) -> str | None:
    """The option that speaks of racks."""
    if wanted.same_rack is not None:
        return "same_rack"
    return "spread" if "rack" in wanted.spread else None


def never(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    """What is required of a label that no node has; without it no node is ever chosen."""
    wanted, known = native.chosen(spec, options, backend), inventory.details.get("labels", {})
    asked = [("spread", place) for place, how in wanted.spread.items() if how == "required"]
    asked += [("same_rack", "rack")] if wanted.same_rack == "required" else []
    for option, place in asked:
        label = label_of(place, options)
        if label not in known:
            message = f"requires {option} by the label {label}; no node of the cluster has it"
            yield Refusal(Reason.NEVER_FITS, message, f"/placement/kubernetes/{option}")


# ---- rendered -----------------------------------------------------------------------------------------


def members(spec: JobSpec, native: Native, options: Options, marker: str) -> Manifest:
    """Of the pod's spec."""
    found: Manifest = {}
    if native.spread:
        found["topologySpreadConstraints"] = list(_spread(spec, native, options, marker))
    if native.same_rack is not None:
        found["affinity"] = {"podAffinity": _together(native.same_rack, options, marker)}
    return found


def _spread(spec: JobSpec, native: Native, options: Options, marker: str) -> Iterator[Manifest]:
    for place, how in native.spread.items():
        constraint: Manifest = {
            "maxSkew": 1,
            "topologyKey": label_of(place, options),
            "whenUnsatisfiable": WHEN_IT_CANNOT[how],
            "labelSelector": {"matchLabels": {MARKER: marker}},
        }
        if spec.is_service:  # else replicas that are about to go would count
            constraint["matchLabelKeys"] = [REVISION]
        yield constraint


def _together(how: str, options: Options, marker: str) -> Manifest:
    """The scheduler lets the first pod go anywhere, since it is of the sort that it wants beside it."""
    term = {"topologyKey": options.rack_label, "labelSelector": {"matchLabels": {MARKER: marker}}}
    if how == "required":
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    weighed = {"weight": MOST_WEIGHT, "podAffinityTerm": term}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [weighed]}
