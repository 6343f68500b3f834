"""Ordered streams: one a project, written in the script that makes the change, and one for operators.

An event's id is ``<incarnation>-<sequence>``: exactly what a Redis stream takes for an id.  The sequence is
dense, so a reader sees at once whether something is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api_spec.errors import Gone, InvalidRequest
from api_spec.views import EventView, Page
from broker.store.connection import Client

_ID = re.compile(r"(\d{1,15})-(\d{1,15})")


@dataclass(frozen=True)
class Events:
    client: Client
    prefix: str
    kept: int

    def of_project(self, project: str, after: str | None, limit: int) -> Page[EventView]:
        """The events after the one with the id ``after`` (None: from the oldest kept).  Raises ``Gone``."""
        return self._read(f"{self.prefix}events:{project}", after, limit)

    def of_operator(self, after: str | None, limit: int) -> Page[EventView]:
        return self._read(f"{self.prefix}operator", after, limit, dense=False)

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

    def last_id(self, project: str) -> str | None:
        newest = self.client.xrevrange(f"{self.prefix}events:{project}", count=1)
        return newest[0][0].decode() if newest else None

    def _read(self, key: str, after: str | None, limit: int, dense: bool = True) -> Page[EventView]:
        if after is not None and not _ID.fullmatch(after):
            raise InvalidRequest(f'"{after[:40]}" is not the id of an event')
        if dense and after is not None:
            self._refuse_a_gap(key, after, self._newest(key))
        rows = self.client.xrange(key, min=f"({after}" if after else "-", count=limit)
        events = tuple(_event(event_id, raw) for event_id, raw in rows)
        return Page(events, events[-1].id if events else after)

    def _newest(self, key: str) -> str:
        """The id of the last event there ever was, also when its stream has expired."""
        project = key.removeprefix(f"{self.prefix}events:")
        last = self.client.hget(f"{self.prefix}sequences", project) or b"0"
        run = self.client.hget(f"{self.prefix}meta", "incarnation") or b"1"
        return f"{run.decode()}-{last.decode()}"

    def _refuse_a_gap(self, key: str, after: str, newest: str) -> None:
        """What followed ``after`` must still be there; a new incarnation alone is no gap."""
        rows = self.client.xrange(key, count=1)
        oldest = rows[0][0].decode() if rows else newest
        # With nothing kept, only who has seen the last one has missed nothing.
        first = _numbers(oldest)[1] - 1 if rows else _numbers(newest)[1]
        if _numbers(after)[1] < first:
            raise Gone(f"events up to {after} are no longer kept; the oldest is {oldest}", oldest=oldest)


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
