"""The ends of an attempt's logs as they are kept: one text for all, of bounded size, divided fairly.  Pure.

{"v": 1, "over": true, "missed": null, "ends": [{"source": ..., "size": 17, ...}]}     one line
the texts, one after the other
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from adapters.extras import LogEnd, LogEnds

VERSION = 1
LIMIT_BYTES = 1024 * 1024
"""Of an attempt, all its logs together."""
MOST_SOURCES = 1024
LONGEST_MISSED = 500


def pack(kept: LogEnds) -> bytes:
    head = {
        "v": VERSION,
        "missed": kept.missed,
        "ends": [
            {
                "source": one.source,
                "index": one.index,
                "began_at": one.began_at,
                "cut": one.cut,
                "size": len(one.data),
            }
            for one in kept.ends
        ],
    }
    return b"\n".join([json.dumps(head).encode(), b"".join(one.data for one in kept.ends)])


def unpack(text: bytes) -> LogEnds:
    """Raises ``ValueError`` for what ``pack`` has not written."""
    first, _, rest = text.partition(b"\n")
    try:
        head = json.loads(first)
        if head["v"] != VERSION:
            raise ValueError(f"a log was kept in version {head['v']}; this release reads {VERSION}")
        ends, at = [], 0
        for row in head["ends"]:
            size = row.pop("size")
            ends.append(LogEnd(**row, data=rest[at : at + size]))
            at += size
        whole = at == len(rest)
        found = LogEnds(ends=tuple(ends), missed=head["missed"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("a log was kept in a form that cannot be read") from error
    if not whole:
        raise ValueError("a log that was kept is not whole")
    return found


def merged(before: LogEnds | None, now: LogEnds, limit_bytes: int = LIMIT_BYTES) -> LogEnds:
    """What was read now goes before what was read of the same one earlier; who has gone since stays."""
    newest = {one.source: one for one in now.ends}
    earlier = [one for one in before.ends if one.source not in newest] if before else []
    ends = [*now.ends, *sorted(earlier, key=lambda one: -one.began_at)]
    missed = now.missed or (before.missed if before else None)
    if len(ends) > MOST_SOURCES:
        missed = "; ".join(filter(None, [missed, f"of {len(ends)} logs {MOST_SOURCES} were kept"]))
    kept = shared_out(ends[:MOST_SOURCES], limit_bytes)
    return replace(now, ends=kept, missed=missed[:LONGEST_MISSED] if missed else None)


def shared_out(ends: Sequence[LogEnd], limit_bytes: int) -> tuple[LogEnd, ...]:
    """Each gets the same; what the short ones leave is for the long ones."""
    left, most = limit_bytes, limit_bytes
    for place, size in enumerate(sorted(len(one.data) for one in ends)):
        most = left // (len(ends) - place)
        if size > most:
            break
        left -= size
    else:
        most = limit_bytes
    return tuple(_cut(one, most) for one in ends)


def _cut(one: LogEnd, most: int) -> LogEnd:
    """Between lines."""
    if len(one.data) <= most:
        return one
    begin = one.data.find(b"\n", len(one.data) - most - 1) + 1
    return replace(one, data=one.data[begin:] if begin else b"", cut=True)
