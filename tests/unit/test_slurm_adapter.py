"""What the adapter itself decides between the contract and a transport."""

from __future__ import annotations

import pytest

from adapters.base import BackendConfig, Busy
from adapters.slurm.adapter import SlurmAdapter
from tests.builders import spec
from tests.slurm_cluster import InMemory
from tests.slurm_kit import ref
from tests.slurm_rows import row

OPTIONS = {
    "directory": "/nowhere/{user}",
    "url": "http://127.0.0.1:6820",
    "token": {"key_file": "/etc/key"},
    "users": {"owner": True},
}


def adapter(transport, **changes):
    options = {**OPTIONS, **changes}
    config = BackendConfig(name="hpc", type="slurm", instance="x", data_dir="", options=options)
    return SlurmAdapter(config, transport)


# ---- the right cluster -------------------------------------------------------------------------------


@pytest.mark.parametrize("named_by_jobs", [False, True])
def test_another_cluster_behind_the_address_gets_nothing(named_by_jobs):
    cluster = InMemory(name="other", named_by_jobs=named_by_jobs)
    cluster.put(row("RUNNING", id=5, name="somebody's"))

    with pytest.raises(Busy, match="is the cluster other and not hpc"):
        adapter(cluster, cluster="hpc").submit(ref(), spec())

    assert "submit" not in cluster.asked


def test_a_cluster_that_does_not_say_its_name_yet_gets_jobs():
    """22.05 names itself in the rows of jobs alone: with an empty queue nothing was ever submitted to it."""
    cluster = InMemory(name="hpc", named_by_jobs=True)

    handle = adapter(cluster, cluster="hpc").submit(ref(), spec())

    assert handle["cluster"] == "hpc"
