"""How the value of a native option is read, each form into fields of a ``Submission``.  Pure.

Every form is narrow: no white space, no control characters, no leading dash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from api_spec.quantities import InvalidQuantity, parse_duration, parse_memory
from api_spec.times import from_rfc3339

Fields = Mapping[str, Any]
Reader = Callable[[Any], Fields]


class CannotRead(ValueError):
    """The message goes on after the option's name: "needs ..."."""


# ---- values ------------------------------------------------------------------------------------------

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}"
RANGES = r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*"
HOSTS = rf"[A-Za-z0-9_][A-Za-z0-9_.-]*(\[{RANGES}\][A-Za-z0-9_.-]*)*"
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
WARNED_BEFORE_S = 60  # what sbatch means by a signal without a time
LARGEST_NICE = 2147483645
LONGEST = 4096
"""Arbitrary; more than anybody writes."""
MOST_HOSTS = 10_000
"""slurmctld writes every name out, and does nothing else meanwhile: for a few brackets more, for ever."""


def one_line(field: str, pattern: str, like: str) -> Reader:
    """Text of that form, or a list of such with commas between where the form allows them."""
    compiled = re.compile(pattern)

    def read(value: Any) -> Fields:
        if not isinstance(value, str) or len(value) > LONGEST or compiled.fullmatch(value) is None:
            raise CannotRead(f"needs text such as {like}, not {shown(value)}")
        return {field: value}

    return read


def items(field: str, pattern: str, like: str, *, joined: bool) -> Reader:
    """Text with commas, or a list; commas within brackets part nothing."""
    compiled = re.compile(pattern)

    def read(value: Any) -> Fields:
        parts = _parts(value) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not parts or len(str(value)) > LONGEST:
            raise CannotRead(f"needs a list or text such as {like}, not {shown(value)}")
        for part in parts:
            if not isinstance(part, str) or compiled.fullmatch(part) is None:
                raise CannotRead(f"needs a list or text such as {like}; it holds {shown(part)}")
        return {field: ",".join(parts) if joined else tuple(parts)}

    return read


def hosts(field: str) -> Reader:
    """As ``items``, of nodes with ranges in brackets."""
    read_items = items(field, HOSTS, "n[1-4],n7", joined=False)

    def read(value: Any) -> Fields:
        found = read_items(value)
        count = sum(_named_by(part) for part in found[field])
        if count > MOST_HOSTS:
            raise CannotRead(f"names {count} nodes; {MOST_HOSTS} are the most")
        return found

    return read


def _named_by(part: str) -> int:
    """How many names it stands for, which are not written out for that."""
    return math.prod(
        sum(_length(one) for one in ranges.split(",")) for ranges in re.findall(rf"\[({RANGES})\]", part)
    )


def _length(one: str) -> int:
    first, _, last = one.partition("-")
    length = int(last or first) - int(first) + 1
    if length < 1:
        raise CannotRead(f"has a range of nodes that ends before it begins, {one}")
    return length


def whole(field: str, least: int, most: int) -> Reader:
    def read(value: Any) -> Fields:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CannotRead(f"needs a whole number from {least} to {most}, not {shown(value)}")
        return {field: value}

    return read


def truth(field: str) -> Reader:
    def read(value: Any) -> Fields:
        if not isinstance(value, bool):
            raise CannotRead(f"needs true or false, not {shown(value)}")
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
            raise CannotRead(f"needs a time such as 2026-11-22T02:00:00Z, not {shown(value)}") from error

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
        raise CannotRead(f"needs a number of switches, such as 1 or 1@10:00, not {shown(value)}")
    if not at:
        return {"switches": int(count)}
    try:
        seconds = _wait_s(wait)
    except InvalidQuantity as error:
        raise CannotRead(f"waits {shown(wait)}, which is no time such as 10:00") from error
    return {"switches": int(count), "switches_wait_s": seconds}


def _wait_s(text: str) -> int:
    """sbatch counts minutes where it sees one number, and minutes and seconds where it sees two."""
    found = re.fullmatch("([0-9]{1,6})(?::([0-9]{2}))?", text)
    return int(found[1]) * 60 + int(found[2] or 0) if found else parse_duration(text)


def signal(value: Any) -> Fields:
    """``"B:USR1@60"``: the script itself gets it; without ``B:`` its steps do."""
    found = SIGNAL.fullmatch(value) if isinstance(value, str) else None
    if found is None or not (found[2].isdecimal() or found[2] in SIGNAL_NAMES):
        raise CannotRead(f"needs a signal such as USR1@60 or B:TERM@120, not {shown(value)}")
    seconds = int(found[3] or WARNED_BEFORE_S)
    if not 1 <= seconds <= 65535 or (found[2].isdecimal() and not 1 <= int(found[2]) <= 64):
        raise CannotRead("needs a signal from 1 to 64 and from 1 to 65535 seconds")
    return {"warning_signal": found[2], "warning_s": seconds, "warning_to_batch": bool(found[1])}


def mail_types(value: Any) -> Fields:
    parts = _parts(value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not parts or not all(isinstance(part, str) for part in parts):
        raise CannotRead(f"needs words such as END,FAIL, not {shown(value)}")
    words = tuple(part.upper() for part in parts)
    if strange := sorted(set(words) - MAIL_TYPES):
        raise CannotRead(f"does not know {shown(strange[0])}; there are {', '.join(sorted(MAIL_TYPES))}")
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
    return [part.strip(" ") for part in re.split(r",(?![^\[]*\])", text)]


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
