"""What a figure is, how large a run is, and how both are written down."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table; a sample is one round.  ``goal`` None: reported, nothing is promised."""

    name: str
    samples: Sequence[float]
    unit: str = ""
    goal: float | None = None
    at_least: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return "-"
        met = self.median >= self.goal if self.at_least else self.median <= self.goal
        return "met" if met else "MISSED"

    def row(self) -> tuple[str, str, str, str]:
        sign = ">=" if self.at_least else "<="
        goal = "-" if self.goal is None else f"{sign} {self.goal:g}"
        values = f"{number(self.median)} ({number(min(self.samples))} - {number(max(self.samples))})"
        return self.name, goal, f"{values} {self.unit}".rstrip(), self.verdict


def number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much a run does.  The smaller one shows that everything runs; its figures are not to be quoted."""

    rounds: int = 5
    seconds: float = 4.0  # of load on each side, a round
    handovers: int = 2000  # a round
    live: int = 500  # jobs a round, for their memory
    few: int = 1000
    many: int = 100_000
    pages: int = 60  # of each filter, a round
    decisions: int = 300  # a round
    idle_jobs: int = 10_000
    idle_s: float = 25.0  # a round; long enough for several passes of the observer
    slurm_submits: int = 1000  # on each side, a round
    slurm_held: int = 5000
    slurm_passes: int = 100  # for the memory
    kubernetes_submits: int = 1000  # on each side, a round
    kubernetes_pods: int = 2000  # that run while the watch is measured
    kubernetes_changes: int = 300  # a round
    kubernetes_memory_pods: int = 5000
    raw: Path | None = None

    def note(self, figure: str, **values: Any) -> None:
        """One raw result, with the load of the machine at that moment."""
        if self.raw is None:
            return
        line = {"figure": figure, "load": os.getloadavg()[0], **values}
        with self.raw.open("a") as file:
            file.write(json.dumps(line) + "\n")


SMOKE = {
    "rounds": 2,
    "seconds": 1.0,
    "handovers": 200,
    "live": 50,
    "few": 200,
    "many": 2000,
    "pages": 10,
    "decisions": 50,
    "idle_jobs": 100,
    "idle_s": 4.0,
    "slurm_submits": 100,
    "slurm_held": 200,
    "slurm_passes": 5,
    "kubernetes_submits": 100,
    "kubernetes_pods": 100,
    "kubernetes_changes": 20,
    "kubernetes_memory_pods": 300,
}


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values) or [float("nan")]
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def print_table(figures: Sequence[Figure]) -> None:
    rows = [("figure", "goal", "median (min - max)", ""), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
