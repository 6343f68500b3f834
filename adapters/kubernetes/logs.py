"""A container's log by cursor.

The kubelet knows no offsets: it gives what was written since a second, each line with its time.  So a cursor
is a place in a line: the line's time, how many of the same time stand before it, and how many of its bytes
were given.  Both streams of a container are one there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from adapters.base import LogPage, LogQuery
from adapters.errors import BadLogQuery

Fetch = Callable[[dict[str, str | int]], bytes]
"""The log with this query; raises ``KubernetesError``."""

CURSOR = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z/(\d{1,9})/(\d{1,12})", re.ASCII)
START = "0001-01-01T00:00:00Z/0/0"
FIRST_READ = 128 * 1024
LONGEST_READ = 64 * 1024 * 1024
"""So much of one second, and of one line, can be read over again."""
A_LINE = 80
SHORTEST_LINE = 32
"""With its time."""
ROTATED = "the log was rotated: what was written in between is gone"
ONE_STREAM = "Kubernetes keeps one log of both streams; it is shown as stdout"


@dataclass(frozen=True)
class Place:
    time: str
    before: int  # lines of the same time
    offset: int  # bytes of this line that were given

    def __str__(self) -> str:
        return f"{self.time}/{self.before}/{self.offset}"


@dataclass(frozen=True)
class Line:
    time: str
    before: int
    text: bytes


def place_of(cursor: str) -> Place:
    """Raises ``BadLogQuery``."""
    found = CURSOR.fullmatch(cursor)
    if found is None:
        raise BadLogQuery("it is no cursor of this log")
    return Place(f"{found[1]}{found[2] or ''}Z", int(found[3]), int(found[4]))


def page(fetch: Fetch, query: LogQuery, over: bool) -> LogPage:
    """``over``: the container has ended, and nothing more will come."""
    if query.cursor is not None:
        place = place_of(query.cursor)
    elif query.tail_bytes is not None:
        return _tail(fetch, query.tail_bytes, over)
    else:
        place = place_of(START)
    if query.stream != "stdout":
        return LogPage(data=b"", cursor=str(place), at_end=True, complete=over, note=ONE_STREAM)
    return _from(fetch, place, query.limit_bytes, over)


def _from(fetch: Fetch, place: Place, limit: int, over: bool) -> LogPage:
    budget = max(FIRST_READ, 2 * limit)
    while True:
        asked: dict[str, str | int] = {"timestamps": "true", "limitBytes": budget}
        if str(place) != START:
            asked["sinceTime"] = f"{place.time[:19]}Z"
        raw = fetch(asked)
        cut = len(raw) >= budget
        data, now, all_read, lost = _after(list(_lines(raw, cut)), place, limit)
        if data or not cut or budget >= LONGEST_READ:
            break
        budget *= 8
    at_end = all_read and not cut
    note = ROTATED if lost else None
    return LogPage(data=data, cursor=str(now), at_end=at_end, complete=at_end and over, note=note)


def _lines(raw: bytes, cut: bool) -> Iterator[Line]:
    """Without the last one where the kubelet has cut it."""
    time, before = START.partition("/")[0], -1
    whole = raw[: raw.rfind(b"\n") + 1] if cut else raw
    for line in re.findall(rb"[^\n]*\n|[^\n]+", whole):
        stamp, _, text = line.partition(b" ")
        now = stamp.decode("ascii", "replace")
        if not CURSOR.fullmatch(f"{now}/0/0"):
            now, text = time, line  # nobody has said when it was written
        before = before + 1 if now == time else 0
        time = now
        yield Line(time, before, text)


def _after(lines: list[Line], place: Place, limit: int) -> tuple[bytes, Place, bool, bool]:
    """What follows the place: bytes, the new place, whether that is all, whether the place is not there."""
    first = place.time == START.partition("/")[0]
    rest = [one for one in lines if (_key(one.time), one.before) >= (_key(place.time), place.before)]
    stands = bool(rest) and (rest[0].time, rest[0].before) == (place.time, place.before)
    data, now = bytearray(), place
    for line in rest:
        skipped = place.offset if (line.time, line.before) == (place.time, place.before) else 0
        part = line.text[skipped : skipped + limit - len(data)]
        if not part and len(data) >= limit:
            return bytes(data), now, False, not (first or stands)
        data += part
        now = Place(line.time, line.before, skipped + len(part))
        if skipped + len(part) < len(line.text):
            return bytes(data), now, False, not (first or stands)
    return bytes(data), now, True, not (first or stands)


def _key(time: str) -> str:
    """Nanoseconds have as many digits as they need."""
    seconds, _, fraction = time.rstrip("Z").partition(".")
    return f"{seconds}.{fraction:0<9}"


def _tail(fetch: Fetch, wanted: int, over: bool) -> LogPage:
    """The last bytes; how many lines they are, nobody knows before."""
    count = wanted // A_LINE + 2
    while True:
        lines = list(_lines(fetch({"timestamps": "true", "tailLines": count}), cut=False))
        size = sum(len(one.text) for one in lines)
        if size >= wanted or len(lines) < count:
            break
        count *= 4
    if not lines:
        return LogPage(data=b"", cursor=START, at_end=True, complete=over)
    data = b"".join(one.text for one in lines)[-wanted:] if wanted else b""
    last = lines[-1]
    # The kubelet counts those of one time from the first that it shows.
    return LogPage(data=data, cursor=str(_end_of(fetch, last)), at_end=True, complete=over)


def _end_of(fetch: Fetch, last: Line) -> Place:
    asked: dict[str, str | int] = {"timestamps": "true", "sinceTime": f"{last.time[:19]}Z"}
    same = [one for one in _lines(fetch(asked), cut=False) if one.time == last.time]
    found = same[-1] if same else last
    return Place(found.time, found.before, len(found.text))


# ---- several texts, and the end of one ------------------------------------------------------------------


def one_after_the_other(before: Fetch, now: Fetch) -> Fetch:
    """Two containers of one pod as one log: the second was started when the first had ended."""

    def fetch(query: dict[str, str | int]) -> bytes:
        if "tailLines" in query:
            last = now(query)
            lacking = int(query["tailLines"]) - last.count(b"\n")
            return _whole(before({**query, "tailLines": lacking})) + last if lacking > 0 else last
        first = before(query)
        left = int(query["limitBytes"]) - len(first) if "limitBytes" in query else None
        if left is None:
            return _whole(first) + now(query)
        # The kubelet has cut the first where nothing is left; what it cut is left out by who asked.
        return _whole(first) + now({**query, "limitBytes": left}) if left > 1 else first

    return fetch


def _whole(text: bytes) -> bytes:
    """The last line of one that was killed has no end, and the next one's time would stand in it."""
    return text if not text or text.endswith(b"\n") else text + b"\n"


def of_text(text: bytes) -> Fetch:
    """What was kept, as the kubelet would give it."""
    lines = re.findall(rb"[^\n]*\n|[^\n]+", text)

    def fetch(query: dict[str, str | int]) -> bytes:
        since = str(query.get("sinceTime", ""))[:19].encode()
        shown = [line for line in lines if line[:19] >= since]
        if "tailLines" in query:
            shown = shown[max(0, len(shown) - int(query["tailLines"])) :]
        return b"".join(shown)[: int(query.get("limitBytes", len(text)))]

    return fetch


def end(fetch: Fetch, most: int) -> tuple[bytes, bool]:
    """The last lines with their times, ``most`` bytes of them and no line cut; whether there were more.

    The kubelet counts bytes from the first line that it shows, so the number of lines is what can be tried.
    """
    count, largest = most // SHORTEST_LINE + 2, 8 * most
    while True:
        raw = fetch({"timestamps": "true", "tailLines": count, "limitBytes": largest})
        if len(raw) < largest or count == 1:
            break
        count = max(1, count // 8)
    cut = len(raw) > most or raw.count(b"\n") >= count
    if len(raw) <= most:
        return raw, cut
    return raw[raw.find(b"\n", len(raw) - most - 1) + 1 :] or _last_line(raw, most), cut


def _last_line(raw: bytes, most: int) -> bytes:
    """One that is longer than all that may be kept: its time, and its end."""
    stamp, _, text = raw[raw.rfind(b"\n", 0, -1) + 1 :].partition(b" ")
    return b"%s %s" % (stamp, text[-(most - len(stamp) - 1) :])


def not_started(query: LogQuery, over: bool) -> LogPage:
    """A container without a first line."""
    return LogPage(data=b"", cursor=query.cursor or START, at_end=True, complete=over)
