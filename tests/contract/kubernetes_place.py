"""Real Kubernetes as a place of the contract: its API server, scheduler and controllers, and fake nodes.

The adapter has the rights of ``deploy/kubernetes/rbac.yaml`` and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from adapters.base import AttemptRef, Capability
from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import Health, JobSpec, Kind, Placement, Replicas, Resources, Service
from tests.contract.behind_a_wire import WIRE_FAULTS, BehindAWire
from tests.contract.places import RunsCommands
from tests.helpers import wait_until
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes_jobs import SMALL, job, service
from tests.real.kubernetes_kit import Tenant

GATE = "broker-test.example.org/gate"


class KubernetesPlace(BehindAWire):
    """What a fake pod does is told by labels of its job."""

    name = fixture = "kubernetes"
    # A fake pod has no log of its own, and all of an array do the same.
    shows = frozenset({*KubernetesAdapter.capabilities, *WIRE_FAULTS}) - {Capability.LOGS, Capability.ARRAYS}
    unique_names = True
    trips_per_pass = 2
    resources: ClassVar[Resources] = SMALL

    def __init__(self, folder: Path, stack: ExitStack, cluster: Any) -> None:
        self.tenant = Tenant.on(cluster, folder)
        self._gates = 0
        super().__init__(stack, stack.enter_context(self.tenant.wire()))

    @property
    def title(self) -> str:
        return f"Kubernetes {self.tenant.cluster.version}"

    def adapter_at(self, url: str, **changes: Any) -> KubernetesAdapter:
        return KubernetesAdapter(self.tenant.config(url, **changes))

    # ---- jobs

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        if runs:
            return job("hang")
        code = 128 + signal if signal is not None else exit_code
        return job("fail", labels={"exit": str(code)}) if code else job()

    def short_job(self, exit_code: int = 0) -> JobSpec:
        spec = self.job(exit_code=exit_code)
        return replace(spec, labels={**spec.labels, "run": "3s"})

    def job_that_says(self, text: str) -> JobSpec:
        raise NotImplementedError("a fake pod says nothing of its own")

    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec:
        raise NotImplementedError("all pods of an array do the same")

    def service(self, replicas: int) -> JobSpec:
        return service(least=replicas)

    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        """No node has what it asks for."""
        self._gates += 1
        labels = {GATE: f"open-{self._gates}"}
        spec = self.job(runs=True)
        placement = Placement(kubernetes={**spec.placement.kubernetes, "node_labels": labels})
        ref = self.submit(replace(spec, placement=placement))
        wait_until(lambda: self.look(ref).message, why="the scheduler has looked")
        return ref, lambda: self.tenant.label_a_node(labels)

    # ---- the truth

    def starts(self, marker: str) -> int:
        return sum(1 for pod in self.tenant.objects("pods", marker) if pod["status"].get("containerStatuses"))

    def copies(self, marker: str) -> int:
        return sum(len(self.tenant.objects(kind, marker)) for kind in ("jobs", "deployments"))

    def calm(self) -> None:
        super().calm()
        wait_until(lambda: not self.tenant.live_pods(), 30, "no pod is left")


class KubernetesNodePlace(RunsCommands, KubernetesPlace):
    """A real node: jobs are commands in containers of busybox, services its HTTP server."""

    name = fixture = "kubernetes_node"
    resources = KubernetesPlace.resources
    shows = frozenset({*KubernetesAdapter.capabilities, *WIRE_FAULTS})

    @property
    def title(self) -> str:
        return f"{super().title} with a real node"

    def adapter_at(self, url: str, **changes: Any) -> KubernetesAdapter:
        """Nobody calls its services while they go, so they need not answer long."""
        return super().adapter_at(url, drain_s=1, **changes)

    def command(self, *words: str, **changes: Any) -> JobSpec:
        native = Placement(kubernetes={"grace_s": 1})
        return super().command(*words, image=BUSYBOX, project="vision", placement=native, **changes)

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        """A container's first process cannot send itself a signal; how its shell tells of one, it can."""
        code = 128 + signal if signal is not None else exit_code
        return super().job(runs=runs, exit_code=code)

    def service(self, replicas: int) -> JobSpec:
        served = Service(port=8000, replicas=Replicas(min=replicas, max=4), health=Health(path="/passwd"))
        command = ("httpd", "-f", "-p", "8000", "-h", "/etc")
        return self.command(*command, kind=Kind.INFERENCE, service=served)


KUBERNETES_PLACES = (KubernetesPlace, KubernetesNodePlace)
