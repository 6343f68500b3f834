"""What of Kubernetes this machine has, and what is missing, as a sentence.

The programs are built from source by ``plane/build.sh``, once, into a folder, and need no root.  A real node
does, and some packages of the distribution.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = "BROKER_TEST_KUBERNETES"
BUILD = "tests/real/kubernetes/plane/build.sh"
PROGRAMS = ("plane", "kwok", "metrics-server")
# Debian keeps daemons where an ordinary user's PATH does not look.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
CNI = Path("/usr/lib/cni")

# program -> Debian's package
NODE: Mapping[str, str] = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "nft": "nftables",  # kube-proxy writes its rules with it
    "mount": "mount",  # the kubelet's
}


@dataclass(frozen=True)
class Install:
    """The programs in one folder."""

    root: Path

    def program(self, name: str) -> str:
        return str(self.root / name)

    @property
    def version(self) -> str:
        """1.34.4, as the API server itself says."""
        return version_of(self.program("plane"))

    @property
    def missing(self) -> str | None:
        """A sentence that says what to build or install, or None."""
        absent = [name for name in PROGRAMS if not os.access(self.root / name, os.X_OK)]
        if absent:
            return f"Kubernetes is not built: {', '.join(absent)} ({BUILD} {self.root})"
        if shutil.which("openssl") is None:
            return "Kubernetes has no keys without openssl (apt-get install openssl)"
        return None

    @property
    def node_missing(self) -> str | None:
        """The same for a real node on this machine."""
        if os.geteuid() != 0:
            return "a real Kubernetes node needs root"
        packages = {package for name, package in NODE.items() if shutil.which(name, path=PATH) is None}
        if not all((CNI / plugin).exists() for plugin in ("bridge", "host-local", "loopback")):
            packages.add("containernetworking-plugins")
        if packages:
            names = ", ".join(sorted(packages))
            return f"a real Kubernetes node lacks {names} (apt-get install {names.replace(',', '')})"
        return self.missing


def built() -> Install:
    """The folder that the environment names, or the one that the build takes by default."""
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = os.environ.get(FOLDER) or Path(cache_folder) / "workload-broker" / "kubernetes-1.34"
    return Install(Path(root).absolute())


@cache
def version_of(plane: str) -> str:
    said = subprocess.run([plane, "apiserver", "--version"], check=True, capture_output=True, text=True)
    return said.stdout.split()[-1].removeprefix("v")
