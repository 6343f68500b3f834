"""Arrays, services and logs, where a backend has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Capability, LogQuery
from adapters.errors import BackendError, BadLogQuery, OutcomeUnknown
from api_spec.jobs import Array
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import Fault, needs, new_ref
from tests.helpers import wait_until

# ---- arrays ----------------------------------------------------------------------------------------


@needs(Capability.ARRAYS)
def test_each_task_of_an_array_has_its_own_end(place):
    ref = place.submit(place.array("0-3", failing=2))

    seen = place.until(ref, AttemptState.ENDED)

    assert {index: task.outcome for index, task in seen.tasks.items()} == {
        0: JobState.COMPLETED,
        1: JobState.COMPLETED,
        2: JobState.FAILED,
        3: JobState.COMPLETED,
    }
    assert seen.tasks[2].exit_code == 3
    assert seen.tasks[2].reason is Reason.NON_ZERO_EXIT
    assert seen.outcome is JobState.FAILED


@needs(Capability.ARRAYS)
def test_the_indices_of_an_array_are_those_that_were_asked_for(place):
    ref = place.submit(place.array("1-7:3"))

    assert set(place.until(ref, AttemptState.ENDED).tasks) == {1, 4, 7}


@needs(Capability.ARRAYS)
def test_an_attempt_runs_only_the_tasks_that_it_names(place):
    """A retry runs those that failed."""
    ref = place.submit(place.array("0-9"), task_indices=(3, 5))

    assert set(place.until(ref, AttemptState.ENDED).tasks) == {3, 5}


@needs(Capability.ARRAYS)
def test_an_array_that_is_cancelled_ends_in_all_its_tasks(place):
    ref = place.submit(place.array("0-2", runs=True))
    place.until(ref, AttemptState.RUNNING)

    place.adapter.cancel(ref)

    seen = place.until(ref, AttemptState.ENDED)
    assert seen.outcome is JobState.CANCELLED
    assert {task.state for task in seen.tasks.values()} <= {AttemptState.ENDED}


# ---- single tasks of an array ------------------------------------------------------------------------


def cancelled_alone(place, ref, *indices):
    """Asked for again and again, as a worker does, until each was seen to end or the backend has nothing
    left of it.  Its observation then."""

    def over():
        gone = place.adapter.cancel_tasks(ref, indices)
        seen = place.look(ref).tasks
        return all(i in gone or (i in seen and seen[i].outcome is JobState.CANCELLED) for i in indices)

    wait_until(over, 30, why=f"tasks {indices} are cancelled")
    return place.look(ref)


def one_after_the_other(place, indices):
    """An array whose first task runs for ever, so that the others wait."""
    return replace(place.array(indices, runs=True), array=Array(indices=indices, max_running=1))


@needs(Capability.CANCEL_TASKS)
def test_a_running_task_is_cancelled_and_the_others_go_on(place):
    ref = place.submit(place.array("0-2", runs=True))
    wait_until(lambda: {one.state for one in place.look(ref).tasks.values()} == {AttemptState.RUNNING})

    seen = cancelled_alone(place, ref, 1)

    assert seen.state is AttemptState.RUNNING
    assert seen.tasks[1].reason is Reason.CANCELLED
    assert [seen.tasks[index].state for index in (0, 2)] == [AttemptState.RUNNING] * 2


@needs(Capability.CANCEL_TASKS)
def test_waiting_tasks_are_cancelled_and_never_start(place):
    ref = place.submit(one_after_the_other(place, "3-9:2"))
    wait_until(lambda: place.look(ref).tasks[3].state is AttemptState.RUNNING)

    seen = cancelled_alone(place, ref, 5, 9)

    assert (seen.tasks[3].state, seen.tasks[7].state) == (AttemptState.RUNNING, AttemptState.QUEUED)
    place.adapter.cancel(ref)
    place.until(ref, AttemptState.ENDED)
    assert place.starts(ref.marker) == 1


@needs(Capability.CANCEL_TASKS)
def test_an_array_whose_tasks_are_all_cancelled_one_by_one_is_over(place):
    ref = place.submit(one_after_the_other(place, "0-2"))
    wait_until(lambda: place.look(ref).tasks[0].state is AttemptState.RUNNING)

    cancelled_alone(place, ref, 1)
    place.adapter.cancel_tasks(ref, [0, 2])

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED
    assert place.starts(ref.marker) == 1


@needs(Capability.CANCEL_TASKS)
def test_cancelling_tasks_that_have_ended_changes_nothing(place):
    ref = place.submit(place.array("0-2"))
    before = place.until(ref, AttemptState.ENDED)

    gone = place.adapter.cancel_tasks(ref, [0, 1])

    assert not gone
    assert place.look(ref) == before
    assert before.outcome is JobState.COMPLETED


@needs(Capability.CANCEL_TASKS)
def test_tasks_that_the_array_does_not_have_and_arrays_that_are_not_there_do_no_harm(place):
    ref = place.submit(place.array("0-1", runs=True))
    wait_until(lambda: {one.state for one in place.look(ref).tasks.values()} == {AttemptState.RUNNING})

    place.adapter.cancel_tasks(ref, [7])
    place.adapter.cancel_tasks(new_ref(place.array("0-1")), [0])

    assert {one.state for one in place.look(ref).tasks.values()} == {AttemptState.RUNNING}


@needs(Capability.CANCEL_TASKS)
def test_tasks_are_not_cancelled_behind_a_handle_that_belongs_to_somebody_else(place):
    stranger = place.submit(place.array("0-1", runs=True))
    wait_until(lambda: {one.state for one in place.look(stranger).tasks.values()} == {AttemptState.RUNNING})
    before = place.look(stranger)

    place.adapter.cancel_tasks(new_ref(place.array("0-1"), handle=stranger.handle), [0])

    assert place.look(stranger) == before


@needs(Capability.CANCEL_TASKS)
def test_single_tasks_of_what_is_no_array_are_none(place):
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    assert not place.adapter.cancel_tasks(ref, [0])

    assert place.look(ref).state is AttemptState.RUNNING


@needs(Capability.CANCEL_TASKS, Fault.LOST_WRITE)
def test_a_cancel_of_tasks_whose_answer_was_lost_can_be_repeated(place):
    ref = place.submit(place.array("0-1", runs=True))
    place.until(ref, AttemptState.RUNNING)
    place.lose_next_answer()

    with pytest.raises(OutcomeUnknown):
        place.adapter.cancel_tasks(ref, [0])

    assert cancelled_alone(place, ref, 0).state is AttemptState.RUNNING


# ---- services --------------------------------------------------------------------------------------


def ready(place, ref, count):
    """Its observation, once so many replicas are ready."""
    wait_until(lambda: place.look(ref).service.ready == count, why=f"{count} replicas are ready")
    return place.look(ref)


@needs(Capability.SERVICES)
def test_a_service_runs_when_a_replica_is_ready_and_says_where(place):
    ref = place.submit(place.service(replicas=1))

    seen = place.until(ref, AttemptState.RUNNING)

    assert seen.service.wanted == 1
    assert seen.service.ready == 1
    assert seen.service.endpoint.startswith("http")
    place.adapter.cancel(ref)


@needs(Capability.SERVICES, Capability.UPDATE)
@pytest.mark.parametrize("before, after", [(1, 2), (2, 1)], ids=["up", "down"])
def test_a_service_is_scaled(place, before, after):
    spec = place.service(replicas=before)
    ref = place.submit(spec)
    ready(place, ref, before)

    for _ in range(2):  # repeated, it does nothing
        place.adapter.update(replace(ref, replicas=after), spec)

    seen = ready(place, ref, after)
    assert seen.service.wanted == after
    assert seen.restarts == 0
    place.adapter.cancel(ref)


@needs(Capability.SERVICES, Capability.UPDATE)
def test_a_new_revision_of_a_service_reaches_all_replicas(place):
    spec = place.service(replicas=1)
    ref = place.submit(spec)
    ready(place, ref, 1)
    newer = replace(spec, environment={**spec.environment, "REVISION": "2"})

    place.adapter.update(replace(ref, revision=2), newer)

    wait_until(lambda: place.look(ref).service.revision == 2)
    wait_until(lambda: place.look(ref).service.updated == 1)
    assert ready(place, ref, 1).state is AttemptState.RUNNING
    place.adapter.cancel(ref)


@needs(Capability.SERVICES, Capability.UPDATE)
def test_an_update_that_comes_after_a_newer_one_changes_nothing(place):
    """Two workers may carry two updates; the slower one must not undo the newer."""
    spec = place.service(replicas=1)
    ref = place.submit(spec)
    place.adapter.update(replace(ref, revision=3), spec)

    place.adapter.update(replace(ref, revision=2, replicas=2), spec)

    assert place.look(ref).service.revision == 3
    assert place.look(ref).service.wanted == 1
    place.adapter.cancel(ref)


@needs(Capability.SERVICES)
def test_a_service_that_is_cancelled_has_no_replica(place):
    ref = place.submit(place.service(replicas=1))
    ready(place, ref, 1)

    place.adapter.cancel(ref)

    seen = place.until(ref, AttemptState.ENDED)
    assert seen.outcome is JobState.CANCELLED
    assert seen.service is None or seen.service.ready == 0


# ---- logs ------------------------------------------------------------------------------------------

TEXT = "naïve café, 数字, 🙂\n" * 30


def pages(place, ref, **query):
    """All pages from the first to the complete one."""
    read = [place.adapter.logs(ref, LogQuery(**query))]
    while not read[-1].complete:
        assert len(read) < 10_000, "the log never ends"
        read.append(place.adapter.logs(ref, LogQuery(cursor=read[-1].cursor, **query)))
    return read


@needs(Capability.LOGS)
@pytest.mark.parametrize("limit", [7, 64, 65536], ids=["tiny", "small", "large"])
def test_the_pages_of_a_log_joined_are_the_log(place, limit):
    """A page may end within a character: bytes are joined, not text."""
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    read = pages(place, ref, limit_bytes=limit)

    assert b"".join(page.data for page in read).decode() == TEXT
    assert all(len(page.data) <= limit for page in read)


@needs(Capability.LOGS)
def test_the_tail_of_a_log_is_its_end(place):
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    page = place.adapter.logs(ref, LogQuery(tail_bytes=5))

    assert page.data == TEXT.encode()[-5:]
    assert page.at_end


@needs(Capability.LOGS)
def test_a_cursor_at_the_end_stays_at_the_end(place):
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)
    last = pages(place, ref)[-1]

    page = place.adapter.logs(ref, LogQuery(cursor=last.cursor))

    assert (page.data, page.at_end, page.complete) == (b"", True, True)


@needs(Capability.LOGS)
def test_the_log_of_a_running_job_is_not_complete(place):
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    assert not place.adapter.logs(ref, LogQuery()).complete
    place.adapter.cancel(ref)


@needs(Capability.LOGS)
def test_standard_error_is_a_stream_of_its_own(place):
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    read = pages(place, ref, stream="stderr")

    assert TEXT.encode() not in b"".join(page.data for page in read)


@needs(Capability.LOGS)
def test_a_log_that_cannot_be_reached_is_an_error_and_not_an_empty_page(place):
    with pytest.raises(BackendError):
        place.adapter.logs(new_ref(place.job()), LogQuery())


@needs(Capability.LOGS)
def test_the_log_of_a_node_that_there_is_not_is_the_users_fault(place):
    """One node's log is never shown for another's."""
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    assert place.adapter.logs(ref, LogQuery(node=0)).data == TEXT.encode()
    with pytest.raises(BadLogQuery):
        place.adapter.logs(ref, LogQuery(node=1))


@needs(Capability.LOGS)
@pytest.mark.parametrize("cursor", ["no such cursor", "", "-1", "٣", "1" * 400])
def test_a_cursor_that_no_page_gave_is_the_users_fault(place, cursor):
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    with pytest.raises(BadLogQuery):
        place.adapter.logs(ref, LogQuery(cursor=cursor))
