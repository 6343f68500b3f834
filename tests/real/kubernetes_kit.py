"""A tenant of a real Kubernetes: its namespace, and the broker as it is allowed in there.

with a_tenant(cluster, folder) as tenant:
    adapter = KubernetesAdapter(tenant.config())
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.base import BackendConfig
from adapters.kubernetes.names import MARKER
from broker.yaml_files import read_documents
from tests.fakes import INSTANCE, ROOT
from tests.helpers import wait_until
from tests.real.kubernetes import fake_nodes
from tests.real.kubernetes.api import ApiError, current, read_kubeconfig, tls
from tests.wire import Wire

RBAC = ROOT / "deploy" / "kubernetes" / "rbac.yaml"
HOME, ACCOUNT = "broker", "workload-broker"
ONLY = "broker-test.example.org/only"
PATHS = {
    "jobs": "/apis/batch/v1",
    "deployments": "/apis/apps/v1",
    "pods": "/api/v1",
    "services": "/api/v1",
    "events": "/api/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "jobsets": "/apis/jobset.x-k8s.io/v1alpha2",
}
SETTLE_S = 1.0


@contextmanager
def a_tenant(cluster: Any, folder: Path, labels: dict[str, str] | None = None) -> Iterator[Tenant]:
    """In a namespace that goes afterwards, when the cluster is well again."""
    tenant = Tenant.on(cluster, folder, labels)
    try:
        yield tenant
    finally:
        cluster.calm()
        cluster.remove_namespace(tenant.namespace)


@dataclass
class Tenant:
    cluster: Any
    namespace: str
    folder: Path

    @classmethod
    def on(cls, cluster: Any, folder: Path, labels: dict[str, str] | None = None) -> Tenant:
        """In a new namespace, with the rights that the project grants and no others."""
        namespace = cluster.new_namespace(labels=labels)
        grant(cluster, namespace)
        return cls(cluster, namespace, folder)

    @property
    def token(self) -> str:
        return str(self.cluster.token(HOME, ACCOUNT))

    def wire(self) -> Wire:
        """To the API server, in plain HTTP on this side."""
        config = current(read_kubeconfig(self.cluster.kubeconfig))
        return Wire(config["cluster"]["server"], tls(config))

    def kubeconfig(self, url: str | None = None) -> Path:
        if url is None:
            return Path(self.cluster.kubeconfig_of(HOME, ACCOUNT))
        path = self.folder / f"kubeconfig-{url.rpartition(':')[2]}"
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": {"server": url}}],
            "users": [{"name": "it", "user": {"token": self.token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        path.write_text(json.dumps(written))
        return path

    def options(self, url: str | None = None, **changes: Any) -> dict[str, Any]:
        return {
            "kubeconfig": str(self.kubeconfig(url)),
            "namespace": self.namespace,
            "settle_s": SETTLE_S,
            **changes,
        }

    def config(self, url: str | None = None, **changes: Any) -> BackendConfig:
        options = self.options(url, **changes)
        return BackendConfig(name="k8s", type="kubernetes", instance=INSTANCE, data_dir="", options=options)

    # ---- what is there for it

    @property
    def only(self) -> dict[str, str]:
        """The label of its own nodes."""
        return {ONLY: self.namespace}

    @contextmanager
    def own_nodes(self, labels: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
        """Fake ones of these names, with ``only`` and further labels.  Gives the name of their daemon."""
        nodes = [fake_nodes.cpu_node(name) for name in labels]
        for one in nodes:
            one["metadata"]["labels"] |= {**self.only, **labels[one["metadata"]["name"]]}
        with self.cluster.more_fake_nodes(nodes) as daemon:
            yield daemon

    def limit(self, hard: dict[str, str]) -> str:
        """By a quota; returns its path, when it is counted."""
        api, path = self.cluster.api, f"/api/v1/namespaces/{self.namespace}/resourcequotas/small"
        quota = {"metadata": {"name": "small", "namespace": self.namespace}, "spec": {"hard": hard}}
        api.create({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
        wait_until(lambda: api.get(path).get("status", {}).get("used"), 20, "the quota is counted")
        return path

    # ---- the truth

    def objects(self, kind: str, marker: str | None = None) -> list[dict[str, Any]]:
        found = self.cluster.api.items(f"{PATHS[kind]}/namespaces/{self.namespace}/{kind}")
        return [one for one in found if marker in (None, one["metadata"].get("labels", {}).get(MARKER))]

    def live_pods(self) -> list[str]:
        return [
            one["metadata"]["name"]
            for one in self.objects("pods")
            if one["status"].get("phase") in ("Pending", "Running")
        ]

    def label_a_node(self, labels: dict[str, str]) -> None:
        name = next(
            one["metadata"]["name"] for one in self.cluster.api.items("/api/v1/nodes") if not is_special(one)
        )
        self.cluster.api.patch(f"/api/v1/nodes/{name}", {"metadata": {"labels": labels}})


def is_special(node: dict[str, Any]) -> bool:
    """It does not take every pod."""
    return bool(node["spec"].get("taints"))


def grant(cluster: Any, namespace: str) -> None:
    """What ``deploy/kubernetes`` says, and its binding in this namespace."""
    create(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    for document in read_documents(RBAC.read_text(), str(RBAC)):
        create(cluster, document.data)
    group = "rbac.authorization.k8s.io"
    create(
        cluster,
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": ACCOUNT, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}],
        },
    )


def create(cluster: Any, document: Any) -> None:
    try:
        cluster.api.create(document)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
