"""What is known about the backends when it is decided: plain numbers, frozen, so that a decision replays.

The broker fills these from the last snapshot of each backend; nothing here asks anybody.  ``None`` means
"nobody knows", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from api_spec.decisions import Refusal
from api_spec.jobs import Resources

COUNTED = 256  # kinds of jobs for which it is known how many a backend holds; arbitrary


@dataclass(frozen=True, kw_only=True)
class ShapeFacts:
    """``count`` nodes that are alike; what is free is summed over them, ``free_nodes`` are wholly free."""

    name: str
    count: int
    cpus: int
    memory_mib: int
    gpus: int = 0
    gpu_type: str | None = None
    gpus_by_type: Mapping[str, int] = field(default_factory=dict)
    slices: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    free_nodes: int = 0
    free_cpus: int = 0
    free_memory_mib: int = 0
    free_gpus: int = 0

    def nodes_that_hold(self, wanted: Resources) -> int:
        """How many nodes of this shape could hold one node's share, were they empty."""
        return self.count if self.times_a_node(wanted) else 0

    def times_a_node(self, wanted: Resources) -> int:
        """How many shares one node holds when it is empty."""
        return self._times(wanted, self.cpus, self.memory_mib, self._gpus_for(wanted))

    def _gpus_for(self, wanted: Resources) -> int:
        """Those of a node that are what the job asks for."""
        if wanted.mig_profile is not None:
            return self.slices.get(wanted.mig_profile, 0)
        if wanted.gpu_type is None:
            return self.gpus
        return self.gpus_by_type.get(wanted.gpu_type, self.gpus if wanted.gpu_type == self.gpu_type else 0)

    def room_for(self, wanted: Resources) -> int:
        """How many nodes' shares could start now.

        What is free is known only as a sum over the nodes, so this is an upper estimate unless a share takes
        a whole node.
        """
        if not self.nodes_that_hold(wanted):
            return 0
        most = self.count * self._gpus_for(wanted)
        # Of slices nobody says how many are free.
        free_gpus = most if wanted.mig_profile is not None else min(most, self.free_gpus)
        shares = self._times(wanted, self.free_cpus, self.free_memory_mib, free_gpus)
        return min(shares, self.free_nodes) if self._takes_a_whole_node(wanted) else shares

    def _times(self, wanted: Resources, cpus: int, memory_mib: int, gpus: int) -> int:
        times = max(cpus, 0) // max(wanted.cpus_per_node, 1)
        if wanted.memory_per_node_mib:
            times = min(times, max(memory_mib, 0) // wanted.memory_per_node_mib)
        if wanted.gpus_per_node:
            times = min(times, max(gpus, 0) // wanted.gpus_per_node)
        return times

    def _takes_a_whole_node(self, wanted: Resources) -> bool:
        return (
            wanted.cpus_per_node >= self.cpus
            or (wanted.memory_per_node_mib or 0) >= self.memory_mib
            or (wanted.mig_profile is None and 0 < self.gpus <= wanted.gpus_per_node)
        )


@dataclass(frozen=True, kw_only=True)
class BackendFacts:
    """One configured backend, seen or not.

    ``shapes`` None: no inventory was ever seen; ``queued_count`` None: no load was.  ``refusals`` are the
    adapter's own, computed beforehand by its pure function.  ``assigned_since_snapshot`` counts the jobs
    placed here since what is free was last looked at.
    """

    name: str
    type: str
    capabilities: frozenset[str] = frozenset()
    reachable: bool | None = None  # None: not looked at yet
    message: str | None = None  # why it is not reachable
    drained: bool = False
    paused: bool = False
    shapes: tuple[ShapeFacts, ...] | None = None
    features: frozenset[str] = frozenset()
    limits: Mapping[str, float] = field(default_factory=dict)
    queued_count: int | None = None
    running_count: int | None = None
    snapshot_age_s: float | None = None
    refusals: tuple[Refusal, ...] = ()
    assigned_since_snapshot: int = 0
    live_jobs: int = 0
    max_live_jobs: int | None = None
    _counted: dict[Resources, tuple[int, int]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def holds_at_once(self, wanted: Resources) -> int:
        """How many jobs like this one would run at once, were the backend empty."""
        return self._count(wanted)[0]

    def could_start_now(self, wanted: Resources) -> int:
        """How many jobs like this one fitted into what was free when it was last looked at."""
        return self._count(wanted)[1]

    def _count(self, wanted: Resources) -> tuple[int, int]:
        """Both, once for all jobs that ask for the same of these shapes."""
        counted = self._counted.get(wanted)
        if counted is None:
            if len(self._counted) >= COUNTED:
                self._counted.clear()
            counted = self._counted[wanted] = self._held(wanted), self._fitting(wanted)
        return counted

    def _held(self, wanted: Resources) -> int:
        shares = sum(shape.count * shape.times_a_node(wanted) for shape in self.shapes or ())
        return shares // max(wanted.nodes, 1)

    def _fitting(self, wanted: Resources) -> int:
        return sum(shape.room_for(wanted) for shape in self.shapes or ()) // max(wanted.nodes, 1)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that ``decide`` knows beside the spec and the policy; ``now`` only dates the decision."""

    backends: tuple[BackendFacts, ...]
    owner: str
    groups: frozenset[str] = frozenset()
    project: str = ""
    now: float = 0.0
