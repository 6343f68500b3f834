"""The adapter over a cluster in memory: which cluster answers, whose job a row is, what is cancelled."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import AttemptRef, BackendConfig, Busy
from adapters.slurm.adapter import SlurmAdapter
from tests.builders import spec
from tests.slurm_cluster import Clock, InMemory
from tests.slurm_kit import OWNER
from tests.slurm_rows import MARKER


def adapter_of(transport, **changes):
    options = {
        "directory": "/nowhere/{user}",
        "url": "http://127.0.0.1:6820",
        "token": {"key_file": "/etc/key"},
        "users": {"owner": True},
        **changes,
    }
    config = BackendConfig(name="slurm", type="slurm", instance="test", data_dir="", options=options)
    return SlurmAdapter(config, transport)


@pytest.fixture
def cluster():
    return InMemory(clock=Clock(time.time()))


def ref(job_id=5, **changes):
    handle = {"cluster": "hpc", "id": job_id, "user": OWNER}
    return AttemptRef(**{"marker": MARKER, "handle": handle, "owner": OWNER, "submitted_at": 1.0, **changes})


# ---- which cluster -----------------------------------------------------------------------------------


def called(cluster, name):
    """Another one behind the same address, after a fail-over or a mistake."""
    was = cluster.cluster()
    cluster.cluster = lambda: replace(was, name=name)


def test_what_another_cluster_does_not_know_is_not_lost(cluster):
    adapter = adapter_of(cluster, cluster="hpc")
    called(cluster, "spare")

    for ask in (
        lambda: adapter.observe([ref()]),
        lambda: adapter.find(MARKER, 1.0),
        lambda: adapter.list_ours(0.0),
        lambda: adapter.submit(ref(handle=None), spec()),
    ):
        with pytest.raises(Busy, match="spare and not hpc"):
            ask()


def test_nothing_moves_what_was_handed_to_another_cluster_than_the_one_that_answers(cluster):
    adapter = adapter_of(cluster)
    called(cluster, "spare")

    seen = adapter.observe([ref()])

    assert seen.found[MARKER].state is None
    assert seen.found[MARKER].handle == ref().handle


def test_a_cluster_that_cannot_say_its_name_before_it_has_jobs_takes_the_first(cluster):
    """v0.0.38 without a database."""
    adapter = adapter_of(cluster, cluster="hpc")
    called(cluster, None)

    assert adapter.submit(ref(handle=None), spec())["id"] == 1


def test_one_that_is_named_by_its_jobs_is_asked_for_them_before_it_gets_one(cluster):
    adapter = adapter_of(cluster, cluster="hpc")
    called(cluster, None)
    listing = cluster.jobs
    cluster.jobs = lambda since=None: (called(cluster, "spare"), listing(since))[1]

    with pytest.raises(Busy, match="spare and not hpc"):
        adapter.submit(ref(handle=None), spec())
    assert "submit" not in cluster.asked
