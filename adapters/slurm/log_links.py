"""Where a user wants to find the logs, in sbatch's words: a link to them is put there.  Pure.

The broker reads logs only where it has put them itself: it may read more than the user who names a file.  As
under sbatch both streams go into one where only ``output`` is said.  The script makes the link as the user,
each time it starts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.slurm.native_values import LONGEST, CannotRead, Fields, Reader, shown
from adapters.slurm.paths import TASK, Paths
from api_spec.jobs import JobSpec

NOWHERE = "/dev/null"  # no link; the log is kept all the same
_NAME = re.compile(r"[A-Za-z0-9_./%][A-Za-z0-9_./%@+-]*(?<!/)")
_PLACE = re.compile(r"%([0-9]{0,2})(.?)", re.DOTALL)
# What only the node knows, as the shell of the batch script has it; 0 stands for the first node and process.
_IN_SHELL: Mapping[str, str] = {
    "j": '"$SLURM_JOB_ID"',
    "J": '"$SLURM_JOB_ID"',
    "A": '"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"',
    "a": TASK,
    "u": '"$SLURM_JOB_USER"',
    "N": '"$SLURMD_NODENAME"',
    "n": "0",
    "t": "0",
}
_NUMBERS = frozenset("jJAant")


def log_name(field: str) -> Reader:
    """A file, with sbatch's %j, %A, %a, %x, %u, %N, %n and %t."""

    def read(value: Any) -> Fields:
        if not isinstance(value, str) or len(value) > LONGEST or _NAME.fullmatch(value) is None:
            raise CannotRead(f"needs the name of a file such as logs/%x-%j.out, not {shown(value)}")
        if value != NOWHERE and value.startswith(("/dev/", "/proc/", "/sys/")):
            raise CannotRead(f"needs a file or {NOWHERE}, not {shown(value)}")
        for width, letter in _PLACE.findall(value):
            if letter not in ("%", "x", *_IN_SHELL) or (width and letter not in _NUMBERS):
                known = ", ".join(f"%{one}" for one in ("x", *_IN_SHELL))
                raise CannotRead(f"holds %{width}{letter}, which is none of {known} and %%")
        return {field: value}

    return read


def fault_of(spec: JobSpec, value: str) -> str | None:
    """What is wrong with it for this job, as the end of a sentence."""
    if value == NOWHERE:
        return None
    letters = {letter for _, letter in _PLACE.findall(value)}
    if spec.array is None and "a" in letters:
        return "holds %a, the task of an array, and this is none"
    if spec.array is not None and not letters & set("ajJ"):
        return "needs %a or %j: each task of an array has a log of its own"
    if spec.image is not None and not value.startswith("/"):
        return "needs a whole path: the working directory is one of the container's"
    return None


def in_shell(spec: JobSpec, paths: Paths, native: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Link and log of each stream that has one, both quoted."""
    for field, log in (("log_output", paths.stdout), ("log_error", paths.stderr)):
        wanted = native.get(field, NOWHERE)
        if wanted != NOWHERE and not (field == "log_error" and are_one(native)):
            before, task, after = log.partition("%a") if paths.array else (log, "", "")
            target = shlex.quote(before) + (f"{TASK}{shlex.quote(after)}" if task else "")
            yield _expanded(wanted, spec.name), target


def are_one(native: Mapping[str, Any]) -> bool:
    """Both streams go into one log, in the order in which they were written."""
    output = native.get("log_output")
    return output is not None and native.get("log_error", output) == output


def _expanded(pattern: str, name: str) -> str:
    words, at = [], 0
    for found in _PLACE.finditer(pattern):
        words.append(shlex.quote(pattern[at : found.start()]))
        words.append(_word(found[1], found[2], name))
        at = found.end()
    words.append(shlex.quote(pattern[at:]))
    return "".join(word for word in words if word != "''")


def _word(width: str, letter: str, name: str) -> str:
    if letter == "%":
        return "%"
    if letter == "x":
        return shlex.quote(name)
    word = _IN_SHELL[letter]
    return f'"$(printf %0{int(width)}d {word})"' if width and int(width) else word
