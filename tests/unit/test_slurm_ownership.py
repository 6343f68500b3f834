"""The adapter over a cluster in memory: which cluster answers, whose job a row is, what is cancelled."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import AttemptRef, BackendConfig
from adapters.errors import Busy
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.script import SECOND_COPY
from adapters.slurm.transport import NotReached, TryLater
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.builders import spec
from tests.slurm_cluster import Clock, InMemory
from tests.slurm_kit import OWNER
from tests.slurm_rows import MARKER, row


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


# ---- copies, and jobs of others under our name -------------------------------------------------------


def test_a_job_that_somebody_else_gave_our_name_does_not_count(cluster):
    """Anybody reads the names of jobs in the queue, and names theirs as they like."""
    theirs = row("COMPLETED", id=4, user="eve", submitted_at=1.0, started_at=1.0, exit_code=0)
    cluster.put(theirs, row("PENDING", id=5, user=OWNER, submitted_at=2.0))
    adapter = adapter_of(cluster)

    seen = adapter.observe([ref()])

    assert (seen.found[MARKER].state, seen.found[MARKER].handle["id"]) == (AttemptState.QUEUED, 5)
    adapter.cancel(ref())
    assert cluster.cancelled == ["5"]


@pytest.mark.parametrize("user", ["1004", ""])
def test_a_user_whom_slurmrestd_cannot_name_is_no_stranger(cluster, user):
    cluster.put(row("RUNNING", id=5, user=user))

    assert MARKER in adapter_of(cluster).observe([ref()]).found


def test_of_two_that_have_started_none_is_cancelled(cluster):
    """The younger one may have been the first to run, and holds the claim."""
    cluster.put(
        row("RUNNING", id=5, user=OWNER, submitted_at=1.0, started_at=3.0),
        row("RUNNING", id=6, user=OWNER, submitted_at=2.0, started_at=3.0),
    )

    adapter_of(cluster).observe([ref()])
    assert cluster.cancelled == []

    adapter_of(cluster, guard=False).observe([ref()])
    assert cluster.cancelled == ["6"]


def test_what_was_requeued_counts_before_a_copy_that_never_ran(cluster):
    """A requeue counts for Slurm as a new submission; but the claim is its own."""
    cluster.put(
        row("PENDING", id=5, user=OWNER, submitted_at=9.0, restarts=1),
        row("PENDING", id=6, user=OWNER, submitted_at=2.0),
    )

    seen = adapter_of(cluster).observe([ref()])

    assert seen.found[MARKER].handle["id"] == 5
    assert cluster.cancelled == ["6"]


def test_the_end_of_a_second_copy_alone_is_not_how_the_job_ended(cluster):
    """The first one has left the queue, and its end is not on record yet."""
    cluster.put(row("FAILED", id=6, user=OWNER, exit_code=SECOND_COPY, started_at=5.0))

    assert adapter_of(cluster).observe([ref()]).found == {}


def test_a_job_that_chose_the_code_of_a_second_copy_has_failed_with_it(cluster):
    cluster.put(row("FAILED", id=5, user=OWNER, exit_code=SECOND_COPY, started_at=5.0))

    assert adapter_of(cluster).observe([ref()]).found[MARKER].exit_code == SECOND_COPY


# ---- the database ------------------------------------------------------------------------------------


def test_while_the_database_does_not_answer_what_is_in_the_queue_is_seen(cluster):
    """It may be away for hours; of one job that has left the queue nothing is known, and it is not absent."""
    cluster.put(row("RUNNING", id=5, user=OWNER))
    cluster.history = lambda **question: (_ for _ in ()).throw(NotReached("slurmdbd does not run", 7000))

    seen = adapter_of(cluster).observe([ref(), ref(6, marker="wb-test-01j0000000000000000000000b-1")])

    assert set(seen.found) == {MARKER}
    assert not seen.complete


# ---- what Slurm does not take now --------------------------------------------------------------------


@pytest.mark.parametrize("code, reason", [(2050, Reason.QUOTA_EXCEEDED), (2070, Reason.CAPACITY)])
def test_what_slurm_may_take_later_says_why_it_waits(cluster, code, reason):
    def full(job):
        raise TryLater("not now", code)

    cluster.submit = full

    with pytest.raises(Busy) as waits:
        adapter_of(cluster).submit(ref(handle=None), spec())
    assert waits.value.reason is reason
