"""Does the cluster hold this job, and may this user ask for it: against the last inventory.  Pure.

``Inventory.details`` of this adapter; what is not in it is not known, and refuses nothing:

    partitions        [{"name", "default", "time_limit_min", "allowed_accounts", "denied_accounts",
                        "allowed_qos", "denied_qos", ...}]
    shape_partitions  {name of a shape: [partitions]}
    associations      {user: [{"account", "partition", "qos", "default_qos", "is_default"}]}; or null
    qos               {name: {"time_limit_min", "tres_per_job", "tres_per_user"}}
    licenses          {name: total}        gres    [names]
    reservations      {name: {"users"}}, as Slurm has them: none for everybody, "-ana" for all but ana

How large an array may be, no API tells: Slurm says so itself.  Nor whether nodes have Pyxis, unless they
have a feature for it (``container_feature``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.base import Inventory, NodeShape
from adapters.slurm import native
from adapters.slurm.native_values import minutes
from adapters.slurm.options import Options
from adapters.slurm.render import gpus
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.quantities import format_duration, format_memory
from api_spec.reasons import Reason

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One job before one inventory; ``user`` None: nobody in particular."""

    spec: JobSpec
    inventory: Inventory
    options: Options
    backend: str
    user: str | None
    said: Mapping[str, native.Said]
    chosen: Mapping[str, Any]

    def known(self, name: str) -> Any:
        """Of the details; ``None``: nobody knows."""
        return self.inventory.details.get(name)

    def pointer(self, option: str, otherwise: str | None = None) -> str | None:
        """Of a native option; the operator's own defaults stand in no job."""
        one = self.said.get(option)
        return otherwise if one is None else one.pointer


def refusals(
    spec: JobSpec, inventory: Inventory, options: Options, backend: str, user: str | None
) -> list[Refusal]:
    said, chosen = native.said(spec, options, backend), native.chosen(spec, options, backend)
    asked = Question(
        spec=spec,
        inventory=inventory,
        options=options,
        backend=backend,
        user=user,
        said=said,
        chosen=chosen,
    )
    return [
        *_names(asked),
        *_accounts(asked),
        *_of_the_qos(asked),
        *_gres(asked),
        *_partitions(asked),
    ]


# ---- names that have to exist ------------------------------------------------------------------------


def _names(asked: Question) -> Iterator[Refusal]:
    for option, detail in (("reservation", "reservations"), ("qos", "qos")):
        known, wanted = asked.known(detail), asked.chosen.get(option)
        if wanted is None or known is None or (option == "qos" and not known):
            continue
        for name in wanted.split(","):
            if name not in known:
                yield Refusal(
                    Reason.UNSUPPORTED,
                    f"asks for the {option} {name}; {asked.backend} has {_list(known)}",
                    asked.pointer(option),
                )
    yield from _reservations(asked)
    yield from _licenses(asked)


def _reservations(asked: Question) -> Iterator[Refusal]:
    """Accounts are Slurm's to judge: those below a reserved one may use it too."""
    known, wanted = asked.known("reservations"), asked.chosen.get("reservation")
    if wanted is None or asked.user is None or not isinstance(known, Mapping):
        return
    for name in wanted.split(","):
        users = known.get(name, {}).get("users", ())
        barred = {one[1:] for one in users if one.startswith("-")}
        if (users and not barred and asked.user not in users) or asked.user in barred:
            sentence = f"asks for the reservation {name}, which is not for {asked.user}"
            yield Refusal(Reason.NOT_ALLOWED, sentence, asked.pointer("reservation"))


def _licenses(asked: Question) -> Iterator[Refusal]:
    known, wanted = asked.known("licenses"), asked.chosen.get("licenses")
    if wanted is None or known is None or "|" in wanted:
        return
    for part in wanted.split(","):
        found = re.fullmatch("(.*?)(?::([0-9]+))?", part)
        name, count = (found[1], int(found[2] or 1)) if found else (part, 1)
        if name not in known:
            sentence = f"asks for the license {name}; {asked.backend} has {_list(known)}"
            yield Refusal(Reason.UNSUPPORTED, sentence, asked.pointer("licenses"))
        elif count > known[name]:
            sentence = f"asks for {count} licenses {name}; there are {known[name]}"
            yield Refusal(Reason.NEVER_FITS, sentence, asked.pointer("licenses"))


def _gres(asked: Question) -> Iterator[Refusal]:
    known = asked.known("gres")
    if known is None:
        return
    kinds = {one.split(":")[0] for one in known}
    for part in (asked.chosen.get("gres") or "").split(","):
        name, *rest = part.split(":")
        kind = f"{name}:{rest[0]}" if rest and not rest[0].isdecimal() else name
        if part and kind not in known and kind not in kinds:
            sentence = f"asks for {kind} on each node; {asked.backend} has {_list(known)}"
            yield Refusal(Reason.NEVER_FITS, sentence, asked.pointer("gres", "/resources/fabric"))
    if asked.spec.resources.mig_profile is not None:
        slices = (gpus(asked.spec, asked.options) or "").rpartition(":")[0]
        if slices not in known:
            sentence = f"asks for {slices}; {asked.backend} has {_list(known)}"
            yield Refusal(Reason.NEVER_FITS, sentence, "/resources/mig_profile")


# ---- accounts and QOS --------------------------------------------------------------------------------


def _rows(asked: Question) -> Sequence[Row] | None:
    """The user's associations that go with account and partition; ``None``: not known or not enforced."""
    known = asked.known("associations")
    if known is None or asked.user is None:
        return None
    account = asked.chosen.get("account")
    rows = [row for row in known.get(asked.user, ()) if account in (None, row["account"])]
    wanted = (asked.chosen.get("partition") or "").split(",")
    return [row for row in rows if not any(wanted) or row.get("partition") in (None, *wanted)]


def _accounts(asked: Question) -> Iterator[Refusal]:
    rows = _rows(asked)
    if rows is None or "associations" not in asked.options.enforced:
        return
    account, qos = asked.chosen.get("account"), asked.chosen.get("qos")
    if not rows:
        has = _list(sorted({row["account"] for row in asked.known("associations").get(asked.user, ())}))
        asks = f"asks for the account {account}" if account else "asks for no account"
        where = f" in the partition {asked.chosen['partition']}" if asked.chosen.get("partition") else ""
        sentence = f"{asks}{where}; {asked.user} has {has} at {asked.backend}"
        yield Refusal(Reason.NOT_ALLOWED, sentence, asked.pointer("account"))
    elif "qos" in asked.options.enforced and qos is not None and not any(qos in row["qos"] for row in rows):
        has = _list(sorted({name for row in rows for name in row["qos"]}))
        sentence = f"asks for the QOS {qos}; {asked.user} may use {has}"
        yield Refusal(Reason.NOT_ALLOWED, sentence, asked.pointer("qos"))


def _own(asked: Question, option: str, default: str) -> str | None:
    """Account or QOS that the job will have: its own, or that of the user's default association."""
    if (wanted := asked.chosen.get(option)) is not None:
        return str(wanted)
    rows = _rows(asked) or ()
    account = asked.chosen.get("account")
    return next((row[default] for row in rows if row.get("is_default") or account), None)


def _of_the_qos(asked: Question) -> Iterator[Refusal]:
    name = _own(asked, "qos", "default_qos")
    row = (asked.known("qos") or {}).get(name)
    if row is None or "limits" not in asked.options.enforced:
        return
    yield from _time(asked, row.get("time_limit_min"), f"the QOS {name}")
    amounts = _tres(asked)
    for limits in (row.get("tres_per_job") or {}, row.get("tres_per_user") or {}):
        for tres, most in limits.items():
            wanted, field = amounts.get(tres, (0, ""))
            if wanted > most:
                sentence = f"asks for {wanted} of {tres}; the QOS {name} allows {most:g}"
                yield Refusal(Reason.NEVER_FITS, sentence, field)


def _tres(asked: Question) -> dict[str, tuple[int, str]]:
    """What the job asks for in all, as Slurm counts it, and the field that says so."""
    wanted = asked.spec.resources
    return {
        "node": (wanted.nodes, "/resources/nodes"),
        "cpu": (wanted.nodes * wanted.cpus_per_node, "/resources/cpus_per_task"),
        "mem": (wanted.nodes * (wanted.memory_per_node_mib or 0), "/resources/memory_per_node"),
        "gres/gpu": (wanted.nodes * wanted.gpus_per_node, "/resources/gpus_per_node"),
    }


# ---- partitions and nodes ----------------------------------------------------------------------------


def _partitions(asked: Question) -> Iterator[Refusal]:
    """One of those that the job names has to take it; of several that do not, the nearest is told."""
    known: Mapping[str, Row] = {row["name"]: row for row in asked.known("partitions") or ()}
    said = asked.chosen.get("partition")
    wanted = said.split(",") if said else [name for name, row in known.items() if row.get("default")]
    if not known or not wanted:
        yield from _nodes(asked, asked.inventory.shapes, asked.backend)
        return
    for name in wanted:
        if name not in known:
            sentence = f"asks for the partition {name}; {asked.backend} has {_list(known)}"
            yield Refusal(Reason.UNSUPPORTED, sentence, asked.pointer("partition"))
    found = [list(_partition(asked, known[name])) for name in wanted if name in known]
    if found:
        yield from min(found, key=len)


def _partition(asked: Question, row: Row) -> Iterator[Refusal]:
    name = row["name"]
    for option, default in (("account", "account"), ("qos", "default_qos")):
        own = _own(asked, option, default) if _rows(asked) != [] else None  # that has been told
        words = "accounts" if option == "account" else "qos"
        allowed, denied = row.get(f"allowed_{words}") or (), row.get(f"denied_{words}") or ()
        if own is not None and ((allowed and own not in allowed) or own in denied):
            only = f"takes {_list(allowed)}" if allowed else f"does not take {_list(denied)}"
            sentence = f"comes with the {option} {own}; the partition {name} {only}"
            yield Refusal(Reason.NOT_ALLOWED, sentence, asked.pointer(option) or asked.pointer("partition"))
    yield from _time(asked, row.get("time_limit_min"), f"the partition {name}")
    of_shapes = asked.known("shape_partitions")
    if of_shapes is not None:
        shapes = [shape for shape in asked.inventory.shapes if name in of_shapes.get(shape.name, ())]
        yield from _nodes(asked, shapes, f"the partition {name}")


def _time(asked: Question, most_min: int | None, where: str) -> Iterator[Refusal]:
    wanted_s = asked.spec.time_limit_s
    least_min = asked.chosen.get("time_min_min")
    if wanted_s is None or most_min is None or min(minutes(wanted_s), least_min or 2**31) <= most_min:
        return
    sentence = f"asks for {format_duration(wanted_s)}; {where} allows {format_duration(most_min * 60)}"
    yield Refusal(Reason.NEVER_FITS, sentence, "/time_limit")


def _nodes(asked: Question, shapes: Sequence[NodeShape], where: str) -> Iterator[Refusal]:
    fitting = sum(shape.count for shape in shapes if not list(_lacks(asked, shape)))
    if fitting >= asked.spec.resources.nodes:
        return
    if fitting:
        nodes = asked.spec.resources.nodes
        sentence = f"asks for {nodes} nodes; {where} has {fitting} that are large enough"
        yield Refusal(Reason.NEVER_FITS, sentence, "/resources/nodes")
    elif not shapes:
        yield Refusal(Reason.NEVER_FITS, f"{where} has no nodes", asked.pointer("partition"))
    else:
        nearest = min((list(_lacks(asked, shape)) for shape in shapes), key=len)
        for sentence, field in nearest:
            yield Refusal(Reason.NEVER_FITS, f"{sentence} of {where} has", field)


def _lacks(asked: Question, shape: NodeShape) -> Iterator[tuple[str, str | None]]:
    wanted = asked.spec.resources
    memory = wanted.memory_per_node_mib or 0
    if shape.cpus < wanted.cpus_per_node:
        sentence = f"asks for {wanted.cpus_per_node} CPUs a node; {shape.cpus} is what the nearest node"
        yield sentence, "/resources/cpus_per_task"
    if shape.memory_mib < memory:
        has = f"{format_memory(shape.memory_mib)} is what the nearest node"
        yield f"asks for {format_memory(memory)} a node; {has}", "/resources/memory_per_node"
    if wanted.mig_profile is None:
        yield from _lacks_gpus(asked, shape)
    lacking = [one for one in _features(asked.chosen.get("constraint")) if not one & shape.features]
    if lacking and lacking[0] == {native.feature_for(asked.spec, asked.options)}:
        names = f"the feature {asked.options.container_feature}, as nodes with Pyxis have here"
        yield f"runs an image, which needs nodes with {names}; {_has_features(shape)}", "/image"
    elif lacking:
        names = " or ".join(sorted(lacking[0]))
        yield (
            f"asks for nodes with {names}; {_has_features(shape)}",
            asked.pointer("constraint") or "/resources/fabric",
        )


def _has_features(shape: NodeShape) -> str:
    return f"{_list(sorted(shape.features))} is what the nearest node"


def _lacks_gpus(asked: Question, shape: NodeShape) -> Iterator[tuple[str, str]]:
    wanted = asked.spec.resources
    count = shape.gpus if wanted.gpu_type is None else _of_type(asked, shape, wanted.gpu_type)
    if wanted.gpu_type is not None and not count:
        kinds = ", ".join(shape.gpus_by_type) or shape.gpu_type or "none"
        has = f"{kinds} is what the nearest node"
        yield f"asks for GPUs of type {wanted.gpu_type}; {has}", "/resources/gpu_type"
    if min(count or shape.gpus, shape.gpus) < wanted.gpus_per_node:
        kind = f" of type {wanted.gpu_type}" if count and wanted.gpu_type else ""
        has = f"{count or shape.gpus} is what the nearest node"
        sentence = f"asks for {wanted.gpus_per_node} GPUs{kind} a node; {has}"
        yield sentence, "/resources/gpus_per_node"


def _of_type(asked: Question, shape: NodeShape, wanted: str) -> int:
    """An inventory of an older release has one type a node."""
    own = shape.gpus if shape.gpu_type in (wanted, asked.options.gpu_types.get(wanted, wanted)) else 0
    return shape.gpus_by_type.get(wanted, own)


def _features(constraint: str | None) -> list[set[str]]:
    """Sets of which each node needs one: of "a&b" and "a|b"; what is less simple is Slurm's to judge."""
    if constraint is None:
        return []
    if re.fullmatch(r"[A-Za-z0-9_.=+-]+(&[A-Za-z0-9_.=+-]+)*", constraint):
        return [{name} for name in constraint.split("&")]
    if re.fullmatch(r"[A-Za-z0-9_.=+-]+(\|[A-Za-z0-9_.=+-]+)*", constraint):
        return [set(constraint.split("|"))]
    return []


def _list(names: Any) -> str:
    """At most ten; a cluster can have hundreds."""
    found = list(names)
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return (", ".join(found[:10]) or "none") + more
