"""The Slurm adapter on a real cluster, as tests of bad days use it.

bench = on(cluster)
ref = bench.submit(job("sleep 1000"))
cluster.fail_node("n1")
assert bench.ended(ref).reason is Reason.NODE_LOST
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from adapters.base import AttemptRef, BackendConfig, Observation
from adapters.slurm.adapter import SlurmAdapter
from api_spec.jobs import Array, JobSpec, Kind, Placement, Resources, Retry
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.fakes import INSTANCE
from tests.helpers import wait_until
from tests.real.slurm.cluster import Cluster, boot
from tests.real.slurm.fixtures import KINDS, required

BOTH = ("22.05", "24.11-accounting")  # each release, once with a database
SETTLE_S = 1.0
PATIENCE_S = 40.0  # the machine may be busy; Slurm looks at some things every 30 s only


def on(*kinds: str) -> pytest.MarkDecorator:
    """The test runs on clusters of these kinds."""
    return pytest.mark.parametrize("cluster", kinds, indirect=True)


def options_of(cluster: Cluster, /, **changes: Any) -> dict[str, Any]:
    """Of a backend on this cluster, with its key and one user for all."""
    folder = cluster.shared / "jobs"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o1777)  # as root, jobs run as somebody else
    return {
        "url": cluster.rest_url,
        "token": {"key_file": str(cluster.jwt_key_file)},
        "users": {"service": cluster.user},
        "directory": str(folder),
        "settle_s": SETTLE_S,
        # Of the cluster's own release, where that is unpacked in a folder.
        "environment": {"PATH": f"{cluster.install.root}/usr/bin:/usr/bin:/bin"},
        **changes,
    }


def config(cluster: Cluster, /, **changes: Any) -> BackendConfig:
    return BackendConfig(
        name="slurm", type="slurm", instance=INSTANCE, data_dir="", options=options_of(cluster, **changes)
    )


def job(script: str | None = "sleep 1000", **changes: Any) -> JobSpec:
    """A small batch job; ``options`` are native ones, ``retry_on`` reasons."""
    options, retry_on = changes.pop("options", {}), changes.pop("retry_on", ())
    indices, throttle = changes.pop("array", None), changes.pop("max_running", None)
    given: dict[str, Any] = {
        "kind": Kind.BATCH,
        "name": "job",
        "script": script and f"#!/bin/sh\n{script}\n",
        "resources": Resources(memory_per_node_mib=changes.pop("memory_mib", 100)),
        "placement": Placement(slurm=options),
        "retry": Retry(max_attempts=3, on=tuple(retry_on)) if retry_on else Retry(),
        "array": Array(indices=indices, max_running=throttle) if indices else None,
    }
    return JobSpec(**{**given, **changes})


@dataclass
class Bench:
    """One adapter, its cluster, and what was submitted."""

    cluster: Cluster
    adapter: SlurmAdapter
    submitted: list[AttemptRef] = field(default_factory=list)

    def submit(self, spec: JobSpec, ref: AttemptRef | None = None) -> AttemptRef:
        ref = ref or new_ref(spec)
        return replace(ref, handle=self.adapter.submit(ref, spec))

    def run(self, spec: JobSpec) -> AttemptRef:
        """Submitted, and seen running."""
        ref = self.submit(spec)
        self.until(ref, lambda seen: seen.state is AttemptState.RUNNING)
        self.prolog_done(ref)
        return ref

    def look(self, ref: AttemptRef) -> Observation | None:
        """What one complete pass says; None: it is absent."""
        seen = self.adapter.observe([ref])
        assert seen.complete
        return seen.found.get(ref.marker)

    def until(self, ref: AttemptRef, condition: Callable[[Observation], Any]) -> Observation:
        """The first observation that the condition is true for."""
        seen: list[Observation | None] = [None]

        def is_so() -> bool:
            seen[0] = self.look(ref)
            return seen[0] is not None and bool(condition(seen[0]))

        try:
            wait_until(is_so, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; {ref.marker} was last seen as {seen[0]}") from None
        assert seen[0] is not None
        return seen[0]

    def ended(self, ref: AttemptRef) -> Observation:
        return self.until(ref, lambda seen: seen.state is AttemptState.ENDED)

    def waits(self, ref: AttemptRef, native_reason: str) -> Observation:
        return self.until(
            ref,
            lambda seen: seen.state is AttemptState.QUEUED and seen.native_reason == native_reason,
        )

    def prolog_done(self, ref: AttemptRef) -> None:
        """slurmd writes a start down a moment after the controller shows it."""
        wait_until(lambda: self.cluster.starts(ref.marker), why="its start is on record")

    def starts(self, ref: AttemptRef) -> int:
        """Batch scripts that Slurm has started under this name, by its own prolog."""
        return sum(start.step == "batch" for start in self.cluster.starts(ref.marker))


@contextmanager
def bench_on(cluster: Cluster, /, **changes: Any) -> Iterator[Bench]:
    adapter = SlurmAdapter(config(cluster, **changes))
    try:
        yield Bench(cluster, adapter)
    finally:
        adapter.close()


@contextmanager
def own_cluster(kind: str, **changes: Any) -> Iterator[Cluster]:
    """One with other options than those that tests share; skips the test where there can be none."""
    wanted = KINDS[kind]
    if wanted.missing:
        (pytest.fail if required() else pytest.skip)(wanted.missing)
    options = replace(wanted.options, **changes)
    with boot(install=wanted.install, accounting=wanted.accounting, options=options) as cluster:
        yield cluster


def release_what_slurm_holds(cluster: Cluster) -> list[str]:
    """What a killed controller could not launch, it holds until its administrator releases it.  Their ids."""
    lines = cluster.run("squeue", "--noheader", "--format=%i %r").splitlines()
    held = [line.split()[0] for line in lines if "launch failed" in line]
    for job_id in held:
        cluster.run("scontrol", "release", job_id)
    return held


def native_id(ref: AttemptRef) -> str:
    assert ref.handle is not None
    return str(ref.handle["id"])
