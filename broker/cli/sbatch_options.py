"""The options of sbatch that a job can carry, as a table.  Pure; the only module that knows their meaning.

``OPTIONS`` is the whole list of what is carried over; each reader writes its part of the specification, or
raises ``CannotCarry``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]


class CannotCarry(ValueError):
    """One option, or its value, has no place in a job; the message is the end of a sentence about it."""


@dataclass
class Draft:
    """What the directives have said so far; sums over nodes and tasks are made when all are read."""

    spec: Spec
    environ: Mapping[str, str]
    totals: dict[str, int] = field(default_factory=dict)

    def put(self, path: str, value: Any) -> None:
        """``path`` such as ``resources.nodes``; the last directive wins, as in sbatch."""
        *parents, last = path.split(".")
        at = self.spec
        for name in parents:
            at = at.setdefault(name, {})
        at[last] = value

    def resource(self, name: str, default: int = 1) -> int:
        return int(self.spec.get("resources", {}).get(name, default))


def put_gpus(draft: Draft, count: int) -> None:
    """--gpus-per-node, --gpus-per-task, --gpus and --gres=gpu may say the same, and nothing else."""
    before = draft.resource("gpus_per_node", count)
    if before != count:
        raise CannotCarry(f"means {count} GPUs a node, and another option {before}; say it once")
    draft.put("resources.gpus_per_node", count)


Reader = Callable[[Draft, str], None]

# ---- values ------------------------------------------------------------------------------------------

BROKER_ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}", re.IGNORECASE)
MEMORY = re.compile(r"(\d+)([KMGT]?)B?", re.IGNORECASE)
KIB = {"K": 1, "": 1024, "M": 1024, "G": 1024**2, "T": 1024**3}
WHEN = {"after": "started", "afterok": "succeeded", "afternotok": "failed", "afterany": "ended"}


def number(text: str) -> int:
    if not text.isdecimal():
        raise CannotCarry(f"needs one number, not {text!r}")
    return int(text)


def positive(text: str) -> int:
    if number(text) == 0:
        raise CannotCarry("must be at least 1")
    return number(text)


def memory_mib(text: str) -> int:
    """Slurm counts in 1024 and means MiB when it says no unit; KiB are rounded up."""
    match = MEMORY.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise CannotCarry(f"needs an amount such as 4G, not {text!r} (0 would mean the whole node)")
    return -(-int(match[1]) * KIB[match[2].upper()] // 1024)


def time_limit(text: str) -> str:
    """Minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, as ``D-HH:MM:SS``."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in [*parts, *([days] if dash else [])]) or len(parts) > 3:
        raise CannotCarry(f"needs a time such as 90 or 1-02:00:00, not {text!r}; a job always has an end")
    values = [int(part) for part in parts]
    if dash:
        hours, minutes, seconds = [*values, 0, 0][:3]
    elif len(values) == 3:
        hours, minutes, seconds = values
    else:
        hours, (minutes, seconds) = 0, [*values, 0][:2]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total == 0:
        raise CannotCarry("0 means without a limit, which a job cannot ask for")
    day, rest = divmod(total, 86400)
    return f"{day}-{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def gpus(text: str) -> tuple[str | None, int]:
    """``2``, ``a100`` (one of them) or ``a100:2``."""
    kind, colon, count = text.rpartition(":")
    if not colon and not count.isdecimal():
        kind, count = count, "1"
    if "," in text or ":" in kind or not count.isdecimal():
        raise CannotCarry(f"needs one type of GPU and a number, such as a100:2, not {text!r}")
    return kind or None, int(count)


# ---- readers -----------------------------------------------------------------------------------------


def to(path: str, convert: Callable[[str], Any] = str) -> Reader:
    return lambda draft, text: draft.put(path, convert(text))


def flag(path: str, value: Any = True) -> Reader:
    """A value that sbatch allows after it (``--exclusive=user``) is kept."""
    return lambda draft, text: draft.put(path, text or value)


def total(name: str, convert: Callable[[str], int] = positive) -> Reader:
    return lambda draft, text: draft.totals.__setitem__(name, convert(text))


def nothing(draft: Draft, text: str) -> None:
    """Says how sbatch talks, and nothing about the job."""


def gpu_reader(total_name: str | None) -> Reader:
    def read(draft: Draft, text: str) -> None:
        kind, count = gpus(text)
        if kind:
            draft.put("resources.gpu_type", kind)
        if total_name is None:
            put_gpus(draft, count)
        else:
            draft.totals[total_name] = count

    return read


def gres(draft: Draft, text: str) -> None:
    """GPUs are fields of a job; the rest is Slurm's own."""
    parts = [part.removeprefix("gres/").removeprefix("gres:") for part in text.split(",")]
    of_gpus = [part for part in parts if part.partition(":")[0] == "gpu"]
    if len(of_gpus) > 1:
        raise CannotCarry(f"needs one type of GPU and a number, such as gpu:a100:2, not {text!r}")
    for part in of_gpus:
        gpu_reader(None)(draft, part.partition(":")[2] or "1")
    if others := [part for part in parts if part not in of_gpus]:
        draft.put("placement.slurm.gres", ",".join(others))


def open_mode(draft: Draft, text: str) -> None:
    if not "append".startswith(text.lower()):
        raise CannotCarry("only append: nothing that a job has written before it was requeued goes")


def array(draft: Draft, text: str) -> None:
    indices, percent, running = text.partition("%")
    wanted: Spec = {"indices": indices}
    if percent:
        wanted["max_running"] = positive(running)
    draft.put("array", wanted)


def dependency(draft: Draft, text: str) -> None:
    if "?" in text:
        raise CannotCarry("alternatives (?) have no counterpart: a job waits for all it names")
    wanted: list[Spec] = []
    for part in text.split(","):
        word, *ids = part.split(":")
        if word not in WHEN or not ids:
            raise CannotCarry(f"{part!r} has no counterpart; known are {', '.join(WHEN)}, each with job ids")
        for job in ids:
            if not BROKER_ID.fullmatch(job):
                raise CannotCarry(f"{job!r} is not a job of this broker; submit that job here and use its id")
            wanted.append({"job": job.upper(), "when": WHEN[word]})
    draft.put("depends_on", wanted)


def export(draft: Draft, text: str) -> None:
    """``NAME=VALUE`` and ``NAME`` (as it is in this shell); the rest of the shell is never sent."""
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if part == "NONE":
            continue
        if part in ("ALL", "NIL"):
            raise CannotCarry(f"{part} would send the whole shell; name the variables that the job needs")
        if not equals:
            if name not in draft.environ:
                raise CannotCarry(f"{name} is not set in this shell")
            value = draft.environ[name]
        draft.put(f"environment.{name}", value)


def mounts(draft: Draft, text: str) -> None:
    volumes = []
    for part in text.split(","):
        source, _, rest = part.partition(":")
        target, _, mode = rest.partition(":")
        if mode not in ("", "ro", "rw"):
            raise CannotCarry(f"the mount flag {mode!r} has no counterpart")
        volumes.append({"source": source, "mount_path": target or source, "read_only": mode == "ro"})
    draft.put("volumes", volumes)


@dataclass(frozen=True)
class Option:
    """``value``: True it needs one, False it takes none, None it may have one (only after ``=``)."""

    read: Reader
    short: str = ""
    value: bool | None = True


# fmt: off
OPTIONS: dict[str, Option] = {
    "job-name":        Option(to("name"), "J"),
    "time":            Option(to("time_limit", time_limit), "t"),
    "nodes":           Option(to("resources.nodes", positive), "N"),
    "ntasks":          Option(total("tasks"), "n"),
    "ntasks-per-node": Option(to("resources.tasks_per_node", positive)),
    "cpus-per-task":   Option(to("resources.cpus_per_task", positive), "c"),
    "mem":             Option(total("memory", memory_mib)),
    "mem-per-cpu":     Option(total("memory_per_cpu", memory_mib)),
    "mem-per-gpu":     Option(total("memory_per_gpu", memory_mib)),
    "gres":            Option(gres),
    "gpus-per-node":   Option(gpu_reader(None)),
    "gpus":            Option(gpu_reader("gpus"), "G"),
    "gpus-per-task":   Option(gpu_reader("gpus_per_task")),
    "array":           Option(array, "a"),
    "dependency":      Option(dependency, "d"),
    "export":          Option(export),
    "chdir":           Option(to("working_directory"), "D"),
    "hold":            Option(flag("hold"), "H", value=False),
    "container-image":  Option(to("image")),
    "container-mounts": Option(mounts),
    "partition":       Option(to("placement.slurm.partition"), "p"),
    "account":         Option(to("placement.slurm.account"), "A"),
    "qos":             Option(to("placement.slurm.qos"), "q"),
    "constraint":      Option(to("placement.slurm.constraint"), "C"),
    "reservation":     Option(to("placement.slurm.reservation")),
    "nice":            Option(lambda draft, text: draft.put("placement.slurm.nice", number(text or "100")),
                              value=None),                       # 100: what sbatch means by a bare --nice
    "requeue":         Option(flag("placement.slurm.requeue"), value=False),
    "no-requeue":      Option(flag("placement.slurm.requeue", False), value=False),
    "exclusive":       Option(flag("placement.slurm.exclusive"), value=None),
    "licenses":        Option(to("placement.slurm.licenses"), "L"),
    "nodelist":        Option(to("placement.slurm.nodelist"), "w"),
    "exclude":         Option(to("placement.slurm.exclude"), "x"),
    "signal":          Option(to("placement.slurm.signal")),
    "wckey":           Option(to("placement.slurm.wckey")),
    "switches":        Option(to("placement.slurm.switches")),
    "time-min":        Option(to("placement.slurm.time_min", time_limit)),
    "tmp":             Option(to("placement.slurm.tmp", lambda text: f"{memory_mib(text)}MiB")),
    "cpus-per-gpu":    Option(to("placement.slurm.cpus_per_gpu", positive)),
    "mail-type":       Option(to("placement.slurm.mail_type")),
    "mail-user":       Option(to("placement.slurm.mail_user")),
    "output":          Option(to("placement.slurm.output"), "o"),
    "error":           Option(to("placement.slurm.error"), "e"),
    "open-mode":       Option(open_mode),
    "parsable":        Option(nothing, value=False),
    "quiet":           Option(nothing, "Q", value=False),
    "verbose":         Option(nothing, "v", value=False),
}

# Refused like every other unknown option, with a hint for those that scripts often have.
HINTS: dict[str, str] = {
    "comment":   "the comment is the broker's own; labels are for people",
    "begin":     "other backends would start it at once; in a job file say placement.slurm.begin",
    "deadline":  "other backends would run it all the same; in a job file say placement.slurm.deadline",
    "wrap":      "write the command into the script",
    "input":     "a job reads nothing from a terminal; redirect it within the script",
}
# fmt: on

LONG_OF_SHORT = {option.short: name for name, option in OPTIONS.items() if option.short} | {
    "b": "begin",
    "i": "input",
}
