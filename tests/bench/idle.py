"""What 10,000 live jobs cost while nothing happens: CPU of worker, controller and Redis.

Two brokers run side by side, one with the jobs and one without, and are measured over the same seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from tests.bench.figures import Figure, Size
from tests.bench.grounds import Grounds
from tests.helpers import wait_until

OURS = ("worker", "controller", "redis")
HABITS = {"start_s": 86400}


def figures(size: Size) -> Iterator[Figure]:
    """In percent of one core."""
    settings = {"max_submits_per_s": 10**6, "max_live_jobs": 10**6}
    added: dict[str, list[float]] = {name: [] for name in (*OURS, "fake", "all")}
    empty: list[float] = []
    pauses: list[float] = []
    with Grounds(fake=HABITS, **settings) as full, Grounds(fake=HABITS, **settings) as idle:
        for grounds in (full, idle):
            for role in ("worker", "controller"):
                grounds.start(role)
        full.accept(size.idle_jobs)
        wait_until(lambda: full.handed_over() == size.idle_jobs, 600.0, "all jobs have a handle")
        settle(full)
        for _ in range(size.rounds):
            passes_before = passes(full)
            spent_full, spent_idle = spent(full, idle, size.idle_s)
            pauses.append(size.idle_s / max(1, passes(full) - passes_before))
            for name in (*OURS, "fake"):
                added[name].append(100 * (spent_full[name] - spent_idle[name]) / size.idle_s)
            added["all"].append(sum(added[name][-1] for name in OURS))
            empty.append(100 * sum(spent_idle[name] for name in OURS) / size.idle_s)
            size.note("idle", full=spent_full, empty=spent_idle, seconds=size.idle_s, pause_s=pauses[-1])
    jobs = f"{size.idle_jobs} live jobs"
    yield Figure(name=f"idle CPU that {jobs} add, of one core", samples=added["all"], unit="%")
    yield Figure(name="  idle CPU without jobs, of one core", samples=empty, unit="%")
    yield Figure(name="  from one pass of the observer to the next", samples=pauses, unit="s")
    for name in OURS:
        yield Figure(name=f"  of {jobs}: {name}", samples=added[name], unit="%")
    yield Figure(name="  not counted, the fake itself", samples=added["fake"], unit="%")


def settle(grounds: Grounds) -> None:
    """Each job's first observation is written once; a pass that finds nothing new is what is measured."""
    backends = grounds.broker.store.backends
    wait_until(
        lambda: all(one.fingerprint for one in backends.live("hpc").values()), 600.0, "all were observed"
    )
    wanted = passes(grounds) + 2

    def has_gone_round() -> bool:
        """It rests in proportion to its last pass; that one was all writing, so no rest until it has read."""
        if passes(grounds) < wanted:
            backends.postpone("hpc", "observe_at", 0)
        return passes(grounds) > wanted

    wait_until(has_gone_round, 600.0, "the observer goes round")


def passes(grounds: Grounds) -> int:
    """How often the fake was asked for all of its jobs."""
    return grounds.fake.asked().get("list", 0)


def spent(full: Grounds, idle: Grounds, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    names = (*OURS, "fake")
    before = [{name: grounds.cpu_s(name) for name in names} for grounds in (full, idle)]
    threading.Event().wait(seconds)
    after = [{name: grounds.cpu_s(name) for name in names} for grounds in (full, idle)]
    full_s, idle_s = ({n: b[n] - a[n] for n in names} for a, b in zip(before, after, strict=True))
    return full_s, idle_s
