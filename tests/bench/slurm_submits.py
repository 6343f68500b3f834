"""Submissions through API, store, Celery and worker to a real controller, against a loop that only submits.

No job starts meanwhile, so that what is measured ends with Slurm's id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from tests.bench.figures import Figure, Size
from tests.bench.load import post
from tests.bench.slurm_grounds import BODY, Bare, SlurmGrounds, releases, rounds, slurm_grounds
from tests.helpers import wait_until
from tests.real.slurm.installs import Install

OFFERED = 50.0  # a second
GOAL = 0.9
BROKER = ("api", "worker", "controller")
SLURM = ("slurmrestd", "slurmctld")


def figures(size: Size) -> Iterator[Figure]:
    for install in releases():
        yield from of_release(install, size)


def of_release(install: Install, size: Size) -> Iterator[Figure]:
    bare, ours = [], []
    for _ in range(rounds(size)):
        with slurm_grounds(install) as grounds:
            grounds.partition("down")
            grounds.start_broker()
            ours.append(through_the_broker(grounds, size.slurm_submits))
            bare.append(alone(grounds, size.slurm_submits))  # after it: its jobs would be in every listing
            size.note(f"slurm submits {install.label}", bare=bare[-1], broker=ours[-1])
    label = f"Slurm {install.label}"
    shares = [a["rate"] / min(OFFERED, b["rate"]) for a, b in zip(ours, bare, strict=True)]
    yield Figure(name=f"{label}: submits, rate / the smaller of 50 and bare", samples=shares, goal=GOAL)
    yield Figure(name="  the broker, 50 a second offered", samples=[one["rate"] for one in ours], unit="/s")
    yield Figure(name="  a bare loop of POSTs", samples=[one["rate"] for one in bare], unit="/s")
    for name in (*BROKER, "redis", *SLURM):
        yield Figure(name=f"  CPU a job, {name}", samples=[one[name] for one in ours], unit="ms")
    for name in SLURM:
        yield Figure(
            name=f"  CPU a job of the bare loop, {name}", samples=[one[name] for one in bare], unit="ms"
        )


def alone(grounds: SlurmGrounds, count: int) -> dict[str, float]:
    """Rate a second, and milliseconds of CPU a job by name."""
    before = cpu(grounds, SLURM)
    with Bare(grounds) as bare:
        began = time.monotonic()
        for number in range(count):
            bare.submit(number)
        taken = time.monotonic() - began
    return {"rate": count / taken, **each(grounds, before, count)}


def through_the_broker(grounds: SlurmGrounds, count: int) -> dict[str, float]:
    """The same; from the first POST until Slurm's id of the last one is stored."""
    had, before = grounds.handed_over(), cpu(grounds, (*BROKER, "redis", *SLURM))
    answer: dict[str, float] = {}
    options = {"token": grounds.token, "count": count, "rate": OFFERED}
    client = threading.Thread(
        target=lambda: answer.update(post(grounds.port, "/v1/jobs", BODY, **options)), daemon=True
    )
    client.start()
    wait_until(lambda: grounds.handed_over() == had + count, 300.0, f"{count} jobs have their ids")
    ended_at = time.time()
    spent = each(grounds, before, count)
    client.join()
    return {"rate": count / (ended_at - answer["began_at"]), **spent}


def cpu(grounds: SlurmGrounds, names: tuple[str, ...]) -> dict[str, float]:
    return {name: grounds.cpu_s(name) for name in names}


def each(grounds: SlurmGrounds, before: dict[str, float], count: int) -> dict[str, float]:
    return {name: 1000 * (grounds.cpu_s(name) - was) / count for name, was in before.items()}
