"""Nodes without a machine: kwok keeps them alive and moves the pods on them through the stages.

name     beside CPUs and memory                               taint
cpu-N    nothing
gpu-N    8 H100, RDMA; two nodes a rack, zone-a               nvidia.com/gpu
mig-N    4 H100 and slices: 14 of 1g.10gb, 4 of 3g.40gb       nvidia.com/gpu
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.real.kubernetes.install import Install
from tests.real.kubernetes.layout import FAKE_PODS, NODE_NAME, Layout, Options
from tests.real.kubernetes.parts import LEASE_S
from tests.real.kubernetes.stages import stages

GROUP = "kwok.x-k8s.io/node"  # the annotation by which a kwok knows its nodes
GROUPS = ("kwok", "kwok-2", "kwok-3", "kwok-4")  # the first is there from the start
LOG_LINE = "this pod has no process"

Object = dict[str, Any]

MACHINE = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "1Ti"}
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
# As NVIDIA's feature discovery writes them for eight H100.
GPU_LABELS = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.family": "hopper",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
    "nvidia.com/cuda.driver.major": "550",
    "nvidia.com/mig.capable": "true",
    "nvidia.com/mig.strategy": "mixed",
}
MIG_LABELS = {
    **GPU_LABELS,
    "nvidia.com/gpu.count": "4",
    "nvidia.com/mig-1g.10gb.count": "14",
    "nvidia.com/mig-1g.10gb.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
    "nvidia.com/mig-3g.40gb.count": "4",
    "nvidia.com/mig-3g.40gb.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb",
}
RDMA_LABELS = {"feature.node.kubernetes.io/rdma.capable": "true"}


def wanted(options: Options) -> list[Object]:
    return [
        *(cpu_node(f"cpu-{number}") for number in range(options.cpu_nodes)),
        *(gpu_node(f"gpu-{number}", rack=f"rack-{number // 2}") for number in range(options.gpu_nodes)),
        *(mig_node(f"mig-{number}") for number in range(options.mig_nodes)),
    ]


def cpu_node(name: str) -> Object:
    return node(name, {}, {}, [])


def gpu_node(name: str, rack: str = "rack-0") -> Object:
    where = {"topology.kubernetes.io/zone": "zone-a", "topology.kubernetes.io/rack": rack}
    has = {"nvidia.com/gpu": "8", "rdma/rdma_shared_device_a": "63"}
    return node(name, {**GPU_LABELS, **RDMA_LABELS, **where}, has, [GPU_TAINT])


def mig_node(name: str) -> Object:
    has = {"nvidia.com/gpu": "4", "nvidia.com/mig-1g.10gb": "14", "nvidia.com/mig-3g.40gb": "4"}
    return node(name, MIG_LABELS, has, [GPU_TAINT])


def node(name: str, labels: dict[str, str], has: dict[str, str], taints: list[Object]) -> Object:
    general = {
        "type": "kwok",
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
    }
    # kwok keeps what it finds here; by the name the API server reaches kwok for the logs of pods.
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE_NAME}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**general, **labels}, "annotations": {}},
        "spec": {"taints": taints},
        "status": {"addresses": addresses, "capacity": {**MACHINE, **has}, "allocatable": {**MACHINE, **has}},
    }


def in_group(node: Object, group: str) -> Object:
    metadata = {**node["metadata"], "annotations": {GROUP: group}}
    return {**node, "metadata": metadata}


def kwok(at: Layout, install: Install, group: str) -> list[str]:
    """The command line of the kwok that looks after the nodes of this group."""
    address, port = "127.0.0.1", at.port(group)
    options = {
        "kubeconfig": at.kubeconfig("admin"),
        "config": write_config(at.directory),
        "manage-nodes-with-annotation-selector": f"{GROUP}={group}",
        "node-ip": address,
        "node-port": port,
        "server-address": f"{address}:{port}",
        "tls-cert-file": at.certificate("node"),
        "tls-private-key-file": at.key("node"),
        "node-lease-duration-seconds": LEASE_S,
        "cidr": FAKE_PODS,
    }
    return [install.program("kwok"), *(f"--{name}={value}" for name, value in options.items())]


def write_config(directory: Path) -> Path:
    """The stages, and one log for all pods, in the format of container runtimes."""
    log, config = directory / "fake-pods.log", directory / "kwok.yaml"
    log.write_text(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} stdout F {LOG_LINE}\n")
    logs = {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "ClusterLogs",
        "metadata": {"name": "all"},
        "spec": {"logs": [{"logsFile": str(log)}]},
    }
    config.write_text(documents([*stages(), logs]))
    return config


def documents(objects: Sequence[Object]) -> str:
    """JSON, which is YAML."""
    return "".join(f"---\n{json.dumps(thing)}\n" for thing in objects)
