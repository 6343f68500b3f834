"""What a real node leaves on the machine when it is killed, found and removed.

processes       those of the cluster's directory; containers, by their control groups
mounts          below the cluster's directory
network         the bridge and what hangs on it, kube-proxy's tables of rules, libcni's cache
control groups  kubepods, k8s.io
links           to logs, in /var/log/containers
sockets         of containers and of the kubelet
the machine     what ``before.py`` knows

As any user it finds the processes alone, and there is nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.helpers import wait_until
from tests.real.daemons import end_processes_of, processes_of, remove_directory
from tests.real.kubernetes import before
from tests.real.kubernetes.install import PATH

NETWORK = "broker-test"
BRIDGE = "brokertest0"  # an interface's name has at most 15 characters
TABLES = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
CNI_CACHE = Path("/var/lib/cni/results")  # containerd offers no other place
LOG_LINKS = Path("/var/log/containers")
CGROUPS = Path("/sys/fs/cgroup")
SOCKETS = ("run/containerd/s/*", "var/lib/kubelet/device-plugins/kubelet.sock")
GONE_WITHIN_S = 10.0


def in_use() -> list[str]:
    """What says that this machine is a node already, in words."""
    return [*tables(), *interfaces(), *(str(group) for group in control_groups() if members(group))]


def everything(directory: Path) -> list[str]:
    """All traces of the cluster in that directory, in words; what a node leaves elsewhere: ``of_a_node``."""
    found = [f"process {pid}: {command}" for pid, command in processes_of(directory).items()]
    return [*found, *mounts(directory), *map(str, links(directory)), *([str(directory)] * directory.exists())]


def of_a_node() -> list[str]:
    """All traces of a node, in words; there is one at a time."""
    return [*tables(), *interfaces(), *map(str, [*control_groups(), *cached_addresses(), *dead_sockets()])]


def remove(directory: Path | str) -> None:
    """Ends and removes all of it, the directory too; again: does nothing."""
    directory = Path(directory)
    end_processes_of(directory)
    if (directory / "containerd").exists():  # there was a node, so we are root
        end_containers()
        unmount(directory)
        for interface in reversed(interfaces()):  # the bridge is the first
            run("ip", "link", "delete", interface)
        for table in tables():
            run("nft", "delete", "table", *table.split())
        for path in [*cached_addresses(), *links(directory), *dead_sockets()]:
            path.unlink(missing_ok=True)
        remove_control_groups()
        before.restore(directory)
    if directory.exists():
        remove_directory(directory)


# ---- processes and control groups --------------------------------------------------------------------


def control_groups() -> list[Path]:
    """The topmost ones, in each hierarchy of the first version and in the one of the second."""
    return [
        group
        for name in ("kubepods", "k8s.io")
        for where in ("", "*/")
        for group in CGROUPS.glob(where + name)
    ]


def members(group: Path) -> set[int]:
    found: set[int] = set()
    for file in group.rglob("cgroup.procs"):
        with suppress(OSError):  # it has just gone
            found.update(map(int, file.read_text().split()))
    return found - {0}  # one that this PID namespace does not see; to kill it would be to kill ourselves


def end_containers() -> None:
    """Those whose shim is dead have no line back to the directory."""

    def none_left() -> bool:
        left = set().union(*map(members, control_groups()))
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_until(none_left, GONE_WITHIN_S, "no process of a container is left")


def remove_control_groups() -> None:
    def gone() -> bool:
        for top in control_groups():
            folders = [folder for folder in top.rglob("*") if folder.is_dir()]
            for folder in [*sorted(folders, reverse=True), top]:  # what is inside has a longer name
                with suppress(OSError):  # the kernel may still count its last process
                    folder.rmdir()
        return not control_groups()

    wait_until(gone, GONE_WITHIN_S, "no control group of a container is left")


# ---- mounts, network, files --------------------------------------------------------------------------


def mounts(directory: Path) -> list[str]:
    """The innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if Path(point).is_relative_to(directory)]


def unmount(directory: Path) -> None:
    for point in mounts(directory):
        run("umount", "--lazy", point)


def interfaces() -> list[str]:
    """The bridge, then the ends of the pods' cables in it."""
    if not Path("/sys/class/net", BRIDGE).exists():
        return []
    said = run("ip", "-json", "link", "show", "master", BRIDGE)
    return [BRIDGE, *(row["ifname"] for row in json.loads(said or "[]") if row)]


def tables() -> list[str]:
    said = run("nft", "list", "tables")
    return [f"{family} {name}" for family, name in TABLES if f"table {family} {name}\n" in said]


def cached_addresses() -> list[Path]:
    """NETWORK-CONTAINER-eth0, and its brother for the container's loopback device."""
    ours = list(CNI_CACHE.glob(f"{NETWORK}-*"))
    containers = [path.name.removeprefix(f"{NETWORK}-").removesuffix("-eth0") for path in ours]
    return [*ours, *(path for one in containers for path in CNI_CACHE.glob(f"cni-loopback-{one}-*"))]


def links(directory: Path) -> list[Path]:
    logs = (link for link in LOG_LINKS.glob("*.log") if link.is_symlink())
    return [link for link in logs if Path(os.readlink(link)).is_relative_to(directory)]


def dead_sockets() -> list[Path]:
    """Of containers and of the kubelet, in the places that are built into them; nobody listens any more."""
    listening = Path("/proc/net/unix").read_text()
    found = [path for pattern in SOCKETS for path in Path("/").glob(pattern)]
    return [path for path in found if path.is_socket() and f" {path}\n" not in listening]


def run(*command: str) -> str:
    """What it prints; nothing when it fails, as for what is already gone, or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": PATH})
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
