"""Memory, durations and index lists as people write them, and the one canonical text of each.  Pure.

=============  ==========================================================  ====================
quantity       read                                                        canonical text
=============  ==========================================================  ====================
memory         200GiB  512MiB  1.5TiB  200Gi  16GB (decimal: 16 * 10**9)   200GiB  1536MiB
duration       4h  1h30m  1.5h  90s  1-02:00:00  2:30:00  PT4H  P1DT2H     4h  1h30m  90s  2d
index list     0-99:2,7                                                    0-6:2,7,8-98:2
=============  ==========================================================  ====================

Nothing is rounded down: what is not a whole MiB or second becomes the next one.  What two communities read
differently (``200G``, ``2:30``, a bare number) is refused with a sentence that says what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache

MIB = 1024**2
MAX_MEMORY_MIB = 2**40  # 1 EiB: a slip of the unit, not a machine
MAX_DURATION_S = 10 * 365 * 86400
MAX_TASKS = 10_000
LONGEST_LIST = 8 * MAX_TASKS  # each task on its own: seven digits and a comma
MAX_INDEX = 4_000_000  # the largest index that Slurm can be configured for


class InvalidQuantity(ValueError):
    """The message says what is wrong and what would be right."""


# ---- memory ------------------------------------------------------------------------------------------

# fmt: off
UNIT_BYTES = {
    "b": 1,
    "kb": 10**3,  "mb": 10**6,  "gb": 10**9,  "tb": 10**12, "pb": 10**15,
    "ki": 2**10,  "mi": 2**20,  "gi": 2**30,  "ti": 2**40,  "pi": 2**50,     # as Kubernetes spells them
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50,
}
# fmt: on
CANONICAL_UNITS = (("PiB", 2**30), ("TiB", 2**20), ("GiB", 2**10))  # in MiB

_MEMORY_EXAMPLES = '"200GiB", "512MiB" or "16GB"'
_MEMORY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?([A-Za-z]{0,3})")


def parse_memory(text: object) -> int:
    """MiB, rounded up."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise InvalidQuantity(f'{text} has no unit; write "{text}GiB" or "{text}MiB"')
    if not isinstance(text, str) or len(text) > 64:
        raise InvalidQuantity(f"is not an amount of memory; write {_MEMORY_EXAMPLES}")
    return _memory(text.strip())


@lru_cache(maxsize=1024)  # the same few amounts come with every job
def _memory(text: str) -> int:
    found = _MEMORY.fullmatch(text)
    if found is None:
        raise InvalidQuantity(f'"{text}" is not an amount of memory; write {_MEMORY_EXAMPLES}')
    number, unit = found.groups()
    return _within(_ceil(Fraction(number) * _bytes_of(number, unit) / MIB), MAX_MEMORY_MIB, "memory")


@lru_cache(maxsize=1024)
def format_memory(mib: int) -> str:
    for unit, size in CANONICAL_UNITS:
        if mib and mib % size == 0:
            return f"{mib // size}{unit}"
    return f"{mib}MiB"


def _bytes_of(number: str, unit: str) -> int:
    size = UNIT_BYTES.get(unit.lower())
    if size is not None:
        return size
    if not unit:
        raise InvalidQuantity(f'"{number}" has no unit; write "{number}GiB" or "{number}MiB"')
    letter = unit.upper()
    if letter in ("K", "M", "G", "T", "P"):
        raise InvalidQuantity(
            f'"{number}{unit}" is read differently by Slurm and Kubernetes; '
            f'write "{number}{letter}iB" (powers of 1024) or "{number}{letter}B" (powers of 1000)'
        )
    raise InvalidQuantity(f'"{unit}" is not a unit of memory; use MiB, GiB or TiB (or MB, GB, TB)')


# ---- durations ---------------------------------------------------------------------------------------

UNIT_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

_N = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)"
_UNITS = re.compile(rf"(?:{_N}w)? ?(?:{_N}d)? ?(?:{_N}h)? ?(?:{_N}m)? ?(?:{_N}s)?", re.IGNORECASE | re.ASCII)
_ISO = re.compile(rf"P(?=.)(?:{_N}W)?(?:{_N}D)?(?:T(?=.)(?:{_N}H)?(?:{_N}M)?(?:{_N}S)?)?")
_CLOCK = re.compile(
    r"(?:(?P<d>[0-9]{1,6})-(?P<dh>[0-9]{1,2})(?::(?P<dm>[0-9]{1,2})(?::(?P<ds>[0-9]{1,2}))?)?"
    r"|(?P<h>[0-9]{1,8}):(?P<m>[0-9]{1,2}):(?P<s>[0-9]{1,2}))"
)
_EXAMPLES = '"4h", "1h30m", "90s", "1-02:00:00" or "PT4H"'


def parse_duration(text: object) -> int:
    """Seconds, rounded up."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise InvalidQuantity(f'{text} has no unit; write "{text}s", "{text}m" or "{text}h"')
    if not isinstance(text, str) or not text.strip() or len(text) > 64:
        raise InvalidQuantity(f"is not a duration; write {_EXAMPLES}")
    return _duration(text.strip())


@lru_cache(maxsize=1024)
def _duration(text: str) -> int:
    if clock := _CLOCK.fullmatch(text):
        seconds = _clock_seconds(clock)
    elif parts := _UNITS.fullmatch(text) or _ISO.fullmatch(text):
        seconds = _sum_of_units(parts.groups())
    else:
        raise InvalidQuantity(_why_no_duration(text))
    return _within(seconds, MAX_DURATION_S, "a duration")


@lru_cache(maxsize=1024)
def format_duration(seconds: int) -> str:
    """Whole days as days; otherwise hours, minutes, seconds; what is under two minutes as seconds."""
    if seconds and seconds % 86400 == 0:
        return f"{seconds // 86400}d"
    if (seconds < 120 and seconds % 60) or seconds == 0:
        return f"{seconds}s"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if n)


def _sum_of_units(parts: tuple[str | None, ...]) -> int:
    """Each part once, so that what is written in a larger unit with a fraction stays exact."""
    sizes = UNIT_SECONDS.values()
    return _ceil(sum((Fraction(n) * size for n, size in zip(parts, sizes, strict=True) if n), Fraction(0)))


def _clock_seconds(clock: re.Match[str]) -> int:
    days = int(clock["d"] or 0)
    hours, minutes, seconds = (int(clock[f"d{unit}"] or clock[unit] or 0) for unit in ("h", "m", "s"))
    if minutes > 59 or seconds > 59 or (clock["d"] and hours > 23):
        raise InvalidQuantity(
            f'"{clock[0]}" is not a clock time: minutes and seconds end at 59, hours after days at 23'
        )
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def _why_no_duration(text: str) -> str:
    if re.fullmatch(r"[0-9.]+", text):
        return f'"{text}" has no unit; write "{text}s", "{text}m" or "{text}h"'
    if found := re.fullmatch(r"([0-9]+):([0-9]+)", text):
        first, second = found.groups()
        return (
            f'"{text}" can mean hours and minutes or minutes and seconds; '
            f'write "{first}h{second}m" or "{first}m{second}s"'
        )
    if re.fullmatch(r"P[0-9.]+[YM].*", text):
        return "years and months have no fixed length; write days, as in P30D"
    if text.lower() in ("infinite", "unlimited", "none"):
        return "leave the time limit out to have none"
    return f'"{text}" is not a duration; write {_EXAMPLES}'


# ---- index lists -------------------------------------------------------------------------------------

_RANGE = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7})(?::([0-9]{1,7}))?)?")


@lru_cache(maxsize=64)  # views and adapters ask for the same few arrays again and again
def expand_indices(text: str) -> tuple[int, ...]:
    """Ascending, each once.  ``0-99:2`` ends at 98."""
    if len(text) > LONGEST_LIST:
        raise InvalidQuantity(
            f"is longer than {LONGEST_LIST} characters; an array has {MAX_TASKS} tasks at most"
        )
    ranges = list(_ranges(text))
    count = sum(map(len, ranges))  # before anything is expanded: "0-3999999" must cost nothing
    if count > MAX_TASKS:
        raise InvalidQuantity(f"names {count} indices; an array has at most {MAX_TASKS} tasks")
    return tuple(sorted(set().union(*ranges)))


def parse_indices(text: object) -> str:
    """The canonical text of an index list."""
    if not isinstance(text, str):
        raise InvalidQuantity('is not an index list; write "0-99", "0-99:2" or "1,5,7-9" as a string')
    return compact_indices(expand_indices(text))


def compact_indices(indices: Iterable[int]) -> str:
    """The canonical text: ascending, three or more in equal steps as a range.  Empty for no index."""
    left = sorted(set(indices))
    parts = []
    at = 0
    while at < len(left):
        length = _run_length(left, at)
        parts.append(_range_text(left[at : at + length]))
        at += length
    return ",".join(parts)


def _run_length(values: list[int], at: int) -> int:
    """How many values from ``at`` go on in equal steps; fewer than three are no run."""
    if at + 2 >= len(values):
        return 1
    step = values[at + 1] - values[at]
    end = at + 1
    while end + 1 < len(values) and values[end + 1] - values[end] == step:
        end += 1
    return end - at + 1 if end - at >= 2 else 1


def _range_text(run: list[int]) -> str:
    if len(run) == 1:
        return str(run[0])
    step = run[1] - run[0]
    return f"{run[0]}-{run[-1]}" + (f":{step}" if step > 1 else "")


def _ranges(text: str) -> Iterator[range]:
    if "%" in text:
        raise InvalidQuantity('"%" is not part of an index list; say max_running instead')
    for part in text.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise InvalidQuantity(f'"{part.strip()[:40]}" is not an index or range; write "0-99:2,7"')
        first, last, step = int(found[1]), int(found[2] or found[1]), int(found[3] or 1)
        if last < first or step < 1:
            raise InvalidQuantity(f'"{found[0]}" is empty; a range ascends in steps of at least 1')
        if last > MAX_INDEX:
            raise InvalidQuantity(f"index {last} is above the largest, {MAX_INDEX}")
        yield range(first, last + 1, step)


def _ceil(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _within(value: int, largest: int, what: str) -> int:
    if value < 1:
        raise InvalidQuantity(f"{what} of zero asks for nothing; leave it out")
    if value > largest:
        show = format_memory if largest == MAX_MEMORY_MIB else format_duration
        raise InvalidQuantity(f"is more than the largest that can be asked for, {show(largest)}")
    return value
