"""Real Kubernetes as a place of the contract: its API server, scheduler and controllers, and fake nodes.

The adapter has the rights of ``deploy/kubernetes/rbac.yaml`` and no others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from adapters.base import Adapter, AttemptRef, Capability
from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import Health, JobSpec, Kind, Placement, Replicas, Resources, Service
from tests.contract.answering import NONSENSE, answering
from tests.contract.places import Fault, Place, RunsCommands
from tests.helpers import wait_until
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes_kit import Tenant

GATE = "broker-test.example.org/gate"


class KubernetesPlace(Place):
    """What a fake pod does is told by labels of its job."""

    name = fixture = "kubernetes"
    # A fake pod has no log of its own, and all of an array do the same.
    shows = frozenset({*KubernetesAdapter.capabilities, Fault.LOST_SUBMIT, Fault.LATE, Fault.HANGS}) - {
        Capability.LOGS,
        Capability.ARRAYS,
    }
    unique_names = True
    breakages = ("dead", *NONSENSE)
    trips_per_pass = 2
    resources: ClassVar[Resources] = Resources(memory_per_node_mib=100)

    def __init__(self, folder: Path, stack: ExitStack, cluster: Any) -> None:
        super().__init__()
        self.tenant = tenant = Tenant.on(cluster, folder)
        self.wire = stack.enter_context(tenant.wire())
        self._stack = stack
        self._gates = 0
        self._impatient = self._adapter(self.wire.url, answer_s=0.5)
        self.adapter = self._adapter(self.wire.url)

    @property
    def title(self) -> str:
        return f"Kubernetes {self.tenant.cluster.version}"

    def _adapter(self, url: str, **changes: Any) -> KubernetesAdapter:
        adapter = KubernetesAdapter(self.tenant.config(url, **changes))
        self._stack.callback(adapter.close)
        return adapter

    # ---- jobs

    def pod(self, outcome: str, **labels: str) -> JobSpec:
        return JobSpec(
            kind=Kind.BATCH,
            name="job",
            project="vision",
            image="registry.example/job:1",
            command=("work",),
            resources=self.resources,
            labels={"outcome": outcome, "run": "300ms", **labels},
        )

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        if runs:
            return self.pod("hang")
        code = 128 + signal if signal is not None else exit_code
        return self.pod("fail", exit=str(code)) if code else self.pod("success")

    def short_job(self, exit_code: int = 0) -> JobSpec:
        spec = self.job(exit_code=exit_code)
        return replace(spec, labels={**spec.labels, "run": "3s"})

    def job_that_says(self, text: str) -> JobSpec:
        raise NotImplementedError("a fake pod says nothing of its own")

    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec:
        raise NotImplementedError("all pods of an array do the same")

    def service(self, replicas: int) -> JobSpec:
        served = Service(port=8000, replicas=Replicas(min=replicas, max=4))
        return JobSpec(
            kind=Kind.INFERENCE,
            name="job",
            project="vision",
            image="registry.example/serve:1",
            resources=self.resources,
            service=served,
        )

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

    def round_trips(self) -> int:
        return self.wire.count

    @contextmanager
    def broken(self, breakage: str) -> Iterator[Adapter]:
        if breakage == "dead":
            yield self._adapter("http://127.0.0.1:1")
            return
        with answering(NONSENSE[breakage]) as url:
            yield self._adapter(url, answer_s=5)

    def calm(self) -> None:
        self.wire.calm()
        self.wire.let_it_arrive()
        super().calm()
        wait_until(lambda: not self.tenant.live_pods(), 30, "no pod is left")

    # ---- faults

    def submit_and_lose_the_answer(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._submitted.append(ref)
        self.wire.loses_answers_to = "POST"
        self.ends_unknown(ref, spec)

    def accept_late(self, seconds: float) -> Callable[[], None]:
        """The next submit; what is returned brings it in at once."""
        self.wire.holds_back = "POST"
        timer = threading.Timer(seconds, self.wire.let_it_arrive)
        timer.daemon = True
        timer.start()
        return self.wire.let_it_arrive

    def hang(self) -> Adapter:
        self.wire.swallows = True
        return self._impatient


class KubernetesNodePlace(KubernetesPlace, RunsCommands):
    """A real node: jobs are commands in containers of busybox, services its HTTP server."""

    name = fixture = "kubernetes_node"
    shows = frozenset({*KubernetesAdapter.capabilities, Fault.LOST_SUBMIT, Fault.LATE, Fault.HANGS})

    @property
    def title(self) -> str:
        return f"{super().title} with a real node"

    def command(self, *words: str, **changes: Any) -> JobSpec:
        native = Placement(kubernetes={"grace_s": 1})
        return super().command(*words, image=BUSYBOX, project="vision", placement=native, **changes)

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        """A container's first process cannot send itself a signal; how its shell tells of one, it can."""
        code = 128 + signal if signal is not None else exit_code
        return RunsCommands.job(self, runs=runs, exit_code=code)

    def short_job(self, exit_code: int = 0) -> JobSpec:
        return RunsCommands.short_job(self, exit_code)

    def job_that_says(self, text: str) -> JobSpec:
        return RunsCommands.job_that_says(self, text)

    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec:
        return RunsCommands.array(self, indices, failing, runs)

    def service(self, replicas: int) -> JobSpec:
        served = Service(port=8000, replicas=Replicas(min=replicas, max=4), health=Health(path="/passwd"))
        command = ("httpd", "-f", "-p", "8000", "-h", "/etc")
        return self.command(*command, kind=Kind.INFERENCE, service=served)


KUBERNETES_PLACES = (KubernetesPlace, KubernetesNodePlace)
