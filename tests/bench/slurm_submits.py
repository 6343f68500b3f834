"""Submissions through API, store, Celery and worker to a real controller, against a loop that only submits.

No job starts meanwhile, so that what is measured ends with Slurm's id.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import submits
from tests.bench.figures import Figure, Size
from tests.bench.slurm_grounds import BODY, Bare, SlurmGrounds, releases, rounds, slurm_grounds
from tests.real.slurm.installs import Install

SLURM = ("slurmrestd", "slurmctld")
ALL = (*submits.BROKER, "redis", *SLURM)


def figures(size: Size) -> Iterator[Figure]:
    for install in releases():
        yield from of_release(install, size)


def of_release(install: Install, size: Size) -> Iterator[Figure]:
    bare, ours = [], []
    count = size.slurm_submits
    for _ in range(rounds(size)):
        with slurm_grounds(install) as grounds:
            grounds.partition("down")
            grounds.start_broker()
            ours.append(submits.through_the_broker(grounds, BODY, count, offered=submits.OFFERED, cpu_of=ALL))
            bare.append(alone(grounds, count))  # after it: its jobs would be in every listing
            size.note(f"slurm submits {install.label}", bare=bare[-1], broker=ours[-1])
    yield from submits.figures(f"Slurm {install.label}", ours, bare)


def alone(grounds: SlurmGrounds, count: int) -> submits.Side:
    with Bare(grounds) as bare:
        return submits.alone(grounds, bare.submit, count, cpu_of=SLURM)
