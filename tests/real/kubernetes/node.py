"""A real node on this machine: containerd, the kubelet and kube-proxy, as root.

Bridge, addresses and control groups have fixed names, so there is one at a time on a machine; a lock says so.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tests.helpers import wait_until
from tests.real.kubernetes import before, image, leftovers
from tests.real.kubernetes.install import CNI, PATH, Install
from tests.real.kubernetes.layout import NODE_NAME, PODS, SERVICES, Layout
from tests.real.kubernetes.leftovers import BRIDGE, NETWORK
from tests.real.kubernetes.parts import LEASE_S, command

LOCK = Path("/run/lock/workload-broker-test-node")
OTHERS_TAKE_S = 100.0  # less than a test may last
GATEWAY = PODS.replace(".0/", ".1/")


def lock() -> IO[str]:
    """Held until it is closed; waits for another run of tests that has a node."""
    held = LOCK.open("w")

    def taken() -> bool:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    wait_until(taken, OTHERS_TAKE_S, "the machine's one real Kubernetes node is free")
    return held


def write_files(at: Layout) -> None:
    """Raises ``RuntimeError`` where the machine is the node of another cluster."""
    if foreign := leftovers.in_use():
        raise RuntimeError(f"this machine is a Kubernetes node, or was one: {', '.join(foreign)}")
    before.remember(at.directory)
    for folder in ("cni", "containerd", "kubelet", "pod-logs"):
        (at.directory / folder).mkdir()
    (at.directory / "containerd/config.toml").write_text(containerd_config(at.directory))
    (at.directory / "cni/10-bridge.conflist").write_text(json.dumps(network(at.directory)))
    (at.directory / "kubelet.yaml").write_text(json.dumps(kubelet_config(at)))
    (at.directory / "proxy.yaml").write_text(json.dumps(proxy_config(at)))


def containerd_config(directory: Path) -> str:
    home = directory / "containerd"
    return f"""\
version = 2
root = "{home}/data"
state = "{home}/state"
[grpc]
  address = "{socket(directory)}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{home}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image.PAUSE}"
  netns_mounts_under_state_dir = true
  # A container may not be better protected from the killer of processes than we are: without
  # CAP_SYS_RESOURCE, as in other containers, that could not be set.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI}"
    conf_dir = "{directory}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{home}/runc"
"""


def socket(directory: Path) -> Path:
    return directory / "containerd/socket"


def network(directory: Path) -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,  # a pod may call the Service that it is behind
        "ipMasq": False,  # nothing of a test calls beyond this machine
        "ipam": {
            "type": "host-local",
            "dataDir": str(directory / "cni-addresses"),
            "ranges": [[{"subnet": PODS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    return {"cniVersion": "1.0.0", "name": NETWORK, "plugins": [bridge]}


def kubelet_config(at: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": at.port("kubelet"),
        "healthzPort": at.port("kubelet-health"),
        "authentication": {
            "x509": {"clientCAFile": str(at.certificate("ca"))},
            "webhook": {"enabled": False},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(at.certificate("node")),
        "tlsPrivateKeyFile": str(at.key("node")),
        "containerRuntimeEndpoint": f"unix://{socket(at.directory)}",
        "podLogsDir": str(at.directory / "pod-logs"),
        "volumePluginDir": str(at.directory / "kubelet/volume-plugins"),
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": LEASE_S,
        "syncFrequency": "5s",
        **as_the_machine_is(),
    }


def as_the_machine_is() -> dict[str, Any]:
    """A shared one, where this node must change nothing and may not mind that the disk is nearly full."""
    little = {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
    return {
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "clusterDNS": [
            "127.0.0.1"
        ],  # there is none: a look-up is refused at once and never leaves the machine
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {**little, "nodefs.inodesFree": "1%"},
    }


def proxy_config(at: Layout) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(at.kubeconfig("admin"))},
        "hostnameOverride": NODE_NAME,
        "mode": "nftables",
        "clusterCIDR": PODS,
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": f"127.0.0.1:{at.port('proxy-health')}",
        "metricsBindAddress": f"127.0.0.1:{at.port('proxy-metrics')}",
        # The limits of the whole machine stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


# ---- the daemons -------------------------------------------------------------------------------------


def containerd(at: Layout) -> list[str]:
    return ["containerd", "--config", str(at.directory / "containerd/config.toml")]


def containerd_answers(at: Layout) -> bool:
    return ctr(at, "version").returncode == 0


def kubelet(at: Layout, install: Install, extra: Sequence[str]) -> list[str]:
    options = {
        "config": at.directory / "kubelet.yaml",
        "kubeconfig": at.kubeconfig("node"),
        "root-dir": at.directory / "kubelet",
        "hostname-override": NODE_NAME,
        "housekeeping-interval": "5s",  # metrics are as old as that
    }
    return command(install, "kubelet", options, extra)


def proxy(at: Layout, install: Install, extra: Sequence[str]) -> list[str]:
    return command(install, "proxy", {"config": at.directory / "proxy.yaml"}, extra)


def import_images(at: Layout) -> None:
    for name in image.COMMANDS:
        archive = at.directory / "image.tar"
        image.write_archive(archive, name)
        done = ctr(at, "images", "import", str(archive))
        if done.returncode:
            raise RuntimeError(f"containerd does not take {name}: {done.stderr.strip()}")


def ctr(at: Layout, *words: str) -> subprocess.CompletedProcess[str]:
    """containerd's own client, in the namespace of Kubernetes."""
    return subprocess.run(
        ["ctr", "--address", str(socket(at.directory)), "--namespace", "k8s.io", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": PATH},
    )


def open_network() -> None:
    """The bridge, before the first pod, and a route: what no rule translates stays on this machine."""
    for words in (
        ("link", "add", BRIDGE, "type", "bridge"),
        ("link", "set", BRIDGE, "up"),
        ("address", "add", GATEWAY, "dev", BRIDGE),
        ("route", "replace", SERVICES, "dev", BRIDGE),
    ):
        subprocess.run(["ip", *words], check=True, capture_output=True, env={"PATH": PATH})
