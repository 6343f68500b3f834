"""The real backends that tests may ask for."""

from __future__ import annotations

import pytest

from tests.real.slurm.fixtures import cluster, new_cluster, open_cluster, prepare
from tests.real.slurm_kit import bench_on

__all__ = ["cluster", "new_cluster", "open_cluster"]


def pytest_collection_modifyitems(items):
    prepare(items)
    for item in items:
        if "tests/real/" in item.nodeid:
            item.add_marker(pytest.mark.real)


@pytest.fixture
def bench(cluster):
    with bench_on(cluster) as bench:
        yield bench
