"""What a live job takes of Redis' memory, against the length of its specification as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tests.bench.figures import Figure, Size
from tests.bench.grounds import BODY, PROJECT, Grounds
from tests.helpers import wait_until

SAMPLES = 50
OF_A_JOB = ("job", "spec", "attempts", "decisions", "history")
ALLOWED = 2048  # beside the specification; decisions apart
ALLOWED_DECISION = 1024  # at five backends
FIVE = ("hpc", "hpc2", "k8s", "k8s2", "here")


def figures(size: Size) -> Iterator[Figure]:
    grown = []
    with Grounds(
        appendfsync="everysec", backends=FIVE, fake={"start_s": 86400}, max_submits_per_s=10**6
    ) as grounds:
        live(grounds, size.live)  # what is there once: scripts, projects, buffers
        for _ in range(size.rounds):
            before, decisions_before = grounds.used_memory(), of_decisions(grounds)
            live(grounds, size.live)
            grown.append((grounds.used_memory() - before) / size.live)
            size.note("memory", bytes=grown[-1], decisions_before=decisions_before)
        shares = {part: mean_of(grounds, part) for part in OF_A_JOB}
        events = usage(grounds, f"events:{PROJECT}") / grounds.handed_over()
        size.note("memory shares", **shares, events=events)
    lean = [bytes_ - shares["decisions"] - events for bytes_ in grown]
    yield Figure(name="Redis bytes of a live job / its JSON", samples=[b / len(BODY) for b in grown])
    yield Figure(
        name="Redis bytes of a live job, decisions and the stream apart",
        samples=lean,
        unit="B",
        goal=ALLOWED + len(BODY),
        at_least=False,
    )
    yield Figure(
        name="  one decision at 5 backends",
        samples=[shares["decisions"] / 2],  # the provisional and the binding one
        unit="B",
        goal=ALLOWED_DECISION,
        at_least=False,
    )
    yield Figure(name="  all of it", samples=grown, unit="B")
    yield Figure(name="  its specification as JSON", samples=[len(BODY)], unit="B")
    for part in OF_A_JOB:
        yield Figure(name=f"  {part}:<id>", samples=[shares[part]], unit="B")
    yield Figure(name="  its share of the project's events", samples=[events], unit="B")


def live(grounds: Grounds, count: int) -> None:
    """So many jobs more with a handle, by the broker's own steps within this process."""
    wanted = grounds.handed_over() + count
    grounds.accept(count)

    def worked() -> bool:
        for name in (*grounds.broker.context.adapters, "-"):
            grounds.broker.perform(f"drain:{name}")
        return grounds.handed_over() >= wanted

    wait_until(worked, 120.0, "all jobs have a handle")


def keys(grounds: Grounds, part: str) -> list[str]:
    jobs = grounds.broker.store.client.hkeys
    ids = [
        id_.decode()
        for name in grounds.broker.context.adapters
        for id_ in jobs(f"{grounds.broker.store.prefix}live:{name}")
    ]
    return [f"{part}:{id_}" for id_ in ids[:SAMPLES]]


def mean_of(grounds: Grounds, part: str) -> float:
    return statistics.mean(usage(grounds, key) for key in keys(grounds, part))


def of_decisions(grounds: Grounds) -> float:
    return mean_of(grounds, "decisions")


def usage(grounds: Grounds, key: str) -> int:
    store = grounds.broker.store
    return int(store.client.memory_usage(store.prefix + key, samples=0) or 0)
