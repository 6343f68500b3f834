"""Attempts on a cluster without unique names: found by their name, verified before each write.

What is under a marker is asked of the controller's queue first and, for what has left it, of the accounting
database.  Every method raises ``SlurmError``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from adapters.base import Absent, AttemptRef, Found, Unsettled
from adapters.slurm import observations
from adapters.slurm.live import LiveQueue
from adapters.slurm.observations import Reading
from adapters.slurm.records import Job
from adapters.slurm.transport import NotKnown, Transport

SUBMITTED_BEFORE_S = 3600.0
"""The controller's clock and ours may differ by a time zone's mistake, not by more."""
BEHIND_S = 2.0
"""Until the next look when the database is behind, which a busy one is for moments."""


class Attempts:
    """What one cluster knows under our markers."""

    def __init__(
        self, transport: Transport, queue: LiveQueue, settle_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._transport = transport
        self._queue = queue
        self._settle_s = settle_s
        self._clock = clock

    # ---- one attempt -----------------------------------------------------------------------------------

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        """``Absent`` only from a listing that began when nothing could be on its way any more, counted from
        when the controller began to answer: what was sent to one that hung arrives when it goes on."""
        queue = self._queue.listed(self._clock())
        rows = [*queue.named(marker)] or self._on_record(marker, since)
        if (found := observations.reading(rows)) is not None:
            return Found(observations.handle_of(self._cluster, found.rows[0]))
        if self._is_accounted and self._transport.accounting_backlog():
            return Unsettled(self._clock() + BEHIND_S)
        settled = max(since, self._queue.answers_since or self._clock()) + self._settle_s
        return Absent() if queue.began_at >= settled else Unsettled(settled)

    def _on_record(self, marker: str, since: float) -> list[Job]:
        """What the database has of it, but no ghost: a controller that crashed may have lost an accepted job,
        which the database then shows as pending for ever."""
        if not self._is_accounted:
            return []
        rows = self._transport.history(names=[marker], since=_or_ever(since - SUBMITTED_BEFORE_S))
        ours = [row for row in rows if row.name == marker]
        live = [row for group in {row.group for row in ours} for row in self._live(group, marker)]
        return live or [row for row in ours if observations.is_over(row)]

    def live(self, ref: AttemptRef) -> dict[int, list[Job]]:
        """By id: the job of the handle and every copy, as they are now, if they are what the marker says.

        A copy can only be from before the submit was settled, so a listing from after that shows them all.
        """
        now = self._clock()
        settled = (ref.submitted_at or now) + self._settle_s
        listed = self._queue.listed(min(now, settled)).named(ref.marker)
        groups = {row.group for row in listed}
        if (own := _id(ref)) is not None:
            groups.add(own)
        found = {group: self._live(group, ref.marker) for group in sorted(groups)}
        return {group: rows for group, rows in found.items() if rows}

    def _live(self, group: int, marker: str) -> list[Job]:
        """Ids are reused: a row under another name is somebody else's."""
        try:
            rows = self._transport.job(group)
        except NotKnown:
            return []
        return [row for row in rows if row.name == marker and not observations.is_over(row)]

    def known(self, ref: AttemptRef) -> Sequence[Job]:
        """All rows of one attempt, asked for by its id where there is one."""
        own = _id(ref)
        if own is None:
            rows = self._queue.listed(self._clock()).named(ref.marker)
        else:
            try:
                rows = self._transport.job(own)
            except NotKnown:
                rows = ()
        ours = [row for row in rows if row.name == ref.marker]
        if ours or not self._is_accounted:
            return ours
        return self._history([ref]).get(ref.marker, [])

    # ---- many ------------------------------------------------------------------------------------------

    def seen(self, refs: Collection[AttemptRef]) -> Mapping[str, Reading]:
        """One listing for all; the database is asked only for what has left the queue, or is leaving it."""
        queue = self._queue.listed(self._clock())
        rows = {ref.marker: [*queue.named(ref.marker)] for ref in refs}
        if self._is_accounted:
            left = [ref for ref in refs if _may_have_left(rows[ref.marker])]
            for marker, recorded in self._history(left).items():
                rows[marker] += [row for row in recorded if observations.is_over(row)]
        found = {marker: observations.reading(some) for marker, some in rows.items()}
        return {marker: reading for marker, reading in found.items() if reading is not None}

    def all_ours(self, prefix: str, since: float) -> Iterator[tuple[str, Reading]]:
        queue = self._queue.listed(self._clock())
        rows = {name: [*live] for name, live in queue.by_name.items() if name.startswith(prefix)}
        if self._is_accounted:
            for row in self._transport.history(since=_or_ever(since)):
                if row.name.startswith(prefix) and observations.is_over(row):
                    rows.setdefault(row.name, []).append(row)
        for name, some in rows.items():
            if (reading := observations.reading(some)) is not None:
                yield name, reading

    def _history(self, refs: Collection[AttemptRef]) -> dict[str, list[Job]]:
        """By id where there is one: the database has an index of ids, and none of names."""
        ids = {ref.marker: _id(ref) for ref in refs}
        known = [one for one in ids.values() if one is not None]
        names = [marker for marker, one in ids.items() if one is None]
        rows = [*self._transport.history(job_ids=known)] if known else []
        rows += self._transport.history(names=names) if names else []
        found: dict[str, list[Job]] = {}
        for row in rows:
            if row.name in ids:  # an id may have been somebody else's before
                found.setdefault(row.name, []).append(row)
        return found

    @property
    def _is_accounted(self) -> bool:
        return self._transport.cluster().accounting

    @property
    def _cluster(self) -> str | None:
        return self._transport.cluster().name


def _id(ref: AttemptRef) -> int | None:
    found = (ref.handle or {}).get("id")
    return found if isinstance(found, int) else None


def _or_ever(since: float) -> float | None:
    """Slurm knows no time before the epoch, and 0 would be "now" to some of its parsers."""
    return since if since > 0 else None


def _may_have_left(live: Sequence[Job]) -> bool:
    """Also an array whose rows in the queue have all ended: those that ended before may be gone."""
    if not live:
        return True
    return observations.is_array(live) and all(observations.is_over(row) for row in live)
