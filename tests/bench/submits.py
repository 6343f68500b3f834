"""Submissions through the whole broker, and a loop that only submits: how both are measured.

Each side is the rate a second, ``rate``, and milliseconds of CPU a job by name of the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tests.bench.figures import Figure
from tests.bench.grounds import Grounds
from tests.bench.load import post
from tests.helpers import wait_until

Side = dict[str, float]
BROKER = ("api", "worker", "controller")
OFFERED = 50.0  # a second, to a real backend
GOAL = 0.9


def through_the_broker(
    grounds: Grounds, body: bytes, count: int, *, offered: float, cpu_of: Sequence[str]
) -> Side:
    """From the first POST, of which ``offered`` come a second, until the handle of the last one is stored."""
    had, before = grounds.handed_over(), cpu(grounds, cpu_of)
    answer: dict[str, float] = {}
    options = {"token": grounds.token, "count": count, "rate": offered}
    client = threading.Thread(
        target=lambda: answer.update(post(grounds.port, "/v1/jobs", body, **options)), daemon=True
    )
    client.start()
    wait_until(lambda: grounds.handed_over() == had + count, 300.0, f"{count} jobs have their handles")
    ended_at = time.time()
    spent = each(grounds, before, count)
    client.join()
    return {"rate": count / (ended_at - answer["began_at"]), **spent}


def alone(grounds: Grounds, submit: Callable[[int], None], count: int, *, cpu_of: Sequence[str]) -> Side:
    """``submit`` is called with the number of each job."""
    before = cpu(grounds, cpu_of)
    began = time.monotonic()
    for number in range(count):
        submit(number)
    taken = time.monotonic() - began
    return {"rate": count / taken, **each(grounds, before, count)}


def cpu(grounds: Grounds, names: Sequence[str]) -> Side:
    return {name: grounds.cpu_s(name) for name in names}


def each(grounds: Grounds, before: Side, count: int) -> Side:
    return {name: 1000 * (grounds.cpu_s(name) - was) / count for name, was in before.items()}


def figures(label: str, ours: Sequence[Side], bare: Sequence[Side]) -> Iterator[Figure]:
    """Of a real backend, a round each."""
    shares = [a["rate"] / min(OFFERED, b["rate"]) for a, b in zip(ours, bare, strict=True)]
    yield Figure(name=f"{label}: submits, rate / the smaller of 50 and bare", samples=shares, goal=GOAL)
    yield Figure(name="  the broker, 50 a second offered", samples=[one["rate"] for one in ours], unit="/s")
    yield Figure(name="  a bare loop of POSTs", samples=[one["rate"] for one in bare], unit="/s")
    yield from cpu_figures("CPU a job", ours)
    yield from cpu_figures("CPU a job of the bare loop", bare)


def cpu_figures(label: str, sides: Sequence[Side]) -> Iterator[Figure]:
    for name in sides[0]:
        if name != "rate":
            yield Figure(name=f"  {label}, {name}", samples=[one[name] for one in sides], unit="ms")
