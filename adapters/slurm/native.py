"""Native options: what a job may ask of Slurm beyond the common vocabulary, in sbatch's words.  Pure.

``OPTIONS`` is the whole allow-list.  Where one is said in several places, the later wins:

    options.defaults < what priority, preemptible, fabric are here < placement.slurm < placement.options.NAME

``null`` takes back what an earlier place has said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.slurm.options import FabricOptions, Options
from api_spec.decisions import Refusal
from api_spec.jobs import Fabric, JobSpec
from api_spec.quantities import InvalidQuantity, parse_duration, parse_memory
from api_spec.reasons import Reason
from api_spec.times import from_rfc3339

Fields = Mapping[str, Any]
Reader = Callable[[Any], Fields]


class CannotRead(ValueError):
    """The message goes on after the option's name: "needs ..."."""


# ---- values ------------------------------------------------------------------------------------------

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"
HOSTS = r"[A-Za-z0-9_.-]+(\[[0-9,-]+\][A-Za-z0-9_.-]*)*"
GRES = r"[A-Za-z0-9_]+(:[A-Za-z0-9_.+-]+)?(:[0-9]+)?"
CONSTRAINT = r"[A-Za-z0-9_\[(][A-Za-z0-9_.&|,*\[\]()=:+/-]{0,1023}"
LICENSES = r"[A-Za-z0-9_][A-Za-z0-9_.@:/+-]*([,|][A-Za-z0-9_][A-Za-z0-9_.@:/+-]*)*"
ADDRESS = r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,253}"  # a leading dash would be an option of the mail program
DEPENDENCY = r"(after|afterany|afterok|afternotok|aftercorr)(:[0-9]+(_[0-9]+)?(\+[0-9]+)?)+"
SIGNAL = re.compile(r"(B:)?(?:SIG)?([A-Z]{2,9}[0-9]?|[0-9]{1,2})(?:@([0-9]{1,5}))?")
# fmt: off
SIGNAL_NAMES = frozenset({
    "HUP", "INT", "QUIT", "ABRT", "KILL", "ALRM", "TERM", "USR1", "USR2", "URG", "CONT", "STOP",
    "TSTP", "TTIN", "TTOU",
})
MAIL_TYPES = frozenset({
    "NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "INVALID_DEPEND", "STAGE_OUT", "TIME_LIMIT",
    "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50", "ARRAY_TASKS",
})
# fmt: on
SIMPLE = re.compile(r"[A-Za-z0-9_.=+&-]+")
"""Constraints that mean the same when another one is joined to them by an &."""
WARNED_BEFORE_S = 60  # what sbatch means by a signal without a time
LARGEST_NICE = 2147483645


def one_line(field: str, pattern: str, like: str) -> Reader:
    """Text of that form, or a list of such with commas between where the form allows them."""
    compiled = re.compile(pattern)

    def read(value: Any) -> Fields:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise CannotRead(f"needs text such as {like}, not {_shown(value)}")
        return {field: value}

    return read


def items(field: str, pattern: str, like: str, *, joined: bool) -> Reader:
    """Text with commas, or a list; commas within brackets part nothing."""
    compiled = re.compile(pattern)

    def read(value: Any) -> Fields:
        parts = _parts(value) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not parts:
            raise CannotRead(f"needs a list or text such as {like}, not {_shown(value)}")
        for part in parts:
            if not isinstance(part, str) or compiled.fullmatch(part) is None:
                raise CannotRead(f"needs a list or text such as {like}; it holds {_shown(part)}")
        return {field: ",".join(parts) if joined else tuple(parts)}

    return read


def whole(field: str, least: int, most: int) -> Reader:
    def read(value: Any) -> Fields:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CannotRead(f"needs a whole number from {least} to {most}, not {_shown(value)}")
        return {field: value}

    return read


def truth(field: str) -> Reader:
    def read(value: Any) -> Fields:
        if not isinstance(value, bool):
            raise CannotRead(f"needs true or false, not {_shown(value)}")
        return {field: value}

    return read


def memory(field: str) -> Reader:
    def read(value: Any) -> Fields:
        try:
            return {field: parse_memory(value)}
        except InvalidQuantity as error:
            raise CannotRead(f"needs an amount such as 4GiB: {error}") from error

    return read


def moment(field: str) -> Reader:
    """A time of the calendar: one that counts from now would move with every attempt."""

    def read(value: Any) -> Fields:
        try:
            return {field: from_rfc3339(value)}
        except (ValueError, TypeError) as error:
            raise CannotRead(f"needs a time such as 2026-11-22T02:00:00Z, not {_shown(value)}") from error

    return read


def time_min(value: Any) -> Fields:
    try:
        return {"time_min_min": minutes(parse_duration(value))}
    except InvalidQuantity as error:
        raise CannotRead(f"needs a duration such as 30m: {error}") from error


def switches(value: Any) -> Fields:
    """``1`` or ``"1@10:00"``: so many, and how long to wait for them."""
    count, at, wait = str(value).partition("@")
    if isinstance(value, bool) or not re.fullmatch("[1-9][0-9]{0,3}", count):
        raise CannotRead(f"needs a number of switches, such as 1 or 1@10:00, not {_shown(value)}")
    if not at:
        return {"switches": int(count)}
    try:
        # sbatch counts minutes where it sees one number
        seconds = int(wait) * 60 if re.fullmatch("[0-9]{1,6}", wait) else parse_duration(wait)
    except InvalidQuantity as error:
        raise CannotRead(f"waits {_shown(wait)}, which is no time such as 10:00") from error
    return {"switches": int(count), "switches_wait_s": seconds}


def signal(value: Any) -> Fields:
    """``"B:USR1@60"``: the script itself gets it; without ``B:`` its steps do."""
    found = SIGNAL.fullmatch(value) if isinstance(value, str) else None
    if found is None or not (found[2].isdecimal() or found[2] in SIGNAL_NAMES):
        raise CannotRead(f"needs a signal such as USR1@60 or B:TERM@120, not {_shown(value)}")
    seconds = int(found[3] or WARNED_BEFORE_S)
    if not 1 <= seconds <= 65535 or (found[2].isdecimal() and not 1 <= int(found[2]) <= 64):
        raise CannotRead("needs a signal from 1 to 64 and from 1 to 65535 seconds")
    return {"warning_signal": found[2], "warning_s": seconds, "warning_to_batch": bool(found[1])}


def mail_types(value: Any) -> Fields:
    parts = _parts(value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise CannotRead(f"needs words such as END,FAIL, not {_shown(value)}")
    words = tuple(part.upper() for part in parts)
    if strange := sorted(set(words) - MAIL_TYPES):
        raise CannotRead(f"does not know {_shown(strange[0])}; there are {', '.join(sorted(MAIL_TYPES))}")
    return {"mail_types": words}


def gres(value: Any) -> Fields:
    found = items("gres", GRES, "shard:2 or nic:mlx5:1", joined=True)(value)
    if any(part.split(":")[0] == "gpu" for part in found["gres"].split(",")):
        raise CannotRead("cannot ask for GPUs; say gpus_per_node, gpu_type and mig_profile under resources")
    return found


def minutes(seconds: int) -> int:
    """Slurm counts in whole minutes; rounded up, so that no job gets less than it asked for."""
    return -(-seconds // 60)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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
    "nodelist":     items("required_nodes", HOSTS, "n[1-4],n7", joined=False),
    "exclude":      items("excluded_nodes", HOSTS, "n[1-4],n7", joined=False),
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
    "output":          "the broker names the log files, and shows them",
    "error":           "the broker names the log files, and shows them",
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
    """As fields of a ``Submission``, and ``container_*``.  Only for a job that ``refusals`` lets pass."""
    found: dict[str, Any] = {}
    for name, one in said(spec, options, backend).items():
        found |= OPTIONS[name](one.value)
    fabric = fabric_of(spec, options)
    if fabric.switches is not None:
        found |= {"switches": fabric.switches, "switches_wait_s": None}
    if fabric.constraint is not None:
        found["constraint"] = "&".join(filter(None, (fabric.constraint, found.get("constraint"))))
    if fabric.gres is not None:
        found["gres"] = ",".join(filter(None, (found.get("gres"), fabric.gres)))
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
                yield Refusal(code, f"{_shown(name).strip(chr(39))} {fault}", where)
    yield from _of_the_fabric(spec, options, backend)


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
            yield Refusal(
                Reason.UNSUPPORTED,
                f"sets {name} to {_shown(one.value)}, which cannot be joined with {wanted!r} of the fabric "
                f"{fabric}",
                one.pointer or "/resources/fabric",
            )


def escaped(name: str) -> str:
    """A name within a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
