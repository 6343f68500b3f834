"""The stand-in for Pyxis, compiled for one install of Slurm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.slurm.cluster import Cluster, boot
from tests.real.slurm.conf import Options
from tests.real.slurm.fixtures import required
from tests.real.slurm.installs import Install

SOURCE = Path(__file__).with_name("pyxis.c")
BATCH = -5  # the step of the batch script; 22.05 and 24.11 alike


@dataclass(frozen=True)
class Task:
    """What slurmstepd saw of the options when it started one task."""

    step: int
    rank: int
    options: dict[str, str]


def missing(install: Install) -> str | None:
    """A sentence, or None."""
    if shutil.which("gcc") is None:
        return "Pyxis has no stand-in without a compiler (apt-get install gcc libc6-dev)"
    if not (install.headers / "slurm" / "spank.h").exists():
        return f"Slurm {install.label} has no headers for a plug-in (apt-get install libslurm-dev)"
    return None


def compiled(install: Install, folder: Path) -> Path:
    """The plug-in; Slurm refuses one that was compiled for another release."""
    plugin = folder / "pyxis.so"
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{install.headers}"]
    subprocess.run([*command, "-o", plugin, SOURCE], check=True)
    return plugin


@contextmanager
def cluster_with_pyxis(install: Install, folder: Path) -> Iterator[Cluster]:
    """Its stand-in writes to ``tasks`` in the folder.  What is missing skips the test, or fails it."""
    if (why := missing(install)) is not None:
        (pytest.fail if required() else pytest.skip)(why)
    files = {"plugstack.conf": f"required {compiled(install, folder)} log={folder}/tasks\n"}
    with boot(install=install, options=Options(nodes=2, files=files)) as cluster:
        yield cluster


def tasks(log: Path) -> list[Task]:
    """All that were started, the batch scripts included, in order."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        step, rank, *words = line.split("\t")
        found.append(Task(int(step), int(rank), dict(word.split("=", 1) for word in words)))
    return found
