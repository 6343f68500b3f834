"""Arrays, services and logs, where a backend has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import BackendError, BadLogQuery, Capability, LogQuery
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import needs, new_ref
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
@pytest.mark.parametrize("cursor", ["no such cursor", "", "-1", "٣", "1" * 400])
def test_a_cursor_that_no_page_gave_is_the_users_fault(place, cursor):
    ref = place.submit(place.job_that_says(TEXT))
    place.until(ref, AttemptState.ENDED)

    with pytest.raises(BadLogQuery):
        place.adapter.logs(ref, LogQuery(cursor=cursor))
