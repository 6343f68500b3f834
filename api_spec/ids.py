"""Names that the broker gives: job ids (ULIDs) and attempt markers.  Pure: time and randomness are passed in.

A ULID is 48 bits of milliseconds and 80 random bits in 26 characters of Crockford's base 32: ids sort by
the time of their making.  A marker names one attempt at its backend, in at most 40 characters.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I L O U
RANDOM_BYTES = 10
MARKER_LENGTH = 40

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_SHIFTS = range(120, -1, -10)  # 26 letters are 13 pairs
_VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
_ID = re.compile(rf"[0-7][{ALPHABET}]{{25}}")  # the first holds 3 bits only
_EVENT = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")  # incarnation and number
_INSTANCE = re.compile(r"[a-z0-9]{1,6}")
_MARKER = re.compile(rf"wb-([a-z0-9]{{1,6}})-([0-7][{ALPHABET.lower()}]{{25}})-([1-9][0-9]{{0,6}})")


class Marker(NamedTuple):
    instance: str
    job_id: str
    attempt: int


def is_event_id(text: str) -> bool:
    return _EVENT.fullmatch(text) is not None


def new_id(now_s: float, randomness: bytes) -> str:
    """``randomness``: 10 bytes from a source that nobody can predict."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"a job id needs {RANDOM_BYTES} random bytes, not {len(randomness)}")
    milliseconds = round(now_s * 1000)
    if not 0 <= milliseconds < 1 << 48:
        raise ValueError(f"{now_s} is no time that a job id can carry")
    number = milliseconds << 80 | int.from_bytes(randomness, "big")
    return _text(number)


def to_bytes(job_id: str) -> bytes:
    """16 bytes that sort as the ids do."""
    number = 0
    for letter in job_id:
        number = number << 5 | _VALUES[letter]
    return number.to_bytes(16, "big")


def from_bytes(raw: bytes) -> str:
    return _text(int.from_bytes(raw, "big"))


def _text(number: int) -> str:
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def time_of(job_id: str) -> float:
    """Seconds since the epoch when the id was made, on the clock of its maker."""
    if not is_id(job_id):
        raise ValueError(f'"{job_id[:40]}" is not a job id')
    milliseconds = 0
    for letter in job_id[:10]:
        milliseconds = milliseconds << 5 | _VALUES[letter]
    return milliseconds / 1000


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def is_instance(text: str) -> bool:
    return _INSTANCE.fullmatch(text) is not None


def marker(instance: str, job_id: str, attempt: int) -> str:
    if not is_instance(instance):
        raise ValueError(f'the instance "{instance}" is not 1 to 6 of a-z and 0-9')
    if not is_id(job_id) or attempt < 1:
        raise ValueError(f'"{job_id[:40]}" with attempt {attempt} names no attempt')
    text = f"wb-{instance}-{job_id.lower()}-{attempt}"
    if len(text) > MARKER_LENGTH:
        raise ValueError(f"attempt {attempt} does not fit into a marker of {MARKER_LENGTH} characters")
    return text


def parse_marker(text: str) -> Marker | None:
    """``None``: not one of ours."""
    found = _MARKER.fullmatch(text)
    if found is None or len(text) > MARKER_LENGTH:
        return None
    return Marker(found[1], found[2].upper(), int(found[3]))
