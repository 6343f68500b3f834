"""Times on the wire: RFC 3339 in UTC with milliseconds; inside, seconds since the epoch.  Pure."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime, timedelta
from functools import lru_cache
from time import gmtime

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def to_rfc3339(seconds: float) -> str:
    """``2026-11-22T02:18:54.123Z``"""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{_to_the_second(whole)}.{milliseconds:03}Z"


@lru_cache(maxsize=1024)  # one answer names the same second several times
def _to_the_second(whole: int) -> str:
    year, month, day, hour, minute, second, *_ = gmtime(whole)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"


def from_rfc3339(text: str) -> float:
    """A zone is required: a time without one means something else to each reader."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text[:40]}" is not a time; write it as in 2026-11-22T02:18:54.123Z')
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    except ValueError as error:
        raise ValueError(f'"{text}" is not a time: {error}') from error
    # Not utctimetuple(): it fails where the zone leads out of the years that there are.
    offset = moment.utcoffset() or timedelta()
    return timegm(moment.timetuple()) - offset.total_seconds() + float(fraction or 0)
