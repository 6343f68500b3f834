"""The command line of each part of the control plane, and the files that they read.

Times are short, so that a test need not wait for what takes minutes by default: a node that is silent for 6 s
is lost, its pods go 3 s later, and the autoscaler looks every 2 s.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.real.kubernetes import pki
from tests.real.kubernetes.api import Object
from tests.real.kubernetes.install import Install
from tests.real.kubernetes.layout import SERVICES, Layout

NODE_SILENT_S, POD_STAYS_S = 6, 3
LEASE_S = 4  # of nodes; the usual 40 s make them flap when 6 s of silence count as lost


def write_files(at: Layout) -> None:
    """Keys and kubeconfigs, in an empty directory."""
    for folder in (at.pki, at.logs, at.directory / "etcd"):
        folder.mkdir()
    pki.make_all(at.pki)
    cluster = {"server": at.url, "certificate-authority": str(at.certificate("ca"))}
    for name in ("admin", "controllers", "scheduler", "node"):
        user = {"client-certificate": str(at.certificate(name)), "client-key": str(at.key(name))}
        write_kubeconfig(at.kubeconfig(name), cluster, user)


def write_kubeconfig(path: Path, cluster: Object, user: Object, namespace: str = "default") -> Path:
    """Who holds the file is ``user``.  JSON, which is YAML."""
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    path.touch(0o600)
    path.write_text(json.dumps(config, indent=1))
    return path


def command(
    install: Install, part: str, options: Mapping[str, object], extra: Iterable[str] = ()
) -> list[str]:
    return [install.program("plane"), part, *(f"--{name}={value}" for name, value in options.items()), *extra]


def etcd(at: Layout) -> dict[str, object]:
    clients, peers = (f"http://127.0.0.1:{at.port(name)}" for name in ("etcd", "etcd-peers"))
    return {
        "data-dir": at.directory / "etcd/data",
        "listen-client-urls": clients,
        "advertise-client-urls": clients,
        "listen-peer-urls": peers,
        "initial-advertise-peer-urls": peers,
        "initial-cluster": f"default={peers}",
        "unsafe-no-fsync": "true",  # nobody needs the data after a loss of power
    }


def apiserver(at: Layout) -> dict[str, object]:
    return {
        "etcd-servers": f"http://127.0.0.1:{at.port('etcd')}",
        "bind-address": "127.0.0.1",
        "secure-port": at.port("apiserver"),
        "tls-cert-file": at.certificate("apiserver"),
        "tls-private-key-file": at.key("apiserver"),
        "client-ca-file": at.certificate("ca"),
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": at.pki / f"{pki.SERVICE_ACCOUNTS}.pub",
        "service-account-signing-key-file": at.key(pki.SERVICE_ACCOUNTS),
        "service-cluster-ip-range": SERVICES,
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
        "endpoint-reconciler-type": "none",  # it refuses to publish a loopback address
        "default-not-ready-toleration-seconds": POD_STAYS_S,
        "default-unreachable-toleration-seconds": POD_STAYS_S,
        **to_kubelets(at),
        **aggregation(at),
    }


def to_kubelets(at: Layout) -> dict[str, object]:
    return {
        "kubelet-client-certificate": at.certificate("kubelet-client"),
        "kubelet-client-key": at.key("kubelet-client"),
        "kubelet-certificate-authority": at.certificate("ca"),
        "kubelet-preferred-address-types": "Hostname",
    }


def aggregation(at: Layout) -> dict[str, object]:
    """How it asks metrics-server, on behalf of its own callers."""
    return {
        "requestheader-client-ca-file": at.certificate("front-ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": at.certificate("front"),
        "proxy-client-key-file": at.key("front"),
    }


def controller_manager(at: Layout) -> dict[str, object]:
    return {
        **as_client(at, "controllers"),
        "service-account-private-key-file": at.key(pki.SERVICE_ACCOUNTS),
        "root-ca-file": at.certificate("ca"),
        "use-service-account-credentials": "true",
        "secure-port": at.port("controller-manager"),
        "node-monitor-period": "1s",
        "node-monitor-grace-period": f"{NODE_SILENT_S}s",
        "node-startup-grace-period": "10s",
        # By default one lost node in 10 s is noticed, and none when more than half of a zone is lost.
        "node-eviction-rate": 10,
        "secondary-node-eviction-rate": 10,
        "large-cluster-size-threshold": 0,
        "horizontal-pod-autoscaler-sync-period": "2s",
        "horizontal-pod-autoscaler-cpu-initialization-period": "1s",
        "horizontal-pod-autoscaler-initial-readiness-delay": "1s",
        "horizontal-pod-autoscaler-downscale-stabilization": "1s",
        "pvclaimbinder-sync-period": "2s",
        "resource-quota-sync-period": "10s",
    }


def scheduler(at: Layout) -> dict[str, object]:
    return {**as_client(at, "scheduler"), "secure-port": at.port("scheduler")}


def as_client(at: Layout, who: str) -> dict[str, object]:
    config = at.kubeconfig(who)
    return {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
    }
