"""The figures of real Slurm: those releases that are installed here."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import slurm_passes, slurm_submits
from tests.bench.figures import Figure, Size


def figures(size: Size) -> Iterator[Figure]:
    yield from slurm_submits.figures(size)
    yield from slurm_passes.figures(size)
