"""Which Slurm installs this machine has, and what is missing, as a sentence.

``debian()`` is what the distribution put on the PATH (22.05 in Debian 12).  ``newer()`` is a folder with
the next release's packages, unpacked; no root and no chroot are needed to run them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NEWER_FOLDER = "BROKER_TEST_SLURM_24"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Debian keeps daemons where an ordinary user's PATH does not look.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))

CLUSTER = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "slurmstepd": "slurmd",
    "slurmrestd": "slurmrestd",
    "scontrol": "slurm-client",
    "munged": "munge",
}
ACCOUNTING = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server"}
# Of these any release will do, so the folder need not have its own.
SHARED = {"munged", "munge", "mariadbd", "mariadb-install-db", "mariadb"}


@dataclass(frozen=True, kw_only=True)
class Install:
    """One release of Slurm below ``root``."""

    label: str
    root: Path

    @property
    def plugins(self) -> Path:
        return self.root / LIBRARIES / "slurm-wlm"

    @property
    def headers(self) -> Path:
        """Of ``spank.h``, when the development package is there."""
        return self.root / "usr/include"

    @property
    def search_path(self) -> str:
        if self.root == Path("/"):
            return PATH
        return os.pathsep.join((f"{self.root}/usr/bin", PATH))

    def program(self, name: str) -> str:
        """Where the program is; raises ``FileNotFoundError`` when it is not installed."""
        found = shutil.which(name, path=PATH if name in SHARED else self.search_path)
        if found is None:
            raise FileNotFoundError(f"{name} of Slurm {self.label} is not installed")
        return found

    @property
    def version(self) -> str:
        """22.05.8, as the program itself says."""
        return version_of(self.program("slurmctld"))

    @property
    def newer(self) -> bool:
        """It speaks the REST dialects v0.0.40 and above."""
        return self.version > "23.11"

    def missing(self, *, accounting: bool = False) -> str | None:
        """A sentence that says what to install, or None."""
        if self.root != Path("/") and not (self.root / "complete").exists():
            return f"Slurm {self.label} is not installed ({self._cure('')})"
        wanted = {**CLUSTER, **(ACCOUNTING if accounting else {})}
        absent = {name for name in wanted if not self._has(name)}
        packages = {wanted[name] for name in absent}
        for kind, package in (("auth_jwt", "slurm-wlm-jwt-plugin"), *self._database_plugin(accounting)):
            if not (self.plugins / f"{kind}.so").exists():
                packages.add(package)
        if not packages:
            return None
        names = ", ".join(sorted(packages))
        return f"Slurm {self.label} is not complete: {names} ({self._cure(names)})"

    def _database_plugin(self, accounting: bool) -> tuple[tuple[str, str], ...]:
        return (("accounting_storage_mysql", "slurm-wlm-mysql-plugin"),) if accounting else ()

    def _has(self, name: str) -> bool:
        if self.root == Path("/") or name in SHARED:
            return shutil.which(name, path=PATH) is not None
        return (self.root / "usr/bin" / name).exists()

    def _cure(self, packages: str) -> str:
        if self.root == Path("/"):
            return f"apt-get install {packages.replace(',', '')}"
        return f"tests/real/slurm/install_24.sh {self.root}"


def debian() -> Install:
    return Install(label="22.05", root=Path("/"))


def newer() -> Install:
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = os.environ.get(NEWER_FOLDER) or Path(cache_folder) / "workload-broker" / "slurm-24.11"
    return Install(label="24.11", root=Path(root))


@cache
def version_of(slurmctld: str) -> str:
    said = subprocess.run([slurmctld, "-V"], check=True, capture_output=True, text=True).stdout
    return said.split()[-1]
