"""One thread a process reads the store for all event streams of the process.

Each project that somebody follows has a ring of its newest events.  A stream asks for what comes after the
id it has seen; one that is behind the ring reads the store itself until it has caught up.  Nothing is queued
for a stream, so that a slow client costs no memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from api_spec.errors import BrokerError, Gone
from api_spec.views import EventView, Page

log = logging.getLogger(__name__)

RING_COUNT = 1000  # events; a stream that is further behind reads the store
PAGE_COUNT = 500
PERIOD_S = 0.25  # what an event may be late by; design asks for a second at the most
IDLE_S = 30.0  # a project that nobody followed for so long is no longer read

OPERATOR = ""  # followed like a project; none has this name

Read = Callable[[str, str | None, int], Page[EventView]]
"""Events of a project after an id: ``read(project, after, limit)``.  Raises ``Gone``."""


@dataclass
class Ring:
    """Events of one project, oldest first; ``before`` is the id before the first of them."""

    before: str | None
    asked_at: float
    events: list[EventView] = field(default_factory=list)
    positions: dict[str | None, int] = field(default_factory=dict)  # id -> index after it
    gone: bool = False  # the store no longer keeps what follows ``newest``

    @property
    def newest(self) -> str | None:
        return self.events[-1].id if self.events else self.before

    def extend(self, events: Sequence[EventView]) -> None:
        kept = [*self.events, *events]
        if len(kept) > RING_COUNT:
            self.before = kept[-RING_COUNT - 1].id
            kept = kept[-RING_COUNT:]
        self.events = kept
        self.positions = {self.before: 0} | {event.id: at + 1 for at, event in enumerate(kept)}


class Tail:
    def __init__(self, read: Read) -> None:
        self.read = read
        self.rings: dict[str, Ring] = {}
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.stopped = False

    def after(self, project: str, seen: str | None, timeout_s: float) -> Sequence[EventView]:
        """What follows the event ``seen``, as soon as there is any; nothing when the time is over.

        Raises ``Gone`` when the store no longer keeps what follows it.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            ring = self._follow(project, seen)
            if seen not in ring.positions and (events := self._read(project, seen)):
                return events
            with self.changed:
                if events := self._found(ring, seen):
                    return events
                left = deadline - time.monotonic()
                if left <= 0 or self.stopped:
                    return ()
                self.changed.wait(min(left, 1.0))
            if ring.gone and (events := self._read(project, seen)):
                return events

    def _read(self, project: str, seen: str | None) -> Sequence[EventView]:
        return self.read(project, seen, PAGE_COUNT).items

    @staticmethod
    def _found(ring: Ring, seen: str | None) -> Sequence[EventView]:
        position = ring.positions.get(seen)
        return () if position is None else ring.events[position:]

    def _follow(self, project: str, seen: str | None) -> Ring:
        """The ring of the project; the first who asks decides where it starts."""
        with self.changed:
            ring = self.rings.get(project)
            if ring is None:
                ring = self.rings[project] = Ring(before=seen, asked_at=time.monotonic())
                ring.extend(())
            ring.asked_at = time.monotonic()
            if self.thread is None and not self.stopped:
                self.thread = threading.Thread(target=self._run, name="event-tail", daemon=True)
                self.thread.start()
        return ring

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
            thread = self.thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            busy = False
            for project, ring in list(self.rings.items()):
                busy = self._advance(project, ring) or busy
            with self.changed:
                if not busy:
                    self.changed.wait_for(lambda: self.stopped, PERIOD_S)
                if self.stopped or not self.rings:
                    self.thread = None
                    return

    def _advance(self, project: str, ring: Ring) -> bool:
        """Whether there may be more at once."""
        if time.monotonic() - ring.asked_at > IDLE_S:
            self._forget(project, ring)
            return False
        try:
            events = self._read(project, ring.newest)
        except Gone:  # whoever follows reads the store and meets it there
            self._forget(project, ring)
            return False
        except BrokerError as error:  # the streams go on when the store is back
            log.warning("the events of %s cannot be read: %s", project, error)
            return False
        except Exception:  # the outermost loop: one project's trouble must not silence the others
            log.exception("reading the events of %s failed", project)
            return False
        if events:
            with self.changed:
                ring.extend(events)
                self.changed.notify_all()
        return len(events) == PAGE_COUNT

    def _forget(self, project: str, ring: Ring) -> None:
        with self.changed:
            ring.gone = True
            self.rings.pop(project, None)
            self.changed.notify_all()
