"""Attempts on a cluster without unique names: found by their name, verified before each write.

What is under a marker is asked of the controller's queue first and, for what has left it, of the accounting
database.  Every method raises ``SlurmError``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapters import carried
from adapters.base import Absent, AttemptRef, Found, Unsettled
from adapters.slurm import observations
from adapters.slurm.live import LiveQueue
from adapters.slurm.observations import Reading
from adapters.slurm.past import Past, id_of, key_of
from adapters.slurm.records import Job
from adapters.slurm.transport import NoAnswer, NotKnown, NotReached, Transport, TryLater

log = logging.getLogger(__name__)

SUBMITTED_BEFORE_S = 3600.0
"""The controller's clock and ours may differ by a time zone's mistake, not by more."""
BEHIND_S = 2.0
"""Until the next look when the database is behind, which a busy one is for moments."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One pass; only in a ``complete`` one is what it does not show absent."""

    found: Mapping[str, Reading]
    complete: bool


class Attempts:
    """What one cluster knows under our markers."""

    def __init__(
        self, transport: Transport, queue: LiveQueue, settle_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._settle_s = settle_s
        self._clock = clock
        self._past = Past(transport, clock)

    # ---- one attempt -----------------------------------------------------------------------------------

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        """``Absent`` only from a listing that began when nothing could be on its way any more, counted from
        when the controller began to answer: what was sent to one that hung arrives when it goes on."""
        queue = self._queue.listed(self._clock())
        rows = [*queue.named(marker)]
        behind = False
        if not rows and self._is_accounted:
            # In this order: what is handed over between the two questions is on record for the second.
            behind = self._transport.accounting_backlog() > 0
            rows = self._on_record(marker, since)
        if (found := observations.reading(rows)) is not None:
            return Found(observations.handle_of(self._cluster, found.rows[0]))
        if behind:
            return Unsettled(self._clock() + BEHIND_S)
        settled = max(since, self._queue.answers_since or self._clock()) + self._settle_s
        return Absent() if queue.began_at >= settled else Unsettled(settled)

    def _on_record(self, marker: str, since: float) -> list[Job]:
        """What the database has of it, but no ghost: a controller that crashed may have lost an accepted job,
        which the database then shows as pending for ever."""
        rows = self._transport.history(names=[marker], since=_or_ever(since - SUBMITTED_BEFORE_S))
        ours = [row for row in rows if row.name == marker]
        live = [row for group in {row.group for row in ours} for row in self._live(group, marker)]
        return live or _ended(ours)

    def live(self, ref: AttemptRef) -> dict[int, list[Job]]:
        """By id: the job of the handle and every copy, as they are now, if they are what the marker says.

        A copy can only be from before the submit was settled, so a listing from after that shows them all.
        """
        now = self._clock()
        settled = (ref.submitted_at or now) + self._settle_s
        listed = self._queue.listed(min(now, settled)).named(ref.marker)
        groups = {row.group for row in _of(ref, listed)}
        if (own := id_of(ref)) is not None:
            groups.add(own)
        found = {group: _of(ref, self._live(group, ref.marker)) for group in sorted(groups)}
        return {group: rows for group, rows in found.items() if rows}

    def _live(self, group: int, marker: str) -> list[Job]:
        return [row for row in self.of_group(group, marker) if not observations.is_over(row)]

    def of_group(self, group: int, marker: str) -> list[Job]:
        """What the controller has of it, ended tasks included.  Ids are reused: a row under another name is
        somebody else's."""
        try:
            rows = self._transport.job(group)
        except NotKnown:
            return []
        return [row for row in rows if row.name == marker]

    def under_its_id(self, ref: AttemptRef) -> Sequence[Job]:
        """What the controller has under the id of the handle, over or not, if the marker says the same."""
        own = id_of(ref)
        try:
            rows = self._transport.job(own) if own is not None else ()
        except NotKnown:
            return ()
        return _of(ref, [row for row in rows if row.name == ref.marker])

    def known(self, ref: AttemptRef) -> Sequence[Job]:
        """All rows of one attempt, asked for by its id where there is one."""
        own = id_of(ref)
        if own is None:
            rows = self._queue.listed(self._clock()).named(ref.marker)
        else:
            try:
                rows = self._transport.job(own)
            except NotKnown:
                rows = ()
        ours = _of(ref, [row for row in rows if row.name == ref.marker])
        if not self._is_accounted or (ours and not _lacks_tasks(ref, ours)):
            return ours
        recorded = _of(ref, self._past.of([ref])[ref.marker])
        return observations.latest([*recorded, *ours])

    # ---- many ------------------------------------------------------------------------------------------

    def seen(self, refs: Collection[AttemptRef]) -> Seen:
        """One listing for all; the database is asked only for what has left the queue, or is leaving it."""
        queue = self._queue.listed(self._clock())
        rows = {ref.marker: _of(ref, queue.named(ref.marker)) for ref in refs}
        complete = not self._is_accounted or self._add_the_past(refs, rows)
        found = {marker: observations.reading(some) for marker, some in rows.items()}
        known = {marker: reading for marker, reading in found.items() if reading is not None}
        return Seen(found=known, complete=complete)

    def recorded(self, refs: Collection[AttemptRef]) -> dict[str, list[Job]]:
        """What the accounting database has of each."""
        rows = self._past.of(refs)
        return {ref.marker: _of(ref, rows[ref.marker]) for ref in refs}

    def _add_the_past(self, refs: Collection[AttemptRef], rows: dict[str, list[Job]]) -> bool:
        """False: the database does not answer.  What it alone knows is unknown then; the rest goes on."""
        left = [ref for ref in refs if _may_have_left(rows[ref.marker])]
        try:
            words = self._past.with_last_words([row for some in rows.values() for row in some])
            # First what it misses, then what it has: a record may come between the two questions.
            behind = any(rows[ref.marker] for ref in left) and self._transport.accounting_backlog() > 0
            recorded = self._past.of(left)
        except (NotReached, NoAnswer, TryLater) as error:
            log.warning("the accounting database does not answer: %s", error)
            words, recorded, behind = {}, {}, True
        for marker, live in rows.items():
            rows[marker] = [words.get(key_of(row), row) for row in live]
        for ref in left:  # of an array some tasks may be known to the database alone
            past = _of(ref, _ended(recorded.get(ref.marker, ())))
            rows[ref.marker] = [] if behind else [*rows[ref.marker], *past]
        return not behind

    def all_ours(self, prefix: str, since: float) -> Iterator[tuple[str, Reading]]:
        queue = self._queue.listed(self._clock())
        rows = {name: [*live] for name, live in queue.by_name.items() if name.startswith(prefix)}
        if self._is_accounted:
            recorded = self._transport.history(since=_or_ever(since))
            for row in _ended([row for row in recorded if row.name.startswith(prefix)]):
                rows.setdefault(row.name, []).append(row)
        for name, some in rows.items():
            if (reading := observations.reading(some)) is not None:
                yield name, reading

    @property
    def _is_accounted(self) -> bool:
        return self._transport.cluster().accounting

    @property
    def _cluster(self) -> str | None:
        return self._transport.cluster().name


def _or_ever(since: float) -> float | None:
    """Slurm knows no time before the epoch, and 0 would be "now" to some of its parsers."""
    return since if since > 0 else None


def _of(ref: AttemptRef, rows: Sequence[Job]) -> list[Job]:
    """Anybody may give a job of theirs our marker, which the queue shows to all; and how the guard ended a
    copy is not how the job of the handle ended."""
    handle = ref.handle or {}
    user, job_id = str(handle.get("user") or ""), handle.get("id")
    return [
        row
        for row in rows
        if _may_be(row.user, user)
        and (row.group == job_id or job_id is None or not observations.is_second_copy(row))
    ]


def _may_be(one: str, other: str) -> bool:
    """A user whom slurmrestd's machine does not know has a number for a name, or none."""
    return one == other or not one or not other or one.isdecimal() or other.isdecimal()


def _ended(recorded: Sequence[Job]) -> list[Job]:
    """What is over by its latest run: the database also keeps how earlier ones ended, before a requeue, and
    may have that of the latest later than the controller has forgotten it."""
    return [row for row in observations.latest(recorded) if observations.is_over(row)]


def _may_have_left(live: Sequence[Job]) -> bool:
    """Also an array whose rows in the queue have all ended: those that ended before may be gone."""
    if not live:
        return True
    return observations.is_array(live) and all(observations.is_over(row) for row in live)


def _lacks_tasks(ref: AttemptRef, rows: Sequence[Job]) -> bool:
    """Whether it is an array of which nobody knows all that it should have."""
    carriers = (carried.read(ref.marker, row.comment) for row in rows)
    expected = ref.task_indices or next((one.task_indices for one in carriers if one), ())
    return bool(rows) and not set(expected) <= observations.tasks_of(rows, expected).keys()
