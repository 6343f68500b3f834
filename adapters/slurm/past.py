"""What only the accounting database tells: of jobs that have left the queue, and a last word on some that
have just ended there.  Every call raises ``SlurmError``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from adapters.base import AttemptRef
from adapters.slurm import observations, words
from adapters.slurm.records import Job
from adapters.slurm.transport import Transport

LAST_WORD_S = 5.0
"""So long after a job's end its record is waited for; it is there after a second or two, unless the database
is down."""
KILLED = 9

Key = tuple[int, int | None]


class Past:
    def __init__(self, transport: Transport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._clock = clock

    def of(self, refs: Collection[AttemptRef]) -> dict[str, list[Job]]:
        """Every marker has its rows, or none.  Asked by id where there is one: names have no index there."""
        ids = {ref.marker: id_of(ref) for ref in refs}
        known = [one for one in ids.values() if one is not None]
        names = [marker for marker, one in ids.items() if one is None]
        rows = [*self._transport.history(job_ids=known)] if known else []
        rows += self._transport.history(names=names) if names else []
        found: dict[str, list[Job]] = {marker: [] for marker in ids}
        for row in rows:
            if row.name in ids:  # an id may have been somebody else's before
                found[row.name].append(row)
        return found

    def with_last_words(self, rows: Collection[Job]) -> dict[Key, Job]:
        """Who cancelled a job, and what a killed one had used; all other rows are left out.  One whose record
        has not come yet is shown as not quite over, for a moment."""
        owed = [row for row in rows if is_owed(row)]
        if not owed:
            return {}
        recorded = self._by_key({row.group for row in owed})
        return {key_of(row): self._told(row, recorded.get(key_of(row))) for row in owed}

    def _by_key(self, groups: Collection[int]) -> Mapping[Key, Job]:
        rows = self._transport.history(job_ids=sorted(groups))
        return {key_of(row): row for row in rows if observations.is_over(row)}

    def _told(self, row: Job, record: Job | None) -> Job:
        # Ids are reused, and 22.05 records an end before what the job was and its steps had used.
        if record is not None and record.submitted_at == row.submitted_at and _says_it(row, record):
            return replace(row, cancelled_by=record.cancelled_by, peak_memory_mib=record.peak_memory_mib)
        if row.ended_at is None or abs(self._clock() - row.ended_at) > LAST_WORD_S:
            return row
        return replace(row, states=(*row.states, "COMPLETING") if row.nodes else ("PENDING",))


def id_of(ref: AttemptRef) -> int | None:
    """Slurm's id, where the attempt has been handed over."""
    found = (ref.handle or {}).get("id")
    return found if isinstance(found, int) else None


def key_of(row: Job) -> Key:
    return row.group, row.task


def is_owed(row: Job) -> bool:
    """Cancelled by somebody, or killed as what takes too much memory is."""
    if row.accounted or not observations.is_over(row):
        return False
    if "CANCELLED" in row.states:
        return row.reason not in words.ENDINGS
    return "FAILED" in row.states and row.signal == KILLED


def _says_it(row: Job, record: Job) -> bool:
    told = record.cancelled_by if "CANCELLED" in row.states else record.peak_memory_mib
    return told is not None
