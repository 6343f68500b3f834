"""Ordered streams: one a project, written in the script that makes the change, and one for operators.

An event's id is ``<incarnation>-<sequence>``: exactly what a Redis stream takes for an id.  The sequence is
dense, so a reader sees at once whether something is missing.  To operators' events Redis gives the ids.

A reader begins at ``OLDEST``, at ``LATEST`` (with what happens next) or after an event.  Each page says where
the next one begins, an empty one too, so that nothing is lost or repeated between two of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from api_spec.errors import Gone, bad_event_id
from api_spec.ids import is_event_id
from api_spec.views import LATEST, OLDEST, EventView, Page
from broker.store.connection import Client

BEFORE_ALL = "0-0"


@dataclass(frozen=True)
class Events:
    client: Client
    prefix: str
    kept: int

    def of_project(self, project: str, after: str | None, limit: int) -> Page[EventView]:
        """The events after the one with the id ``after`` (None: from the oldest kept).  Raises ``Gone``."""
        key = f"{self.prefix}events:{project}"
        if is_id(after):
            self._refuse_a_gap(key, after, self._newest(project))
        return self._read(key, after, limit, lambda: self._newest(project))

    def of_operator(self, after: str | None, limit: int) -> Page[EventView]:
        """As ``of_project``."""
        key = f"{self.prefix}operator"
        if is_id(after):
            self._refuse_what_was_trimmed(key, after)
        return self._read(key, after, limit, lambda: self._last(key) or BEFORE_ALL)

    def tell_operator(self, kind: str, data: Mapping[str, Any], pipe: Client | None = None) -> None:
        """Backends, policy and tokens: what an operator did or must know.

        ``pipe``: a transaction, so that it is told if and only if it is done.
        """
        at = self.client.time()
        record = {
            "at": str(at[0] * 1000 + at[1] // 1000),
            "type": kind,
            "job": "",
            "data": json.dumps(dict(data)),
        }
        writer = self.client if pipe is None else pipe
        writer.xadd(f"{self.prefix}operator", record, maxlen=self.kept, approximate=True)

    def counted(self, project: str) -> int:
        """The sequence number of its last event."""
        return int(self.client.hget(f"{self.prefix}sequences", project) or 0)

    def count_on(self, project: str, sequence: int) -> None:
        """The next event has a higher number: those up to this one were told by another store."""
        if self.counted(project) < sequence:
            self.client.hset(f"{self.prefix}sequences", project, str(sequence))

    def last_id(self, project: str) -> str | None:
        return self._last(f"{self.prefix}events:{project}")

    def _last(self, key: str) -> str | None:
        newest = self.client.xrevrange(key, count=1)
        return newest[0][0].decode() if newest else None

    def _read(self, key: str, after: str | None, limit: int, newest: Callable[[], str]) -> Page[EventView]:
        if after == LATEST:
            return Page((), newest())
        if after in (None, OLDEST):
            # Asked before the events are: what comes in between is still behind it.
            after, first = newest(), "-"
        else:
            first = f"({after}"
        rows = self.client.xrange(key, min=first, count=limit)
        events = tuple(_event(event_id, raw) for event_id, raw in rows)
        return Page(events, events[-1].id if events else after)

    def _newest(self, project: str) -> str:
        """The id of the last event there ever was, also when its stream has expired."""
        run = self.client.hget(f"{self.prefix}meta", "incarnation") or b"1"
        return f"{run.decode()}-{self.counted(project)}"

    def first_incarnation(self) -> int:
        """Events of earlier ones are not this store's, nor of one that was imported."""
        return int(self.client.hget(f"{self.prefix}meta", "first_incarnation") or 1)

    def take_over(self, first_incarnation: int) -> None:
        """From a store that is imported: whoever followed it may go on here."""
        if first_incarnation < self.first_incarnation():
            self.client.hset(f"{self.prefix}meta", "first_incarnation", str(first_incarnation))

    def _refuse_a_gap(self, key: str, after: str, newest: str) -> None:
        """What followed ``after`` must still be there; a new incarnation alone is no gap: it counts on."""
        rows = self.client.xrange(key, count=1)
        oldest = rows[0][0].decode() if rows else newest
        if _numbers(after) > _numbers(newest):
            raise Gone(f"no event has the id {after} yet; the newest is {newest}", oldest=oldest)
        if _numbers(after)[0] < self.first_incarnation():
            raise Gone(
                f"{after} is of another store, or of one that was lost; the oldest event is {oldest}",
                oldest=oldest,
            )
        # With nothing kept, only who has seen the last one has missed nothing.
        first = _numbers(oldest)[1] - 1 if rows else _numbers(newest)[1]
        if _numbers(after)[1] < first:
            raise Gone(f"events up to {after} are no longer kept; the oldest is {oldest}", oldest=oldest)

    def _refuse_what_was_trimmed(self, key: str, after: str) -> None:
        """These ids have holes, so whoever has seen just the last one that was trimmed is refused too."""
        rows = self.client.xrange(key, count=1)
        oldest = rows[0][0].decode() if rows else after
        if _numbers(after) >= _numbers(oldest):
            return
        info = self.client.xinfo_stream(key)
        if info["entries-added"] > info["length"]:
            raise Gone(f"events after {after} are no longer kept; the oldest is {oldest}", oldest=oldest)


def is_id(after: str | None) -> TypeGuard[str]:
    """Not one of the words.  Raises ``InvalidRequest`` for what is neither."""
    if after in (None, OLDEST, LATEST):
        return False
    if not is_event_id(after):
        raise bad_event_id(after, "?after")
    return True


def of_job(job_id: str, history: Sequence[str]) -> tuple[EventView, ...]:
    """From the lines of ``history:<id>``: id, time, type and data (if any), parted by blanks."""
    out = []
    for line in history:
        event_id, at, kind, *data = line.split(" ", 3)
        about = json.loads(data[0]) if data else {}
        out.append(EventView(id=event_id, at=int(at) / 1000, type=kind, job=job_id, data=about))
    return tuple(out)


def _event(event_id: bytes, raw: Mapping[bytes, bytes]) -> EventView:
    return EventView(
        id=event_id.decode(),
        at=int(raw[b"at"]) / 1000,
        type=raw[b"type"].decode(),
        job=raw[b"job"].decode() or None,
        data=json.loads(raw[b"data"]),
    )


def _numbers(event_id: str) -> tuple[int, int]:
    run, _, sequence = event_id.partition("-")
    return int(run), int(sequence)
