"""Decisions a second with 20 backends, against closures written by hand that come to the same result.

The closures are what one would write without a policy language: no sentences, no record, no refusals told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from api_spec.jobs import JobSpec, Kind
from api_spec.schemas import load_spec
from broker.policy_files import policy_at
from policies.engine import decide
from policies.facts import BackendFacts, Facts, ShapeFacts
from tests.bench.figures import Figure, Size
from tests.bench.grounds import PROJECT, TRAINING

COUNT = 20
Points = Callable[[BackendFacts, JobSpec], float]


def figures(size: Size) -> Iterator[Figure]:
    spec, policy = load_spec(TRAINING), policy_at(None)
    ratios, ours, theirs = [], [], []
    worlds = [world(number) for number in range(size.decisions)]
    for facts in worlds:
        decision = decide(spec, facts, policy, binding=False)
        assert decision.chosen == by_hand(spec, facts), "both sides must come to the same result"
    for _ in range(size.rounds):
        ours.append(rate(lambda facts: decide(spec, facts, policy, binding=False), worlds))
        theirs.append(rate(lambda facts: by_hand(spec, facts), worlds))
        ratios.append(ours[-1] / theirs[-1])
        size.note("decisions", engine=ours[-1], closures=theirs[-1])
    yield Figure(name=f"decisions at {COUNT} backends: rate / closures", samples=ratios)
    yield Figure(name="  the engine, with every sentence", samples=ours, unit="/s")
    yield Figure(name="  closures, the winner alone", samples=theirs, unit="/s")


def rate(decide_one: Callable[[Facts], object], worlds: Sequence[Facts]) -> float:
    began = time.process_time()
    for facts in worlds:
        decide_one(facts)
    return len(worlds) / (time.process_time() - began)


def world(number: int) -> Facts:
    """Twenty backends of three types, busy in different ways; none refuses."""
    return Facts(
        backends=tuple(backend(number, n) for n in range(COUNT)), owner="ana", project=PROJECT, now=1e9
    )


def backend(number: int, n: int) -> BackendFacts:
    free = (number * 7 + n * 3) % 9
    gpu = ShapeFacts(
        name="gpu", count=8, cpus=64, memory_mib=524288, gpus=8, gpu_type="h100", free_nodes=free,
        free_cpus=free * 64, free_memory_mib=free * 524288, free_gpus=free * 8,
    )  # fmt: skip
    cpu = ShapeFacts(name="cpu", count=32, cpus=64, memory_mib=262144, free_nodes=8, free_cpus=512)
    return BackendFacts(
        name=f"backend-{n:02}",
        type=("slurm", "kubernetes", "local")[n % 3],
        reachable=True,
        shapes=(gpu, cpu),
        queued_count=(number * 5 + n) % 12,
        snapshot_age_s=4.0,
        assigned_since_snapshot=n % 3,
    )


# ---- by hand -----------------------------------------------------------------------------------------


def queue_points(backend: BackendFacts, spec: JobSpec) -> float:
    room = backend.could_start_now(spec.resources)
    ahead = (backend.queued_count or 0) + max(0, backend.assigned_since_snapshot - room)
    backlog = ahead / max(1, backend.holds_at_once(spec.resources))
    free_now = 20.0 if room - backend.assigned_since_snapshot > 0 else 0.0
    return free_now + (-20.0 * backlog / (1.0 + backlog) if ahead > 0 else 0.0)


def kind_points(backend: BackendFacts, spec: JobSpec) -> float:
    wanted = "kubernetes" if spec.kind is Kind.INFERENCE else "slurm"
    return 100.0 if backend.type == wanted else 0.0


def cluster_points(backend: BackendFacts, spec: JobSpec) -> float:
    return 0.0 if backend.type == "local" else 50.0


PREFERENCES: tuple[Points, ...] = (kind_points, cluster_points, queue_points)


def by_hand(spec: JobSpec, facts: Facts) -> str | None:
    """The winner's name; points are rounded as the engine does, or ties would fall differently."""
    fitting = [
        backend
        for backend in facts.backends
        if backend.reachable and not (backend.drained or backend.paused or backend.refusals)
    ]
    ranked = [
        (-round(sum(points(backend, spec) for points in PREFERENCES), 6), backend.name) for backend in fitting
    ]
    return min(ranked)[1] if ranked else None
