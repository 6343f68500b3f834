"""What the controller has in its queue, asked for as cheaply as the cluster allows and kept by name.

One listing serves all who ask within a moment.  Where the cluster offers the listing of states alone, the
details are asked for what has changed, and everything now and then, because why a job waits, its priority
and its planned start change without its state.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from adapters.slurm.observations import waits
from adapters.slurm.records import Job, JobState
from adapters.slurm.transport import NotKnown, SlurmError, Transport

WHOLE_EVERY_S = 60.0
"""At most this long between two listings with all details ..."""
WHOLE_COST = 20
"""... or this many times what the last one took: 10,000 jobs take slurmrestd up to 13 s."""
UNDECIDED_AT_ONCE = 10
"""Groups that have no reason to wait yet and are looked at again; a long queue may have thousands."""
DETAILS_AT_ONCE = 50
"""Groups of jobs that are looked at one by one; for more of them one listing is cheaper."""


@dataclass(frozen=True, kw_only=True)
class Queue:
    """``began_at``: on this machine's clock, before the controller was asked."""

    began_at: float
    by_name: Mapping[str, Sequence[Job]] = field(default_factory=dict)

    def named(self, name: str) -> Sequence[Job]:
        return self.by_name.get(name, ())

    def ahead_of(self, row: Job) -> int:
        """Jobs that wait in the same partition and that Slurm considers first."""
        return bisect_left(self._turns.get(row.partition, []), _turn(row))

    @cached_property
    def _turns(self) -> Mapping[str | None, list[tuple[int, int]]]:
        """Sorted once: each of thousands of jobs may ask."""
        found: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
        for rows in self.by_name.values():
            for one in filter(waits, rows):
                found[one.partition].append(_turn(one))
        return {partition: sorted(some) for partition, some in found.items()}


def _turn(row: Job) -> tuple[int, int]:
    """Of two with the same priority the one with the smaller id comes first."""
    return -(row.priority or 0), row.id


_Look = tuple[int, int | None, tuple[str, ...]]


class LiveQueue:
    """Safe from several threads: who asks while another one is asking gets its answer."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._clock = clock
        self._asking = threading.Lock()
        self._noting = threading.Lock()  # never held over a call: who writes does not wait for a listing
        self._writes = 0
        self._shown = 0  # so many of the writes were before the last listing
        self._written: dict[int, int] = {}  # by group, the number of the last write that no listing shows
        self._groups: dict[int, tuple[Job, ...]] = {}
        self._group_of: dict[int, int] = {}  # a task's own id to that of its array
        self._looks: dict[int, frozenset[_Look]] = {}  # what the states said when the details were asked for
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
        """A listing that began then or later, and after the last write.  Raises ``SlurmError``.

        Only who needs a newer one than there is waits for it.
        """
        if not self._is_new_enough(not_before):
            with self._asking:
                if not self._is_new_enough(not_before):
                    self._queue = self._ask()
        return self._queue

    def _is_new_enough(self, not_before: float) -> bool:
        return self._queue.began_at >= not_before and self._shown >= self._writes

    def showing(self, name: str, not_before: float) -> Queue:
        """The last listing if it began then or later, has the name, and no write to its jobs came after it;
        else a new one.  A pass explains thousands of jobs by the one listing that it has seen them in."""
        queue = self._queue
        rows = queue.named(name)
        if rows and queue.began_at >= not_before and self._written.keys().isdisjoint(r.group for r in rows):
            return queue
        return self.listed(self._clock())

    def changed(self, *groups: int) -> None:
        """Something was written: the next listing is a new one, with the details of these jobs."""
        with self._noting:
            self._writes += 1
            self._written = {**self._written, **dict.fromkeys(groups, self._writes)}

    def _ask(self) -> Queue:
        began_at, writes = self._clock(), self._writes
        for group in self._written:
            self._looks.pop(group, None)  # its details are asked for again; until then they are as they were
        try:
            changed = self._whole(began_at) if self._whole_is_due() else self._by_states(began_at)
        except SlurmError:
            self._answers_since = None
            raise
        if self._answers_since is None:
            self._answers_since = self._clock()
        with self._noting:
            self._shown = writes
            self._written = {group: number for group, number in self._written.items() if number > writes}
        by_name = _by_name(self._groups.values()) if changed else self._queue.by_name
        return Queue(began_at=began_at, by_name=by_name)

    def _whole_is_due(self) -> bool:
        if self._stamp is None or not self._transport.cluster().has_states:
            return True
        rest_s = max(WHOLE_EVERY_S, WHOLE_COST * self._whole_took_s)
        return self._clock() - self._whole_at >= rest_s

    def _whole(self, began_at: float) -> bool:
        """The states first: what changes between the two questions is looked at again, not overlooked."""
        states = self._transport.states() if self._transport.cluster().has_states else ()
        listing = self._transport.jobs(self._stamp)
        self._stamp = listing.as_of
        self._whole_at, self._whole_took_s = began_at, self._clock() - began_at
        if listing.jobs is not None:
            # A row that says the same stays the same object: what was made of it need not be made again.
            known = {row.id: row for rows in self._groups.values() for row in rows}
            groups = defaultdict(list)
            for job in listing.jobs:
                same = known.get(job.id)
                groups[job.group].append(same if same == job and same is not None else job)
            self._groups = {group: tuple(rows) for group, rows in groups.items()}
            self._group_of = {job.id: job.group for job in listing.jobs}
        self._looks = self._by_group(states)
        return listing.jobs is not None

    def _by_states(self, began_at: float) -> bool:
        states = self._transport.states()
        looks = self._by_group(states)
        gone = self._groups.keys() - looks.keys()
        news = [group for group, look in looks.items() if look != self._looks.get(group)]
        if len(news) > DETAILS_AT_ONCE:
            self._stamp = None  # the listing since then would be whole as well
            return self._whole(began_at)
        for group in gone:
            self._keep(group, ())
        news = list(dict.fromkeys([*news, *self._undecided()]))
        for group in news:
            self._look_at(group)
        self._looks = self._by_group(states)  # of tasks that have started the array is known now
        return bool(gone or news)

    def _undecided(self) -> list[int]:
        """Jobs that the scheduler had not looked at when we did: why they wait is told a moment later."""
        waiting = (
            group
            for group, rows in self._groups.items()
            if any(row.reason is None and "PENDING" in row.states for row in rows)
        )
        return list(islice(waiting, UNDECIDED_AT_ONCE))

    def _by_group(self, states: Sequence[JobState]) -> dict[int, frozenset[_Look]]:
        found: dict[int, set[_Look]] = defaultdict(set)
        for row in states:
            group = row.array_id or self._group_of.get(row.id, row.id)
            found[group].add((row.id, row.task, row.states))
        return {group: frozenset(looks) for group, looks in found.items()}

    def _look_at(self, job_id: int) -> None:
        """Of a task that has just started the listing says its own id alone: the array is asked for."""
        rows = self._details(job_id)
        arrays = {row.group for row in rows} - {job_id}
        self._keep(job_id, [row for row in rows if row.group == job_id])
        for group in arrays:
            self._keep(group, self._details(group))

    def _details(self, job_id: int) -> Sequence[Job]:
        with suppress(NotKnown):  # purged between the two questions
            return self._transport.job(job_id)
        return ()

    def _keep(self, group: int, rows: Sequence[Job]) -> None:
        for row in self._groups.pop(group, ()):
            self._group_of.pop(row.id, None)
        if rows:
            self._groups[group] = tuple(rows)
            self._group_of.update((row.id, group) for row in rows)


def _by_name(groups: Iterable[Sequence[Job]]) -> Mapping[str, Sequence[Job]]:
    found: dict[str, list[Job]] = defaultdict(list)
    for rows in groups:
        for job in rows:
            found[job.name].append(job)
    return found
