"""A real Kubernetes on one machine, in a directory of its own.

    with boot() as cluster:
        namespace = cluster.new_namespace()
        cluster.api.create(job)
        cluster.kill("apiserver")
        cluster.start("apiserver")

As any user: etcd, API server, controllers and scheduler are real, nodes and what runs on them is not (kwok).
As root and with ``Options(real_node=True)`` there is a real node with real containers too.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.helpers import wait_until
from tests.real.daemons import Daemons
from tests.real.kubernetes import objects, parts
from tests.real.kubernetes.api import Api, current, read_kubeconfig
from tests.real.kubernetes.install import Install, built
from tests.real.kubernetes.layout import Options
from tests.real.kubernetes.machinery import READY_WITHIN_S, Machinery

ACTS_WITHIN_S = 90.0

TOKEN_S = 3600


def boot(
    directory: Path | None = None, *, install: Install | None = None, options: Options | None = None
) -> Cluster:
    """A running cluster, in an empty directory or a new one, which ``close`` removes with all in it."""
    cluster = Cluster(directory, install=install or built(), options=options or Options())
    try:
        cluster.start_all()
    except BaseException:
        cluster.close()
        raise
    return cluster


class Access:
    """What a test may ask of any cluster, ours or one that was there."""

    kubeconfig: Path  # of somebody who may do everything that the tests do
    scratch: Path  # a folder for further ones
    api: Api

    def kubeconfig_of(self, namespace: str, account: str = "broker", lifespan_s: int = TOKEN_S) -> Path:
        """With a token of that ServiceAccount."""
        user = {"token": self.token(namespace, account, lifespan_s)}
        path = self.scratch / f"{namespace}-{account}.kubeconfig"
        cluster = current(read_kubeconfig(self.kubeconfig))["cluster"]
        return parts.write_kubeconfig(path, cluster, user, namespace)

    @cached_property
    def version(self) -> str:
        """1.34.4, as the API server says."""
        return str(self.api.get("/version")["gitVersion"]).removeprefix("v")

    def new_namespace(self, prefix: str = "test", labels: Mapping[str, str] | None = None) -> str:
        name = f"{prefix}-{secrets.token_hex(3)}"
        metadata = {"name": name, "labels": dict(labels or {})}
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        return name

    def remove_namespace(self, name: str) -> None:
        """With all in it, a moment later."""
        self.api.delete(f"/api/v1/namespaces/{name}")

    def new_service_account(self, namespace: str, name: str = "broker") -> None:
        """Without any right."""
        metadata = {"name": name, "namespace": namespace}
        self.api.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})

    def allow(
        self, account: str, namespace: str, rules: Sequence[Mapping[str, Any]], *, of: str = ""
    ) -> None:
        """A Role in the namespace for a ServiceAccount of it, or of another one.

        cluster.allow("broker", "tenant", [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]}])
        """
        group = "rbac.authorization.k8s.io"
        metadata = {"name": f"test-{secrets.token_hex(3)}", "namespace": namespace}
        role = {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": list(rules)}
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": metadata["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of or namespace}],
        }
        self.api.create(role)
        self.api.create(binding)

    def token(self, namespace: str, account: str = "broker", lifespan_s: int = TOKEN_S) -> str:
        """Kubernetes makes none for less than ten minutes."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        made = json.loads(self.api.ask("POST", path, {**wanted, "spec": {"expirationSeconds": lifespan_s}}))
        return str(made["status"]["token"])


class Cluster(Access, Machinery, Daemons):
    """One that was booted for the tests, and may be broken by them.

    Its daemons are "etcd", "apiserver", "controller-manager", "scheduler", "kwok"; as root "kubelet", too.
    """

    @property
    def url(self) -> str:
        return self.layout.url

    @property
    def ca_file(self) -> Path:
        return self.layout.certificate("ca")

    # ---- bad days ------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Every daemon runs and answers, every node is ready.  Objects stay: each test has its namespace."""
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.thaw()
            daemon.start()
        wait_until(self.api.answers, READY_WITHIN_S, "the API server is ready")
        wait_until(self.nodes_are_ready, READY_WITHIN_S, "all nodes are ready")
        if self._acted_with != (served_by := self.daemons["apiserver"].pid):
            self._act()
            self._acted_with = served_by

    _acted_with: int | None = None

    def _act(self) -> None:
        """Controllers, scheduler and nodes come back to a new API server each when its own pause is over."""
        namespace = self.new_namespace("calm")
        self.api.create(objects.job(namespace, "one", objects.pod_spec()))
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/one"
        wait_until(
            lambda: self.api.get(path)["status"].get("succeeded"), ACTS_WITHIN_S, "a Job runs to its end"
        )
        self.remove_namespace(namespace)
