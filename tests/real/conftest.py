"""The real backends that tests may ask for."""

from __future__ import annotations

from tests.real.slurm.fixtures import cluster, new_cluster, open_cluster, prepare

__all__ = ["cluster", "new_cluster", "open_cluster"]


def pytest_collection_modifyitems(items):
    prepare(items)
