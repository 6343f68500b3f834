"""How Slurm writes numbers, words, resources and lists of nodes, in every dialect.  Pure.

number    7, null, -1, {"set": true, "infinite": false, "number": 7}
words     "RUNNING" or ["RUNNING", "COMPLETING"]
names     "a,b", ["a", "b"], "" or "(null)"
tres      "cpu=8,mem=512M,node=1,gres/gpu:h100=2" or [{"type": "gres", "name": "gpu", "count": 2}]
gres      "gpu:h100:4(S:0-1)", "gpu:h100:2(IDX:0-1)"
nodes     "n[1-3,07-09],login"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

# "Not set" and "without a limit" where they were not written as null.
UNLIMITED = frozenset({-1, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFE, 0xFFFFFFFFFFFFFFFF})
MIB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}
SEEN_BEFORE = 4096  # of ten thousand jobs most ask for the same as others
MOST_NODES = 100_000  # a range that is longer is a mistake


def number(value: object) -> float | None:
    """None: not set, or without a limit."""
    if isinstance(value, dict):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return None if value in UNLIMITED else value


def whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)


def positive(value: object) -> int | None:
    """For ids and times, where 0 is "none"."""
    return whole(value) or None


def moment(value: object) -> float | None:
    found = number(value)
    return float(found) if found else None


def text(value: object) -> str | None:
    """None for what Slurm writes instead of nothing."""
    said = "" if value is None else str(value)
    return None if said in ("", "(null)", "N/A", "None") else said


def words(value: object) -> tuple[str, ...]:
    """Upper case; none are left out, and a word is there once."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, Sequence):
        raise ValueError(f"{value!r} is no list of words")
    return tuple(dict.fromkeys(str(word).upper() for word in given if word))


def names(value: object) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value or ()
    if not isinstance(given, Iterable):
        raise ValueError(f"{value!r} is no list of names")
    return tuple(str(one).strip() for one in given if text(str(one).strip()))


def joined(**parts: object) -> dict[str, Any]:
    """Of a body: what is None is left to the cluster."""
    return {key: value for key, value in parts.items() if value is not None}


# ---- resources ---------------------------------------------------------------------------------------


def tres(value: object) -> dict[str, float]:
    """Memory in MiB, everything else as counted."""
    if isinstance(value, str):
        return dict(tres_of_text(value)) if value else {}
    found: dict[str, float] = {}
    for row in value if isinstance(value, Sequence) else ():
        name = f"{row['type']}/{row['name']}" if row.get("name") else str(row["type"])
        count = number(row.get("count"))
        if count is not None and count >= 0:  # -2 is "not set", of energy
            found[name] = float(count)
    return found


@lru_cache(SEEN_BEFORE)
def tres_of_text(value: str) -> tuple[tuple[str, float], ...]:
    pairs = (part.partition("=")[::2] for part in value.split(",") if "=" in part)
    return tuple((name, amount(name, said)) for name, said in pairs)


def amount(name: str, said: str) -> float:
    """ "512M" of memory is 512; of other things K is a thousand and so on up."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)(?:i?B)?", said.strip())
    if found is None:
        raise ValueError(f"{name}={said} is no amount")
    figure, unit = float(found[1]), found[2]
    if name in ("mem", "vmem"):
        return figure * MIB[unit]
    return figure * 1000.0 ** " KMGTP".index(unit or " ")


def gres(value: object) -> dict[str, int]:
    """ "gpu:h100:4(S:0)" is {"gpu:h100": 4}; a name without a number counts as one."""
    found: dict[str, int] = {}
    for part in split(text(value) or ""):
        name, count = gres_part(re.sub(r"\(.*?\)", "", part))
        if name:
            found[name] = found.get(name, 0) + count
    return found


def gres_part(part: str) -> tuple[str, int]:
    name, colon, last = part.rpartition(":")
    if colon and re.fullmatch(r"\d+[KMG]?", last):
        return name, int(amount(name, last))
    return part, 1


# ---- lists of nodes ----------------------------------------------------------------------------------


def nodes(value: object) -> tuple[str, ...]:
    """Each name once, in the order that was written."""
    said = text(value)
    return nodes_of_text(said) if said else ()


@lru_cache(SEEN_BEFORE)
def nodes_of_text(said: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in split(said) for name in expanded(part)))


def split(some: str) -> Iterator[str]:
    """At the commas that stand in no bracket."""
    yield from (part.strip() for part in re.split(r",(?![^\[(]*[\])])", some) if part.strip())


def expanded(part: str) -> Iterator[str]:
    """ "r[1-2]n[01-03]" from left to right."""
    found = re.search(r"\[([^\]]*)\]", part)
    if found is None:
        yield part
        return
    for middle in numbers(found[1]):
        for rest in expanded(part[found.end() :]) if part[found.end() :] else ("",):
            yield f"{part[: found.start()]}{middle}{rest}"


def numbers(ranges: str) -> Iterator[str]:
    for one in ranges.split(","):
        first, dash, last = one.strip().partition("-")
        if not dash:
            yield first
        elif int(last) - int(first) > MOST_NODES:
            raise ValueError(f"{ranges} names too many nodes")
        else:
            # The width of "07" holds for all of its range.
            yield from (str(at).zfill(len(first)) for at in range(int(first), int(last) + 1))
