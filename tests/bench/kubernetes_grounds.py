"""A broker whose only backend is a real Kubernetes with fake nodes, and that cluster asked directly.

The bare side is the cheapest client there is: ``http.client`` over one connection, a body made beforehand.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from adapters.base import AttemptRef
from adapters.kubernetes import loading, render
from adapters.kubernetes.names import INSTANCE as INSTANCE_LABEL
from adapters.kubernetes.resources import JOBS
from api_spec.schemas import load_spec
from tests.bench.figures import Size
from tests.bench.grounds import PROJECT, Grounds
from tests.fakes import INSTANCE
from tests.helpers import wait_until
from tests.real.kubernetes.api import current, read_kubeconfig, tls
from tests.real.kubernetes.cluster import Cluster, boot
from tests.real.kubernetes.layout import Options
from tests.real.kubernetes_kit import Tenant

BACKEND = "k8s"
BARE = "wb-test-bare-1"
PODS_A_NODE = 60  # of 64 CPUs
WORKER: Mapping[str, Any] = {
    "kind": "batch",
    "name": "job",
    "project": PROJECT,
    "image": "registry.example/job:1",
    "command": ["work"],
    "labels": {"outcome": "hang"},
    "resources": {"cpus_per_task": 1, "memory_per_node": "1MiB"},
    "time_limit": "1h",
    "placement": {"kubernetes": {"grace_s": 0}},
}
BODY = json.dumps(WORKER, separators=(",", ":")).encode()


class KubernetesGrounds(Grounds):
    """``tenant``: whose namespace it is, and the broker's rights in it."""

    document = WORKER

    def __init__(self, cluster: Cluster, **settings: Any) -> None:
        self.cluster = cluster
        self.tenant = Tenant.on(cluster, cluster.scratch)
        self.options = self.tenant.options()
        backend = {"name": BACKEND, "type": "kubernetes", "options": self.options}
        super().__init__(real=[backend], max_submits_per_s=10**6, max_live_jobs=10**6, **settings)

    def _pid(self, name: str) -> int:
        known = self.cluster.daemons.get(name)
        return known.pid if known else super()._pid(name)

    @property
    def jobs_path(self) -> str:
        return JOBS.path(self.tenant.namespace)

    def watched(self) -> None:
        """Returns when its watch answers for the cluster."""

        def answers() -> bool:
            until_ms = self.broker.store.backends.read(BACKEND).watched_until
            return until_ms is not None and until_ms > time.time() * 1000

        wait_until(answers, 60.0, "the cluster is watched")


@contextmanager
def kubernetes_grounds(pods: int = 0, **settings: Any) -> Iterator[KubernetesGrounds]:
    """With room for so many pods, and controllers that are not kept from making them quickly."""
    quick = ["--kube-api-qps=500", "--kube-api-burst=500"]
    extra = {"controller-manager": [*quick, "--concurrent-job-syncs=20"], "scheduler": quick}
    nodes = max(2, -(-pods // PODS_A_NODE) + 1)
    options = Options(cpu_nodes=nodes, gpu_nodes=0, mig_nodes=0, extra=extra)
    with boot(options=options) as cluster, KubernetesGrounds(cluster, **settings) as grounds:
        yield grounds


class Bare:
    """What a client needs at least, with the broker's own token."""

    def __init__(self, grounds: KubernetesGrounds) -> None:
        config = current(read_kubeconfig(grounds.cluster.kubeconfig))
        self._path = grounds.jobs_path
        self._headers = {
            "Authorization": f"Bearer {grounds.tenant.token}",
            "Content-Type": "application/json",
        }
        at = grounds.cluster.api.server
        self._connection = http.client.HTTPSConnection(
            at.hostname or "", at.port, timeout=120, context=tls(config)
        )
        self._body = body_of(grounds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def submit(self, number: int) -> None:
        """The same Job as the broker's, under a name of its own."""
        body = self._body.replace(BARE, f"wb-test-bare-{number + 2}")
        self._connection.request("POST", f"{self._path}?fieldValidation=Strict", body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        assert response.status == 201, content


def body_of(grounds: KubernetesGrounds) -> str:
    """Of nobody's instance: the broker does not see it."""
    options = loading.load(grounds.options, BACKEND)
    ref = AttemptRef(marker=BARE, job_id="bare", owner="ana", project=PROJECT, kind="batch")
    root = render.plan(load_spec(dict(WORKER)), ref, options, INSTANCE, BACKEND).root
    root["metadata"]["labels"][INSTANCE_LABEL] = "bare"
    return json.dumps(root)


def rounds(size: Size) -> int:
    """Each takes minutes."""
    return min(size.rounds, 3)
