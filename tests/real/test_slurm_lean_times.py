"""What a cluster says to a submission that it can take, but not start, for the time being."""

from __future__ import annotations

import pytest

from adapters.slurm import transport as errors
from tests.real.test_slurm_rest import every_dialect, speaking, submission

pytestmark = pytest.mark.process


@pytest.fixture
def drained(cluster):
    """All nodes are."""
    cluster.run("scontrol", "update", "nodename=n[1-4]", "state=drain", "reason=test")
    yield
    cluster.run("scontrol", "update", "nodename=n[1-4]", "state=resume")


@every_dialect
@pytest.mark.parametrize(
    "asked", [{}, {"nodes": 4}, {"required_nodes": ("n1",)}, {"gres": "gpu:h100:2"}], ids=str
)
def test_a_job_waits_for_nodes_that_are_drained(drained, cluster, dialect, asked):
    slurm = speaking(cluster, dialect)

    job_id = slurm.submit(submission(cluster, **asked))

    assert [job.states for job in slurm.job(job_id)] == [("PENDING",)]
    slurm.cancel(str(job_id), cluster.user)


@every_dialect
@pytest.mark.parametrize("state", ["drain", "inactive"])
def test_a_partition_that_is_closed_may_take_it_later(cluster, dialect, state):
    slurm = speaking(cluster, dialect)
    cluster.run("scontrol", "update", "partitionname=train", f"state={state}")
    try:
        with pytest.raises(errors.TryLater):
            slurm.submit(submission(cluster, partition="train"))
    finally:
        cluster.run("scontrol", "update", "partitionname=train", "state=up")
    assert [job.name for job in slurm.jobs().jobs if job.states == ("PENDING",)] == []


@every_dialect
def test_a_job_waits_for_a_partition_that_is_down(cluster, dialect):
    slurm = speaking(cluster, dialect)
    cluster.run("scontrol", "update", "partitionname=train", "state=down")
    try:
        job_id = slurm.submit(submission(cluster, partition="train"))
        assert [job.states for job in slurm.job(job_id)] == [("PENDING",)]
        slurm.cancel(str(job_id), cluster.user)
    finally:
        cluster.run("scontrol", "update", "partitionname=train", "state=up")
