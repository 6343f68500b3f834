"""Where one cluster keeps its things and where it listens, and what a test may want otherwise.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Each listens on loopback, at the cluster's first port plus its place here.
LISTENERS = (
    "etcd",
    "etcd-peers",
    "apiserver",
    "controller-manager",
    "scheduler",
    "metrics-server",
    "kubelet",
    "kubelet-health",
    "proxy-health",
    "proxy-metrics",
    "kwok",
    "kwok-2",
    "kwok-3",
    "kwok-4",
)
NODE_NAME = "localhost"  # the API server reaches every kubelet, kwok's too, by the name of its node
SERVICES = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
PODS = "10.244.0.0/24"  # of the real node
FAKE_PODS = "10.99.0.1/16"


@dataclass(frozen=True, kw_only=True)
class Options:
    cpu_nodes: int = 2  # fake ones, as the two below
    gpu_nodes: int = 4
    mig_nodes: int = 1
    real_node: bool = False  # with kube-proxy and metrics-server; needs root, one at a time on a machine
    # Further options of a part, by its name: {"apiserver": ["--v=4"]}.  The last one wins.
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    directory: Path
    first_port: int

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port('apiserver')}"

    def port(self, listener: str) -> int:
        return self.first_port + LISTENERS.index(listener)

    def certificate(self, name: str) -> Path:
        return self.pki / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.pki / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        return self.directory / f"{name}.kubeconfig"
