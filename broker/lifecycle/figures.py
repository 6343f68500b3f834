"""Figures: what an operator's graphs and alarms are made of, read from the store when somebody asks.

So all processes tell the same, and a process that has died has taken none with it.  A figure whose name ends
in ``_total`` only grows, and is there from the start, so that an alarm has something to look at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from api_spec.ids import time_of
from api_spec.states import FINAL, JobState
from broker.lifecycle.context import UNPLACED, Context
from broker.store.store import COUNTERS

Figure = Mapping[tuple[str, ...], float]
"""Values of the labels -> value."""


def figures(context: Context) -> Mapping[str, Figure]:
    """Name -> figure.  Reads the ids of all live jobs, and no job."""
    store = context.store
    now = store.now()
    records = store.backends.read_many(tuple(context.adapters))
    states = [(project, state) for project in store.projects() for state in JobState]
    counts, oldest = _live_jobs(context, now)
    swept_at = store.swept_at()
    return {
        "jobs": {
            (project, str(state)): store.index.count(project, f"s={state}") for project, state in states
        },
        "live_jobs": {(r.name,): store.backends.live_count(r.name) for r in records},
        "backend_jobs": counts,
        "oldest_job_seconds": oldest,
        "backend_reachable": {(r.name,): float(bool(r.reachable)) for r in records},
        "backend_watched": {
            (r.name,): float(r.is_watched(now)) for r in records if r.watched_until is not None
        },
        "observer_lag_seconds": {
            (r.name,): _lag(now - r.seen_at / 1000, r.name, oldest) for r in records if r.seen_at
        },
        "sweeper_lag_seconds": {} if swept_at is None else {(): max(0.0, now - swept_at)},
        "due_jobs": {(queue,): count for queue, count in store.due_counts(int(now * 1000)).items()},
        **_counters(store.counters()),
    }


def _lag(seconds: float, backend: str, oldest: Figure) -> float:
    """A backend where nothing is live is not looked at, and nothing is late there."""
    known_for = [age for (name, _), age in oldest.items() if name == backend]
    return max(0.0, min(seconds, max(known_for, default=0.0)))


def _live_jobs(context: Context, now: float) -> tuple[Figure, Figure]:
    """By backend and state: how many there are, and for how many seconds the oldest has been known."""
    store = context.store
    backend_of = {job_id: name for name in store.backends.names() for job_id in store.backends.live_ids(name)}
    counts: dict[tuple[str, ...], float] = {}
    oldest: dict[tuple[str, ...], float] = {}
    for job_id, state in _in_live_states(context):
        key = (backend_of.get(job_id, UNPLACED), str(state))
        counts[key] = counts.get(key, 0) + 1
        oldest[key] = max(oldest.get(key, 0.0), now - time_of(job_id))
    return counts, oldest


def _in_live_states(context: Context) -> Iterator[tuple[str, JobState]]:
    for project in context.store.projects():
        for state in JobState:
            if state not in FINAL:
                for job_id in context.store.index.ids(project, f"s={state}"):
                    yield job_id, state


def _counters(known: Mapping[str, int]) -> dict[str, Figure]:
    every = {**dict.fromkeys(COUNTERS, 0), **known}
    return {f"{name}_total": {(): float(value)} for name, value in every.items()}
