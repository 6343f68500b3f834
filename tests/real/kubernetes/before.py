"""What was before a node came: settings of the kernel and folders, written down in its directory.

The kubelet and the network plug-ins change the one and make the other, wherever they are told to live.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

FILE = "before.json"
PROC_SYS = Path("/proc/sys")
SETTINGS = (  # as sysctl calls them
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv6.conf.all.forwarding",
)
FOLDERS = (  # what is inside comes first
    "/run/containerd/s",
    "/run/containerd",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
)


def settings() -> dict[str, str]:
    """Those that this kernel has."""
    return {name: file(name).read_text().strip() for name in SETTINGS if file(name).exists()}


def file(setting: str) -> Path:
    return PROC_SYS / setting.replace(".", "/")


def folders() -> list[str]:
    return [folder for folder in FOLDERS if Path(folder).exists()]


def remember(directory: Path) -> None:
    (directory / FILE).write_text(json.dumps({"settings": settings(), "folders": folders()}))


def restore(directory: Path) -> None:
    """Does nothing when nothing was changed."""
    before, now = json.loads((directory / FILE).read_text()), settings()
    for name, value in before["settings"].items():
        if now[name] != value:
            file(name).write_text(value)
    for folder in folders():
        if folder not in before["folders"]:
            with suppress(OSError):  # it is not empty: somebody else uses it by now
                Path(folder).rmdir()
