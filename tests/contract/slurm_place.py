"""Real Slurm as a place of the contract: its daemons, its jobs, and its own records for the truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from adapters.base import AttemptRef, Observation, Observations
from adapters.errors import Busy
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.live import DETAILS_AT_ONCE
from api_spec.jobs import JobSpec, Kind, Resources
from api_spec.states import AttemptState
from tests.contract.behind_a_wire import WIRE_FAULTS, BehindAWire
from tests.contract.places import Fault, Place, RunsCommands
from tests.helpers import wait_until
from tests.real.daemons import STARTED_AGAIN
from tests.real.slurm.fixtures import KINDS, boot_kind
from tests.real.slurm_kit import SETTLE_S, config
from tests.wire import Wire

CPUS = 8
NODES = 4


class SlurmPlace(BehindAWire, RunsCommands):
    kind: ClassVar[str]
    shows = frozenset({*SlurmAdapter.capabilities, *WIRE_FAULTS, Fault.REQUEUE})
    unique_names = False
    resources = Resources(memory_per_node_mib=100)

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.cluster = stack.enter_context(boot_kind(self.kind))
        super().__init__(stack, stack.enter_context(Wire(self.cluster.rest_url)))
        self.adapter.find("nobody", 0.0)  # from now on the controller answers this process
        began = time.time()
        wait_until(lambda: time.time() > began + SETTLE_S)

    def adapter_at(self, url: str, **changes: Any) -> SlurmAdapter:
        return SlurmAdapter(config(self.cluster, url=url, **changes))

    # ---- jobs

    def service(self, replicas: int) -> JobSpec:
        raise NotImplementedError("Slurm runs no services")

    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        """Another job has all CPUs."""
        everything = Resources(nodes=NODES, cpus_per_task=CPUS, memory_per_node_mib=100)
        all_nodes = JobSpec(
            kind=Kind.BATCH, name="job", script="#!/bin/sh\nexec sleep 1000\n", resources=everything
        )
        blocker = self.submit(all_nodes)
        self.until(blocker, AttemptState.RUNNING)
        return self.submit(self.job(runs=True)), lambda: self.adapter.cancel(blocker)

    # ---- the truth

    def starts(self, marker: str) -> int:
        """slurmd writes a start down a moment after the controller shows it as running."""
        running = set(self.cluster.run("squeue", "-h", "-t", "running", "-n", marker, "-o", "%A").split())
        wait_until(lambda: running <= {str(one.job_id) for one in self.cluster.starts(marker)})
        return sum(1 for start in self.cluster.starts(marker) if start.step == "batch")

    def copies(self, marker: str) -> int:
        listed = self.cluster.run("squeue", "-h", "--all", "-t", "all", "-n", marker, "-o", "%A")
        return len(set(listed.split()))

    def look(self, ref: AttemptRef) -> Observation:
        """While the database is behind, a pass over an array that has just ended is not complete.  A pass
        that gets no answer is made again, as the broker's next one; the tests say so at their end."""

        def complete() -> Observations | None:
            try:
                seen = self.adapter.observe([ref])
            except Busy as error:
                STARTED_AGAIN.append(f"asked once more: Slurm {self.kind} ({error})")
                return None
            return seen if seen.complete else None

        return wait_until(complete, 30).found[ref.marker]

    def settle(self) -> None:
        transport = self.adapter.transport
        if transport.cluster().accounting:
            wait_until(lambda: not transport.accounting_backlog(), 30)

    def calm(self) -> None:
        super().calm()
        self.cluster.calm()

    def requeue(self, ref: AttemptRef) -> None:
        assert ref.handle is not None
        self.cluster.run("scontrol", "requeue", str(ref.handle["id"]))
        # Until then it is being ended, and still shown as running.
        wait_until(lambda: self.look(ref).restarts)


class Slurm2205(SlurmPlace):
    name = kind = "22.05"
    # v0.0.38 does not say when its listing was made, which takes a question of its own.
    trips_per_pass = 2


class Slurm2411(SlurmPlace):
    name = kind = "24.11"
    # The states, and details of what has changed.
    trips_per_pass = 1 + DETAILS_AT_ONCE


class Slurm2205Accounting(Slurm2205):
    name = kind = "22.05-accounting"
    # The database is asked for some 40 names at once, since they travel in a URL; ids are shorter.
    trips_per_pass = Slurm2205.trips_per_pass + 20


class Slurm2411Accounting(Slurm2411):
    name = kind = "24.11-accounting"
    trips_per_pass = Slurm2411.trips_per_pass + 20


SLURM_PLACES = (Slurm2205, Slurm2411, Slurm2205Accounting, Slurm2411Accounting)


def missing(place: type[Place]) -> str | None:
    """What this machine lacks for it, as a sentence."""
    return KINDS[place.kind].missing if issubclass(place, SlurmPlace) else None
