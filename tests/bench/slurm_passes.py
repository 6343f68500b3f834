"""One pass of the observer over thousands of real jobs that are held, against one bare listing of them.

CPU of everybody who takes part: this process, Redis, slurmrestd and slurmctld.  Some jobs have changed before
each pass: half of them were cancelled, half of them run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.figures import Figure, Size
from tests.bench.slurm_grounds import BACKEND, Bare, SlurmGrounds, releases, rounds, slurm_grounds
from tests.helpers import wait_until
from tests.real.slurm.installs import Install

GOAL = 1.5
CHANGES = 50
FLAT = 1.1  # slurmrestd's memory after a hundred passes, of what it was after ten
Spent = dict[str, float]


def figures(size: Size) -> Iterator[Figure]:
    for install in releases():
        yield from of_release(install, size)


def of_release(install: Install, size: Size) -> Iterator[Figure]:
    label = f"Slurm {install.label}, {size.slurm_held} held jobs"
    with slurm_grounds(install) as grounds, Bare(grounds) as bare:
        first = fill(grounds, size.slurm_held)
        size.note(f"slurm first pass {install.label}", **first)
        yield from passes(grounds, bare, size, label)
        yield from memory(grounds, size, label)
    yield Figure(name="  the first pass, which writes all", samples=[sum(first.values())], unit="s")


def passes(grounds: SlurmGrounds, bare: Bare, size: Size, label: str) -> Iterator[Figure]:
    listings, changed, quiet = [], [], []
    for _ in range(rounds(size)):
        listings.append(spent(grounds, bare.jobs))
        change(grounds)
        changed.append(spent(grounds, lambda: one_pass(grounds)))
        settle(grounds)
        quiet.append(spent(grounds, lambda: one_pass(grounds)))
        size.note(f"slurm passes {label}", bare=listings[-1], changed=changed[-1], quiet=quiet[-1])
    every, alone, calm = (list(map(total, some)) for some in (changed, listings, quiet))
    ratios = [a / b for a, b in zip(every, alone, strict=True)]
    yield Figure(
        name=f"{label}: a pass with {CHANGES} changes / a listing", samples=ratios, goal=GOAL, at_least=False
    )
    for what, samples in (("the pass", changed), ("the listing", listings)):
        yield Figure(name=f"  {what}", samples=list(map(total, samples)), unit="s")
        for name in samples[0]:
            yield Figure(name=f"    {name}", samples=[one[name] for one in samples], unit="s")
    yield Figure(name="  a pass without a change", samples=calm, unit="s")


def memory(grounds: SlurmGrounds, size: Size, label: str) -> Iterator[Figure]:
    """One job is changed before each pass, or the controller would answer that nothing has."""
    held = grounds.job_ids("pending")
    sizes = []
    for number in range(10 + size.slurm_passes):
        grounds.tell("scancel", ids=[held.pop()])
        one_pass(grounds)
        sizes.append(resident_mib(grounds))
        size.note(f"slurm memory {label}", number=number, mib=sizes[-1])
    growth = sizes[-1] / sizes[9]
    yield Figure(
        name=f"{label}: slurmrestd's memory after {size.slurm_passes} passes more / after 10",
        samples=[growth], goal=FLAT, at_least=False,
    )  # fmt: skip
    yield Figure(name="  then", samples=[sizes[-1]], unit="MiB")


# ---- the cluster -------------------------------------------------------------------------------------


def fill(grounds: SlurmGrounds, count: int) -> Spent:
    """So many held jobs, each submitted by the broker's own steps; what the first pass over them took."""
    grounds.partition("down")
    grounds.accept(count)

    def submitted() -> bool:
        grounds.broker.perform(f"drain:{BACKEND}")
        grounds.broker.perform("drain:-")
        return grounds.handed_over() >= count

    wait_until(submitted, 1200.0, "all jobs are at Slurm")
    grounds.tell("scontrol", "hold", ids=grounds.job_ids("pending"))
    grounds.partition("up")
    return spent(grounds, lambda: one_pass(grounds))


def change(grounds: SlurmGrounds) -> None:
    held = grounds.job_ids("pending")
    to_run, to_end = held[: CHANGES // 2], held[CHANGES // 2 : CHANGES]
    grounds.tell("scontrol", "release", ids=to_run)
    grounds.tell("scancel", ids=to_end)
    wait_until(lambda: set(to_run) <= set(grounds.job_ids("running")), 60.0, "the released jobs run")


def settle(grounds: SlurmGrounds) -> None:
    """What runs goes, for the next round, and its end is written."""
    grounds.tell("scancel", ids=grounds.job_ids("running"))
    wait_until(lambda: not grounds.job_ids("running,completing"), 60.0, "nothing runs")
    one_pass(grounds)


def one_pass(grounds: SlurmGrounds) -> None:
    grounds.broker.perform(f"observe:{BACKEND}")


# ---- what it took ------------------------------------------------------------------------------------


def spent(grounds: SlurmGrounds, work: Callable[[], object]) -> Spent:
    before = clocks(grounds)
    work()
    ours = time.process_time()
    return {name: now - before[name] for name, now in {**clocks(grounds), "python": ours}.items()}


def clocks(grounds: SlurmGrounds) -> Spent:
    """CPU seconds so far; ours last, since looking at the others costs some."""
    others = {"redis": grounds.cpu_s("redis"), **grounds.slurm_cpu_s()}
    return {**others, "python": time.process_time()}


def total(some: Spent) -> float:
    return sum(some.values())


def resident_mib(grounds: SlurmGrounds) -> float:
    status = Path(f"/proc/{grounds.cluster.daemons['slurmrestd'].pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024
