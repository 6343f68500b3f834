"""What jobs have taken of a cluster, by account and user or each alone, from rows of its accounting database.
Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from adapters.extras import Usage
from adapters.slurm.records import Job
from api_spec.usage import RunUsage

LONGEST_S = 30 * 86400.0
"""The database is asked by time of submission: what waited and ran for longer than this is left out."""


def by_account(rows: Iterable[Job], since: float, until: float) -> Sequence[Usage]:
    """Of each run the part within the time, as allocated, whether it was used or not."""
    found: dict[tuple[str, str], list[Usage]] = defaultdict(list)
    for row in rows:
        if row.accounted and (seconds := _within(row, since, until)) > 0:
            found[row.account or "", row.user].append(_of_run(row, seconds))
    return [_sum(some) for _, some in sorted(found.items())]


def _within(row: Job, since: float, until: float) -> float:
    if row.started_at is None:
        return 0.0
    return min(row.ended_at or until, until) - max(row.started_at, since)


def _of_run(row: Job, seconds: float) -> Usage:
    return Usage(
        account=row.account or "",
        user=row.user,
        runs=1,
        cpu_s=seconds * row.tres.get("cpu", 0.0),
        gpu_s=seconds * row.tres.get("gres/gpu", 0.0),
        memory_mib_s=seconds * row.tres.get("mem", 0.0),
        energy_j=row.energy_j or 0.0,
    )


def _sum(runs: Sequence[Usage]) -> Usage:
    return Usage(
        account=runs[0].account,
        user=runs[0].user,
        runs=len(runs),
        cpu_s=sum(one.cpu_s for one in runs),
        gpu_s=sum(one.gpu_s for one in runs),
        memory_mib_s=sum(one.memory_mib_s for one in runs),
        energy_j=sum(one.energy_j for one in runs),
    )


def of_attempts(found: Mapping[str, Sequence[Job]]) -> dict[str, RunUsage]:
    """Each with its rows; one of which a task has no record of its end is left out, it comes later."""
    ended = {
        marker: [row for row in rows if row.accounted and row.ended_at is not None]
        for marker, rows in found.items()
        if all(row.ended_at is not None for row in rows if row.accounted)
    }
    return {marker: _of_attempt(rows) for marker, rows in ended.items() if rows}


def _of_attempt(rows: Sequence[Job]) -> RunUsage:
    runs = [_of_run(row, _ran_s(row)) for row in rows]
    starts = [row.started_at for row in rows if row.started_at is not None]
    ends = [row.ended_at for row in rows if row.ended_at is not None]
    return RunUsage(
        elapsed_s=max(0.0, max(ends) - min(starts)) if starts else 0.0,
        cpu_s=sum(one.cpu_s for one in runs),
        gpu_s=sum(one.gpu_s for one in runs),
        memory_mib_s=sum(one.memory_mib_s for one in runs),
        peak_memory_mib=max((row.peak_memory_mib for row in rows if row.peak_memory_mib), default=None),
        energy_j=sum(told) if (told := [row.energy_j for row in rows if row.energy_j]) else None,
    )


def _ran_s(row: Job) -> float:
    """Suspended time is not in what Slurm calls elapsed."""
    if row.elapsed_s is not None:
        return row.elapsed_s
    return max(0.0, (row.ended_at or 0.0) - row.started_at) if row.started_at is not None else 0.0
