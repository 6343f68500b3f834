"""Found by name, proven absent only when nothing can be on its way, and verified before each write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Absent, AttemptRef, Found, Unsettled
from adapters.carried import text as comment
from adapters.slurm.attempts import Attempts
from adapters.slurm.live import LiveQueue
from adapters.slurm.transport import NoAnswer, NotReached, TryLater
from tests.slurm_cluster import InMemory
from tests.slurm_rows import MARKER, row

SETTLE_S = 60.0


@pytest.fixture(params=[True, False], ids=["accounting", "no accounting"])
def cluster(request):
    return InMemory(accounting=request.param)


@pytest.fixture
def attempts(cluster):
    """Of a process that has asked the controller a while ago."""
    queue = LiveQueue(cluster, cluster.clock)
    queue.listed(cluster.clock())
    return Attempts(cluster, queue, SETTLE_S, cluster.clock)


def later(cluster, seconds):
    cluster.clock.now += seconds


def ref(job_id=None, submitted_at=1000.0):
    handle = None if job_id is None else {"cluster": "hpc", "id": job_id, "user": "ana"}
    return AttemptRef(marker=MARKER, handle=handle, submitted_at=submitted_at)


# ---- find --------------------------------------------------------------------------------------------


def test_what_is_in_the_queue_is_found(cluster, attempts):
    later(cluster, 1)
    cluster.put(row("PENDING", id=5))

    assert attempts.find(MARKER, 1000.0) == Found({"cluster": "hpc", "id": 5, "user": "ana"})


def test_another_name_that_begins_alike_is_not_found(cluster, attempts):
    later(cluster, SETTLE_S + 1)
    cluster.put(row("PENDING", id=5, name=MARKER + "1"))

    assert attempts.find(MARKER, 1000.0) == Absent()


def test_nothing_is_absent_before_the_settle_time_is_over(cluster, attempts):
    later(cluster, SETTLE_S - 1)

    assert attempts.find(MARKER, 1000.0) == Unsettled(1000.0 + SETTLE_S)


def test_the_settle_time_begins_anew_when_the_controller_answers_again(cluster, attempts):
    """A submit to a controller that hung appeared right after it went on, long after it was sent."""
    later(cluster, 1)
    cluster.failure = NotReached("nobody listens")
    with pytest.raises(NotReached):
        attempts.find(MARKER, 1000.0)
    cluster.failure = None
    later(cluster, 500)

    assert attempts.find(MARKER, 1000.0) == Unsettled(1501.0 + SETTLE_S)
    later(cluster, SETTLE_S)
    assert attempts.find(MARKER, 1000.0) == Absent()


def test_what_has_left_the_queue_is_found_in_the_database():
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    later(cluster, 5000)
    cluster.recorded.append(row("COMPLETED", id=5, submitted_at=1000.0, accounted=True))

    assert attempts.find(MARKER, 1000.0) == Found({"cluster": "hpc", "id": 5, "user": "ana"})


def test_a_ghost_of_the_database_is_not_a_job():
    """A controller that was killed right after it had accepted a job forgets it; the database shows it as
    pending for ever, and its id goes to the next job."""
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    cluster.recorded.append(row("PENDING", id=5, submitted_at=1000.0, accounted=True))
    cluster.put(row("RUNNING", id=5, name="somebody-else"))
    attempts.find(MARKER, 1000.0)
    later(cluster, 5000)

    assert attempts.find(MARKER, 1000.0) == Absent()


def test_a_database_that_is_behind_proves_no_absence():
    cluster = InMemory(backlog=3)
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    attempts.find(MARKER, 1000.0)
    later(cluster, 5000)

    answer = attempts.find(MARKER, 1000.0)

    assert isinstance(answer, Unsettled)
    assert answer.until > cluster.clock()


def test_a_record_that_reaches_the_database_during_the_look_up_is_not_missed():
    cluster = InMemory(backlog=1)
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    attempts.find(MARKER, 1000.0)
    later(cluster, 5000)
    asked, ended = cluster.accounting_backlog, row("COMPLETED", id=5, submitted_at=1000.0, accounted=True)

    def handed_over():
        behind = asked()
        cluster.recorded.append(ended)
        cluster.backlog = 0
        return behind

    history, cluster.accounting_backlog = cluster.history, handed_over
    cluster.history = lambda **question: (history(**question), handed_over())[0]

    assert not isinstance(attempts.find(MARKER, 1000.0), Absent)


# ---- writes ------------------------------------------------------------------------------------------


def test_an_id_that_somebody_else_has_now_is_not_written_to(cluster, attempts):
    cluster.put(row("RUNNING", id=5, name="somebody-else"))

    assert attempts.live(ref(5)) == {}


def test_every_copy_is_written_to(cluster, attempts):
    later(cluster, 1)
    cluster.put(row("PENDING", id=5), row("PENDING", id=6))

    assert list(attempts.live(ref(5))) == [5, 6]
    assert list(attempts.live(ref())) == [5, 6]


def test_what_has_ended_is_not_written_to(cluster, attempts):
    later(cluster, 1)
    cluster.put(row("COMPLETED", id=5))

    assert attempts.live(ref(5)) == {}


def test_many_writes_need_one_listing_once_their_submits_are_settled(cluster, attempts):
    """Each would cost seconds with 10,000 jobs; and no copy can appear any more."""
    later(cluster, SETTLE_S + 10)
    cluster.put(*(row("PENDING", id=number) for number in range(5, 15)))
    attempts.live(ref(5))
    before = cluster.asked.count("jobs")
    later(cluster, 5)

    for number in range(6, 15):
        attempts.live(ref(number))

    assert cluster.asked.count("jobs") == before


# ---- a pass ------------------------------------------------------------------------------------------


def test_a_pass_over_what_is_in_the_queue_is_one_question(cluster, attempts):
    later(cluster, 1)
    cluster.put(row("RUNNING", id=5))
    cluster.asked.clear()

    seen = attempts.seen([ref(5)])

    assert set(seen.found) == {MARKER}
    assert cluster.asked == ["jobs"]


@pytest.mark.parametrize("error", [NotReached("7000"), NoAnswer("504"), TryLater("busy")])
def test_without_its_database_a_pass_shows_the_queue_and_is_not_complete(error):
    """One job that had left the queue kept all others from being seen, as long as the database was down."""

    class DatabaseIsDown(InMemory):
        def history(self, *_, **__):
            raise error

    cluster = DatabaseIsDown()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    cluster.put(row("COMPLETED", id=5))

    seen = attempts.seen([ref(5), AttemptRef(marker="wb-test-gone-1")])

    assert (set(seen.found), seen.complete) == ({MARKER}, False)


def test_what_nobody_knows_is_not_in_a_pass(cluster, attempts):
    assert attempts.seen([ref(5)]).found == {}


def test_a_ghost_is_not_in_a_pass():
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    cluster.recorded.append(row("RUNNING", id=5, submitted_at=1000.0, accounted=True))

    assert attempts.seen([ref(5)]).found == {}


def test_an_earlier_run_of_a_requeued_job_is_not_its_end():
    """The controller has forgotten the job and the end of its second run is not on record yet."""
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    first = row("NODE_FAIL", id=5, submitted_at=1000.0, started_at=1001.0, accounted=True)
    cluster.recorded += [first, row("RUNNING", id=5, submitted_at=1100.0, started_at=1200.0, accounted=True)]
    later(cluster, 5000)

    assert attempts.seen([ref(5)]).found == {}
    assert not isinstance(attempts.find(MARKER, 1000.0), Found)


def test_tasks_that_have_left_the_queue_are_looked_up_when_the_rest_has_ended():
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    cluster.put(row("COMPLETED", id=6, array_id=5, task=1))
    cluster.recorded.append(row("FAILED", id=5, array_id=5, task=0, accounted=True, exit_code=3))

    seen = attempts.seen([ref(5)])

    assert sorted(one.task for one in seen.found[MARKER].rows) == [0, 1]


def test_an_array_is_not_seen_to_end_before_the_database_has_all_its_tasks():
    cluster = InMemory(backlog=1)
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    told = comment(AttemptRef(marker=MARKER, task_indices=(0, 1)))
    cluster.put(row("COMPLETED", id=6, array_id=5, task=1, comment=told))

    assert attempts.seen([ref(5)]).found == {}
    cluster.backlog = 0
    cluster.recorded.append(row("COMPLETED", id=5, array_id=5, task=0, accounted=True))

    assert sorted(one.task for one in attempts.seen([ref(5)]).found[MARKER].rows) == [0, 1]


def test_an_array_of_which_nobody_has_all_tasks_ends_with_those_there_are():
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    told = comment(AttemptRef(marker=MARKER, task_indices=(0, 1)))
    cluster.put(row("COMPLETED", id=6, array_id=5, task=1, comment=told))

    assert [one.task for one in attempts.seen([ref(5)]).found[MARKER].rows] == [1]


def test_of_an_array_that_runs_the_tasks_that_have_left_the_queue_are_known_too():
    """Who follows the log of one learns that it is complete before the others have ended."""
    cluster = InMemory()
    attempts = Attempts(cluster, LiveQueue(cluster, cluster.clock), SETTLE_S, cluster.clock)
    cluster.put(row("RUNNING", id=6, array_id=5, task=1))
    cluster.recorded.append(row("COMPLETED", id=5, array_id=5, task=0, accounted=True))

    known = attempts.known(replace(ref(5), task_indices=(0, 1)))

    assert sorted((one.task, one.states) for one in known) == [(0, ("COMPLETED",)), (1, ("RUNNING",))]
