"""The queue of a controller, asked for as rarely and as cheaply as the cluster allows."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from adapters.slurm.live import DETAILS_AT_ONCE, WHOLE_EVERY_S, LiveQueue
from adapters.slurm.transport import NotReached
from tests.slurm_cluster import InMemory
from tests.slurm_rows import MARKER, row


@pytest.fixture
def cluster():
    return InMemory(has_states=True)


@pytest.fixture
def queue(cluster):
    cluster.put(row("PENDING", id=1, reason="Priority"), row("RUNNING", id=2, name="another"))
    queue = LiveQueue(cluster, cluster.clock)
    queue.listed(cluster.clock())
    cluster.clock.now += 1
    cluster.asked.clear()
    return queue


def look(cluster, queue):
    return queue.listed(cluster.clock())


def test_a_listing_that_is_new_enough_is_not_asked_for_again(cluster, queue):
    queue.listed(cluster.clock() - 1)

    assert cluster.asked == []


def test_where_nothing_has_changed_the_states_are_enough(cluster, queue):
    assert look(cluster, queue).named(MARKER)

    assert cluster.asked == ["states"]


def test_details_are_asked_for_what_has_changed(cluster, queue):
    cluster.move(1, "RUNNING", started_at=5.0)

    assert look(cluster, queue).named(MARKER)[0].started_at == 5.0
    assert cluster.asked == ["states", "job"]


def test_what_has_left_the_queue_is_gone(cluster, queue):
    cluster.forget(1)

    assert look(cluster, queue).named(MARKER) == ()


def test_what_is_purged_between_the_two_questions_is_gone(cluster, queue):
    cluster.put(row("RUNNING", id=3, name="shortly"))
    states = cluster.states()
    cluster.states = lambda: states
    cluster.forget(3)

    assert look(cluster, queue).named("shortly") == ()


def test_when_much_has_changed_one_listing_is_asked_for(cluster, queue):
    cluster.put(*(row("PENDING", id=number) for number in range(10, 11 + DETAILS_AT_ONCE)))

    assert len(look(cluster, queue).named(MARKER)) == DETAILS_AT_ONCE + 2
    assert cluster.asked == ["states", "states", "jobs"]


def test_everything_is_asked_for_now_and_then(cluster, queue):
    """A reason and a priority change without the state."""
    cluster.rows[1] = row("PENDING", id=1, reason="JobHeldAdmin")
    cluster.changed_at = cluster.clock.now
    assert look(cluster, queue).named(MARKER)[0].reason == "Priority"

    cluster.clock.now += WHOLE_EVERY_S

    assert look(cluster, queue).named(MARKER)[0].reason == "JobHeldAdmin"


def test_without_the_cheap_listing_what_has_changed_since_is_asked_for(cluster, queue):
    cluster.has_states = False
    before = look(cluster, queue)

    cluster.clock.now += 1
    assert look(cluster, queue).by_name is before.by_name
    cluster.move(1, "RUNNING")
    cluster.clock.now += 1

    assert look(cluster, queue).named(MARKER)[0].states == ("RUNNING",)


def test_after_a_write_the_next_listing_is_a_new_one(cluster, queue):
    queue.changed()

    queue.listed(cluster.clock() - 1)

    assert cluster.asked == ["states"]


def test_after_a_write_to_a_job_its_details_are_asked_for(cluster, queue):
    """A hold changes the reason and not the state."""
    cluster.rows[1] = row("PENDING", id=1, reason="JobHeldUser")
    assert look(cluster, queue).named(MARKER)[0].reason == "Priority"

    queue.changed(1)

    assert look(cluster, queue).named(MARKER)[0].reason == "JobHeldUser"


def test_a_failure_is_told_and_what_was_known_is_not_taken_for_new(cluster, queue):
    cluster.failure = NotReached("nobody listens")

    with pytest.raises(NotReached):
        look(cluster, queue)
    assert queue.answers_since is None
    cluster.failure = None

    assert look(cluster, queue).began_at == cluster.clock()
    assert queue.answers_since == cluster.clock()


def of_array(task, job_id, *states):
    return row(*states, id=job_id, name="array", array_id=9, task=task)


@pytest.fixture
def array(cluster, queue):
    """An array of which one task runs; the listing of states says no more of it than its own id."""
    waiting = row("PENDING", id=9, name="array", array_id=9, waiting_tasks="1-2", reason="Priority")
    cluster.put(waiting, of_array(0, 10, "RUNNING"))
    look(cluster, queue)
    cluster.clock.now += 1
    cluster.asked.clear()


def test_an_array_of_which_nothing_changes_is_not_asked_for_again(cluster, queue, array):
    assert len(look(cluster, queue).named("array")) == 2

    assert cluster.asked == ["states"]


def test_a_task_that_starts_is_seen_once(cluster, queue, array):
    cluster.put(row("PENDING", id=9, name="array", array_id=9, waiting_tasks="2"), of_array(1, 11, "RUNNING"))

    rows = look(cluster, queue).named("array")

    assert sorted((one.id, one.task) for one in rows if one.task is not None) == [(10, 0), (11, 1)]
    assert len(rows) == 3


def test_an_array_whose_tasks_have_all_gone_is_gone(cluster, queue, array):
    cluster.forget(9)
    cluster.forget(10)

    assert look(cluster, queue).named("array") == ()


def test_a_waiting_task_that_is_cancelled_is_noticed(cluster, queue, array):
    """It leaves no row, only a shorter list."""
    cluster.put(row("PENDING", id=9, name="array", array_id=9, waiting_tasks="2"))

    rows = look(cluster, queue).named("array")

    assert {one.waiting_tasks for one in rows if one.task is None} == {"2"}


# ---- many explanations, one listing ------------------------------------------------------------------


def test_what_a_listing_has_shown_is_explained_by_it_however_long_that_takes(cluster, queue):
    """A listing of 5,000 jobs takes longer than an answer may be old: each of them was listed for again."""
    cluster.clock.now += 30

    assert queue.showing(MARKER, cluster.clock() - 60).named(MARKER)
    assert cluster.asked == []


@pytest.mark.parametrize(
    "what", ["its job was written to", "it is too old", "it does not have the name"], ids=str
)
def test_a_listing_that_no_longer_tells_is_asked_for_again(cluster, queue, what):
    if what == "its job was written to":
        queue.changed(1)
    if what == "it is too old":
        cluster.clock.now += 61

    queue.showing("unknown" if what == "it does not have the name" else MARKER, cluster.clock() - 60)

    assert cluster.asked[0] in ("states", "jobs")


def test_a_write_to_another_job_does_not_make_a_listing_old_for_this_one(cluster, queue):
    """While jobs are submitted, those that wait are explained without a listing after each."""
    queue.changed(2)
    queue.changed()

    queue.showing(MARKER, cluster.clock() - 60)

    assert cluster.asked == []


def test_who_writes_does_not_wait_for_a_listing_and_that_one_does_not_count_as_later(cluster, queue):
    """slurmrestd takes seconds for one; submissions go on meanwhile."""
    states = cluster.states

    def slowly():
        writer = threading.Thread(target=queue.changed, args=(1,))
        writer.start()
        writer.join(60)
        assert not writer.is_alive()
        return states()

    cluster.states = slowly
    look(cluster, queue)
    cluster.states = states
    cluster.asked.clear()

    queue.listed(cluster.clock() - 60)

    assert cluster.asked == ["states", "job"]


def test_the_jobs_ahead_are_those_of_the_partition_that_wait_and_come_first(cluster, queue):
    """By their priority; of two with the same one the older."""
    waiting = [
        row("PENDING", id=20 + place, name=f"p{place}", partition="gpu", priority=priority)
        for place, priority in enumerate((1, 2, 2, 3))
    ]
    cluster.put(*waiting)
    cluster.put(
        row("RUNNING", id=30, name="runs", partition="gpu", priority=9),
        row("PENDING", id=31, name="elsewhere", partition="cpu", priority=9),
    )
    cluster.clock.now += 60

    seen = look(cluster, queue)

    assert [seen.ahead_of(one) for one in waiting] == [3, 1, 2, 0]


def test_a_row_that_says_the_same_is_the_same_object(cluster, queue):
    """Thousands of jobs that wait need not be looked at again because one of them has changed."""
    cluster.has_states = False
    cluster.rows = {number: replace(one) for number, one in cluster.rows.items()}
    before = look(cluster, queue)
    cluster.rows = {number: replace(one) for number, one in cluster.rows.items()}
    cluster.move(2, "COMPLETING")
    cluster.clock.now += 1

    after = look(cluster, queue)

    assert after.named(MARKER)[0] is before.named(MARKER)[0]
    assert after.named("another")[0].states == ("COMPLETING",)


def test_a_job_without_a_reason_to_wait_yet_is_looked_at_again(cluster, queue):
    """The scheduler tells why a moment after the submission, and the state stays the same for long."""
    cluster.put(row("PENDING", id=3, name="new"))
    look(cluster, queue)
    cluster.clock.now += 1
    cluster.rows[3] = row("PENDING", id=3, name="new", reason="Licenses")

    assert look(cluster, queue).named("new")[0].reason == "Licenses"
    cluster.clock.now += 1
    cluster.asked.clear()
    look(cluster, queue)
    assert cluster.asked == ["states"], "and then no more"
