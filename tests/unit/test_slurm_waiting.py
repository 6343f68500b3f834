"""A job that waits in Slurm's queue for another one: under which ids it may, and what Slurm is told."""

from __future__ import annotations

import pytest

from adapters.base import AttemptRef, Capability, Predecessor
from adapters.errors import Busy, CannotWait, OutcomeUnknown, Rejected
from adapters.slurm.transport import NotReached, Refused
from api_spec.jobs import Placement, When
from tests.builders import spec
from tests.slurm_cluster import InMemory
from tests.slurm_kit import ref, sent
from tests.slurm_rows import row
from tests.unit.test_slurm_adapter import adapter

FIRST, OTHER = "wb-x-01j0000000000000000000000b-1", "wb-x-01j0000000000000000000000c-1"


def predecessor(job_id=5, when=When.SUCCEEDED, marker=FIRST, cluster="hpc"):
    handle = {"cluster": cluster, "id": job_id, "user": "ana"}
    return Predecessor(ref=AttemptRef(marker=marker, handle=handle), when=when)


def waiting(*after):
    return ref(handle=None, after=after)


class Refusing(InMemory):
    """Submits are refused with this."""

    error: Exception

    def submit(self, job):
        raise self.error


class ForgetsMeanwhile(InMemory):
    """A request was on its way for so long that the predecessor was purged before it was read."""

    def submit(self, job):
        self.forget(5)
        return super().submit(job)


# ---- what Slurm is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after, told",
    [
        ((), "singleton"),
        ((predecessor(7),), "singleton,afterok:7"),
        ((predecessor(7, When.ENDED),), "singleton,afterany:7"),
        ((predecessor(7), predecessor(8, When.ENDED)), "singleton,afterok:7,afterany:8"),
    ],
)
def test_predecessors_are_joined_to_the_dependency_of_the_guard(after, told):
    assert sent(attempt=waiting(*after)).dependency == told


def test_a_dependency_of_the_users_own_holds_as_well():
    own = spec(placement=Placement(slurm={"dependency": "afterany:3"}))

    assert sent(own, waiting(predecessor(7))).dependency == "singleton,afterany:3,afterok:7"


@pytest.mark.parametrize("when", [When.STARTED, When.FAILED, When.READY])
def test_what_slurm_means_otherwise_is_not_asked_of_it(when):
    """``after`` and ``afternotok`` are met by a predecessor that was cancelled before it started."""
    with pytest.raises(CannotWait):
        sent(attempt=waiting(predecessor(7, when)))


# ---- whom it waits for -------------------------------------------------------------------------------


def test_one_that_is_in_the_queue_is_waited_for():
    cluster = InMemory()
    cluster.put(row("RUNNING", id=5, name=FIRST))
    cluster.next_id = 9

    assert adapter(cluster).submit(waiting(predecessor()), spec())["id"] == 9


GONE = {
    "purged": (),
    "over": (row("COMPLETED", id=5, name=FIRST),),
    "somebody else's": (row("RUNNING", id=5, name=OTHER),),
    "of another user": (row("RUNNING", id=5, name=FIRST, user="eve"),),
    "under another id": (row("RUNNING", id=6, name=FIRST),),
}


@pytest.mark.parametrize("rows", GONE.values(), ids=GONE)
def test_one_that_is_not_behind_its_id_is_not_waited_for(rows):
    cluster = InMemory()
    cluster.put(*rows)

    with pytest.raises(CannotWait):
        adapter(cluster).submit(waiting(predecessor()), spec())

    assert "submit" not in cluster.asked


def test_one_of_another_cluster_is_not_waited_for():
    """The address may lead to another controller now, which has jobs of the same ids."""
    cluster = InMemory(name="hpc")
    cluster.put(row("RUNNING", id=5, name=FIRST))

    with pytest.raises(CannotWait):
        adapter(cluster).submit(waiting(predecessor(cluster="old")), spec())

    assert "submit" not in cluster.asked


def test_a_controller_that_does_not_answer_was_not_asked_to_act():
    cluster = InMemory()
    cluster.failure = NotReached("nobody listens")

    with pytest.raises(Busy):
        adapter(cluster).submit(waiting(predecessor()), spec())


def test_one_that_was_purged_before_slurm_read_the_submission_takes_the_job_back():
    """22.05 thinks that a job which it does not know is no reason to wait."""
    cluster = ForgetsMeanwhile()
    cluster.put(row("RUNNING", id=5, name=FIRST))
    cluster.next_id = 9

    with pytest.raises(CannotWait):
        adapter(cluster).submit(waiting(predecessor()), spec())

    assert cluster.cancelled == ["9"]


def test_what_cannot_be_taken_back_is_looked_for():
    class AndIsGone(ForgetsMeanwhile):
        def cancel(self, job, user):
            raise NotReached("nobody listens")

    cluster = AndIsGone()
    cluster.put(row("RUNNING", id=5, name=FIRST))

    with pytest.raises(OutcomeUnknown):
        adapter(cluster).submit(waiting(predecessor()), spec())


def test_one_that_ends_while_the_job_is_sent_was_waited_for():
    class EndsMeanwhile(InMemory):
        def submit(self, job):
            self.move(5, "COMPLETED")
            return super().submit(job)

    cluster = EndsMeanwhile()
    cluster.put(row("RUNNING", id=5, name=FIRST))
    cluster.next_id = 9

    assert adapter(cluster).submit(waiting(predecessor()), spec())["id"] == 9
    assert cluster.cancelled == []


@pytest.mark.parametrize("natively, error", [(True, CannotWait), (False, Rejected)])
def test_a_refused_dependency_of_the_brokers_is_no_end_of_the_job(natively, error):
    """2038 of a dependency that the user wrote is the user's."""
    cluster = Refusing()
    cluster.error = Refused("Job dependency problem", 2038)
    cluster.put(row("RUNNING", id=5, name=FIRST))

    with pytest.raises(error):
        adapter(cluster).submit(waiting(*[predecessor()] if natively else ()), spec())


# ---- whether it may ----------------------------------------------------------------------------------


@pytest.mark.parametrize("said, able", [({}, True), ({"native_dependencies": False}, False)])
def test_an_operator_can_leave_all_dependants_to_the_broker(said, able):
    assert (Capability.NATIVE_DEPENDENCY in adapter(InMemory(), **said).capabilities) is able
