"""The real backends that tests may ask for."""

from __future__ import annotations

from tests.real.slurm.fixtures import cluster, group_by_cluster, open_cluster

__all__ = ["cluster", "open_cluster"]


def pytest_collection_modifyitems(items):
    group_by_cluster(items)
