"""Native options: what a job may ask of Slurm beyond the common vocabulary, in sbatch's words.  Pure.

``OPTIONS`` is the whole allow-list.  Where one is said in several places, the later wins:

    options.defaults < what priority, preemptible, fabric are here < placement.slurm < placement.options.NAME

``null`` takes back what an earlier place has said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.slurm.log_links import fault_of as fault_of_a_link
from adapters.slurm.log_links import log_name
from adapters.slurm.native_values import (
    ADDRESS,
    CONSTRAINT,
    DEPENDENCY,
    LARGEST_NICE,
    LICENSES,
    NAME,
    CannotRead,
    Fields,
    Reader,
    gres,
    hosts,
    items,
    mail_types,
    memory,
    moment,
    one_line,
    shown,
    signal,
    switches,
    time_min,
    truth,
    whole,
)
from adapters.slurm.options import FabricOptions, Options
from api_spec.decisions import Refusal
from api_spec.jobs import Fabric, JobSpec
from api_spec.reasons import Reason

SIMPLE = re.compile(r"[A-Za-z0-9_.=+&-]+")
"""Constraints that mean the same when another one is joined to them by an &."""

# fmt: off
OPTIONS: Mapping[str, Reader] = {
    "partition":    items("partition", NAME, "gpu or gpu,long", joined=True),
    "account":      one_line("account", NAME, "vision"),
    "qos":          one_line("qos", NAME, "high"),
    "reservation":  items("reservation", NAME, "maintenance", joined=True),
    "wckey":        one_line("wckey", rf"\*?{NAME}", "thesis"),
    "constraint":   one_line("constraint", CONSTRAINT, "rack1&ib"),
    "licenses":     one_line("licenses", LICENSES, "matlab:2"),
    "gres":         gres,
    "switches":     switches,
    "nodelist":     hosts("required_nodes"),
    "exclude":      hosts("excluded_nodes"),
    "exclusive":    truth("exclusive"),
    "nice":         whole("nice", 0, LARGEST_NICE),          # below 0 is the administrator's
    "begin":        moment("begin_at"),
    "deadline":     moment("deadline_at"),
    "time_min":     time_min,
    "signal":       signal,
    "mail_type":    mail_types,
    "mail_user":    one_line("mail_user", ADDRESS, "ana@example.org"),
    "requeue":      truth("requeue"),
    "mem_per_cpu":  memory("memory_per_cpu_mib"),
    "cpus_per_gpu": whole("cpus_per_gpu", 1, 4096),
    "tmp":          memory("tmp_disk_mib"),
    "dependency":   items("dependency", DEPENDENCY, "afterok:1234", joined=True),
    "output":       log_name("log_output"),                  # a link to the log
    "error":        log_name("log_error"),
    "container_entrypoint": truth("container_entrypoint"),   # of the image: run before the command
    "container_writable":   truth("container_writable"),     # the image's own file system, while it runs
    "container_mount_home": truth("container_mount_home"),
}

# Words of sbatch that have a place of their own.
HINTS: Mapping[str, str] = {
    "comment":         "the comment is the broker's own; labels are for people",
    "job_name":        "the name is the broker's own; name is for people",
    "name":            "the name is the broker's own",
    "hold":            "hold is a field of the job",
    "array":           "array is a field of the job",
    "time":            "time_limit is a field of the job",
    "time_limit":      "time_limit is a field of the job",
    "nodes":           "say resources.nodes",
    "ntasks":          "say resources.tasks_per_node",
    "ntasks_per_node": "say resources.tasks_per_node",
    "cpus_per_task":   "say resources.cpus_per_task",
    "mem":             "say resources.memory_per_node",
    "gpus":            "say resources.gpus_per_node",
    "gpus_per_node":   "say resources.gpus_per_node",
    "chdir":           "working_directory is a field of the job",
    "export":          "environment is a field of the job",
    "uid":             "the operator says whom a job runs as",
    "user":            "the operator says whom a job runs as",
    "gid":             "the operator says whom a job runs as",
    "container":       "image is a field of the job",
}
# fmt: on


def fault_of(name: str, value: Any) -> str | None:
    """What is wrong with one option, as the end of a sentence; ``None``: nothing."""
    reader = OPTIONS.get(name)
    if reader is None:
        return f"is no option here: {HINTS.get(name) or 'known are ' + ', '.join(sorted(OPTIONS))}"
    try:
        if value is not None:
            reader(value)
    except CannotRead as error:
        return str(error)
    return None


# ---- what a job says ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """``pointer``: where in the job; ``None``: the operator says so."""

    value: Any
    pointer: str | None = None


def said(spec: JobSpec, options: Options, backend: str) -> dict[str, Said]:
    """Every native option of a job, by its name: the last word of each."""
    found = {name: Said(value) for name, value in options.defaults.items()}
    for row in (options.priorities.get(spec.priority), options.preemptible if spec.preemptible else None):
        found |= {name: Said(value) for name, value in (row or {}).items()}
    for pointer, given in places(spec, backend):
        found |= {name: Said(value, f"{pointer}/{escaped(name)}") for name, value in given.items()}
    return {name: one for name, one in found.items() if one.value is not None}


def places(spec: JobSpec, backend: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "/placement/slurm", spec.placement.slurm
    yield f"/placement/options/{backend}", spec.placement.options.get(backend, {})


def chosen(spec: JobSpec, options: Options, backend: str) -> dict[str, Any]:
    """As fields of a ``Submission``, ``container_*``, ``log_*``; of a job that ``refusals`` lets pass."""
    found: dict[str, Any] = {}
    for name, one in said(spec, options, backend).items():
        found |= OPTIONS[name](one.value)
    if spec.resources.memory_per_node_mib is not None:
        found.pop("memory_per_cpu_mib", None)  # a default of the operator's gives way
    if not spec.resources.gpus_per_node or spec.resources.cpus_per_task != 1:
        found.pop("cpus_per_gpu", None)
    found |= _with_fabric(fabric_of(spec, options), found)
    if feature := feature_for(spec, options):
        found["constraint"] = "&".join(filter(None, (feature, found.get("constraint"))))
    return found


def feature_for(spec: JobSpec, options: Options) -> str | None:
    """Of the nodes that can run its image, where not all can."""
    return options.container_feature if spec.image is not None else None


def _with_fabric(fabric: FabricOptions, own: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if fabric.switches is not None:
        found |= {"switches": fabric.switches, "switches_wait_s": None}
    if fabric.constraint is not None:
        found["constraint"] = "&".join(filter(None, (fabric.constraint, own.get("constraint"))))
    if fabric.gres is not None:
        found["gres"] = ",".join(filter(None, (own.get("gres"), fabric.gres)))
    return found


def fabric_of(spec: JobSpec, options: Options) -> FabricOptions:
    return options.fabrics.get(spec.resources.fabric, FabricOptions())


def refusals(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    """Of each place, also where a later one would have the last word."""
    for pointer, given in places(spec, backend):
        for name, value in given.items():
            where = f"{pointer}/{escaped(name)}"
            if name in OPTIONS and options.allowed is not None and name not in options.allowed:
                yield Refusal(
                    Reason.NOT_ALLOWED,
                    f"sets {name}; jobs of {backend} may set {', '.join(options.allowed) or 'nothing'}",
                    where,
                )
            elif fault := fault_of(name, value):
                code = Reason.INVALID_SPEC if name in OPTIONS else Reason.UNSUPPORTED
                yield Refusal(code, f"{shown(name).strip(chr(39))} {fault}", where)
    yield from _of_the_fabric(spec, options, backend)
    yield from _of_the_image(spec, options, backend)
    yield from _of_the_logs(spec, options, backend)


def _of_the_logs(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    found = said(spec, options, backend)
    for name in ("output", "error"):
        one = found.get(name)
        if (
            one is not None
            and fault_of(name, one.value) is None
            and (fault := fault_of_a_link(spec, one.value))
        ):
            yield Refusal(Reason.INVALID_SPEC, f"{name} {fault}", one.pointer)


def _of_the_fabric(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    fabric = spec.resources.fabric
    if fabric is not Fabric.NONE and fabric not in options.fabrics:
        known = ", ".join(sorted(options.fabrics)) or "none"
        yield Refusal(
            Reason.UNSUPPORTED, f"asks for the fabric {fabric}; {backend} has {known}", "/resources/fabric"
        )
        return
    row = fabric_of(spec, options)
    own = said(spec, options, backend)
    for name in ("constraint", "switches"):
        one, wanted = own.get(name), getattr(row, name)
        if one is None or wanted is None or (name == "switches" and one.pointer is None):
            continue
        if name == "switches" or not (SIMPLE.fullmatch(str(one.value)) and SIMPLE.fullmatch(wanted)):
            yield _not_joined(name, one, f"{wanted!r} of the fabric {fabric}", "/resources/fabric")


def _of_the_image(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    feature, own = feature_for(spec, options), said(spec, options, backend).get("constraint")
    fabric = fabric_of(spec, options).constraint
    for one, otherwise in ((own, "/image"), (fabric and Said(fabric), "/resources/fabric")):
        if feature and one and not SIMPLE.fullmatch(str(one.value)):
            yield _not_joined("constraint", one, f"{feature!r}, which nodes with Pyxis have", otherwise)


def _not_joined(name: str, one: Said, wanted: str, otherwise: str) -> Refusal:
    message = f"sets {name} to {shown(one.value)}, which cannot be joined with {wanted}"
    return Refusal(Reason.UNSUPPORTED, message, one.pointer or otherwise)


def escaped(name: str) -> str:
    """A name within a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
