"""What the controller has in its queue, asked for as cheaply as the cluster allows and kept by name.

One listing serves all who ask within a moment.  Where the cluster offers the listing of states alone, the
details are asked for what has changed, and everything now and then, because why a job waits, its priority
and its planned start change without its state.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from adapters.slurm.records import Job, JobState
from adapters.slurm.transport import NotKnown, SlurmError, Transport

WHOLE_EVERY_S = 60.0
"""At most this long between two listings with all details ..."""
WHOLE_COST = 20
"""... or this many times what the last one took: 10,000 jobs take slurmrestd up to 13 s."""
DETAILS_AT_ONCE = 50
"""Groups of jobs that are looked at one by one; for more of them one listing is cheaper."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """``began_at``: on this machine's clock, before the controller was asked."""

    began_at: float
    by_name: Mapping[str, Sequence[Job]] = field(default_factory=dict)

    def named(self, name: str) -> Sequence[Job]:
        return self.by_name.get(name, ())


class LiveQueue:
    """Safe from several threads: who asks while another one is asking gets its answer."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._clock = clock
        self._asking = threading.Lock()
        self._groups: dict[int, tuple[Job, ...]] = {}
        self._stamp: float | None = None  # of the controller's last whole listing
        self._whole_at = float("-inf")
        self._whole_took_s = 0.0
        self._queue = Queue(began_at=float("-inf"))
        self._answers_since: float | None = None

    @property
    def answers_since(self) -> float | None:
        """Since when every question of this process was answered; None: the last one was not, or none was
        asked.  What was sent to a controller that hung may arrive right after it answers again."""
        return self._answers_since

    def listed(self, not_before: float) -> Queue:
        """A listing that began then or later.  Raises ``SlurmError``."""
        with self._asking:
            if self._queue.began_at < not_before:
                self._queue = self._ask()
            return self._queue

    def changed(self, *groups: int) -> None:
        """Something was written: the next listing is a new one, with the details of these jobs."""
        with self._asking:
            for group in groups:
                self._groups.pop(group, None)
            self._queue = Queue(began_at=float("-inf"), by_name=self._queue.by_name)

    def _ask(self) -> Queue:
        began_at = self._clock()
        try:
            changed = self._whole(began_at) if self._whole_is_due() else self._by_states(began_at)
        except SlurmError:
            self._answers_since = None
            raise
        if self._answers_since is None:
            self._answers_since = self._clock()
        by_name = _by_name(self._groups.values()) if changed else self._queue.by_name
        return Queue(began_at=began_at, by_name=by_name)

    def _whole_is_due(self) -> bool:
        if self._stamp is None or not self._transport.cluster().has_states:
            return True
        rest_s = max(WHOLE_EVERY_S, WHOLE_COST * self._whole_took_s)
        return self._clock() - self._whole_at >= rest_s

    def _whole(self, began_at: float) -> bool:
        listing = self._transport.jobs(self._stamp)
        self._stamp = listing.as_of
        self._whole_at, self._whole_took_s = began_at, self._clock() - began_at
        if listing.jobs is None:
            return False
        groups = defaultdict(list)
        for job in listing.jobs:
            groups[job.group].append(job)
        self._groups = {group: tuple(rows) for group, rows in groups.items()}
        return True

    def _by_states(self, began_at: float) -> bool:
        states: dict[int, set[_Look]] = defaultdict(set)
        for row in self._transport.states():
            states[row.array_id or row.id].add(_look(row))
        gone = self._groups.keys() - states.keys()
        news = [one for one, looks in states.items() if looks != set(map(_look, self._groups.get(one, ())))]
        if len(news) > DETAILS_AT_ONCE:
            self._stamp = None  # the listing since then would be whole as well
            return self._whole(began_at)
        for group in gone:
            del self._groups[group]
        for group in news:
            self._groups.pop(group, None)
            with suppress(NotKnown):  # purged between the two questions
                self._groups[group] = tuple(self._transport.job(group))
        return bool(gone or news)


_Look = tuple[int, tuple[str, ...], str | None]


def _look(row: Job | JobState) -> _Look:
    return row.id, row.states, row.waiting_tasks


def _by_name(groups: Iterable[Sequence[Job]]) -> Mapping[str, Sequence[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for rows in groups:
        for job in rows:
            found[job.name].append(job)
    return found
