"""Was it accepted?  The question that keeps an attempt from being started twice."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Found, Unsettled
from adapters.errors import Busy, OutcomeUnknown
from api_spec.states import AttemptState
from tests.contract.places import Fault, needs, new_ref
from tests.helpers import wait_until

LONG_AGO = 3600.0  # longer than the settle time of any backend


def test_an_accepted_attempt_is_found_by_its_marker(place):
    ref = place.submit(place.job(runs=True))

    found = place.adapter.find(ref.marker, ref.submitted_at)

    assert isinstance(found, Found)
    assert found.handle == ref.handle


def test_an_ended_attempt_is_found_as_well(place):
    """It may end before anybody looks; taken for absent, it would be run once more."""
    ref = place.submit(place.job())
    place.until(ref, AttemptState.ENDED)

    assert isinstance(place.adapter.find(ref.marker, ref.submitted_at), Found)


def test_a_cancelled_attempt_is_found_as_well(place):
    ref = place.submit(place.job(runs=True))
    place.adapter.cancel(ref)
    place.until(ref, AttemptState.ENDED)

    assert isinstance(place.adapter.find(ref.marker, ref.submitted_at), Found)


@needs(Fault.LOST_SUBMIT)
def test_what_was_accepted_is_found_though_the_answer_was_lost(place):
    spec = place.job()
    ref = new_ref(spec)
    place.submit_and_lose_the_answer(ref, spec)

    found = place.adapter.find(ref.marker, ref.submitted_at)

    assert isinstance(found, Found)
    place.until(replace(ref, handle=found.handle), AttemptState.ENDED)
    assert place.copies(ref.marker) == 1
    assert place.starts(ref.marker) == 1


def test_what_was_never_seen_is_unsettled_before_the_settle_time_is_over(place):
    now = time.time()

    answer = place.adapter.find(new_ref(place.job()).marker, now)

    assert isinstance(answer, Unsettled)
    assert answer.until > now


def test_what_was_never_seen_is_absent_when_the_settle_time_is_over(place):
    place.settle()

    # A database may be behind for a moment, and then it proves nothing.
    marker = new_ref(place.job()).marker
    wait_until(lambda: place.adapter.find(marker, time.time() - LONG_AGO) == Absent(), 30)


def test_unsettled_names_the_time_at_which_it_can_be_settled(place):
    marker, since = new_ref(place.job()).marker, time.time()
    first = place.adapter.find(marker, since)

    wait_until(lambda: time.time() > first.until)
    place.settle()

    assert place.adapter.find(marker, since) == Absent()


@needs(Fault.LATE)
def test_a_request_that_arrives_after_the_look_up_was_never_called_absent(place):
    spec = place.job()
    ref = new_ref(spec)
    let_it_arrive = place.accept_late(seconds=60)
    with pytest.raises(OutcomeUnknown):
        place.adapter.submit(ref, spec)

    before = place.adapter.find(ref.marker, time.time())
    let_it_arrive()
    after = place.adapter.find(ref.marker, time.time())

    assert isinstance(before, Unsettled)
    assert isinstance(after, Found)


@needs(Fault.LATE)
def test_who_waits_until_it_is_settled_finds_what_arrived_within_the_settle_time(place):
    spec = place.job()
    ref = new_ref(spec)
    place.accept_late(seconds=0.1)
    with pytest.raises(OutcomeUnknown):
        place.adapter.submit(ref, spec)

    answers = []
    wait_until(
        lambda: (
            answers.append(place.adapter.find(ref.marker, ref.submitted_at))
            or not isinstance(answers[-1], Unsettled)
        )
    )

    assert Absent() not in answers
    assert isinstance(answers[-1], Found)


@needs(Fault.PARTIAL)
def test_a_partial_listing_proves_no_absence(place):
    ref = place.submit(place.job())
    place.list_partially()

    answer = place.adapter.find(ref.marker, time.time() - LONG_AGO)

    assert isinstance(answer, Unsettled)
    assert answer.until > time.time()


@needs(Fault.HANGS)
def test_a_look_up_without_an_answer_proves_nothing(place):
    """It raises, so that nobody can take it for an absence."""
    impatient = place.hang()

    with pytest.raises(Busy):
        impatient.find(new_ref(place.job()).marker, time.time() - LONG_AGO)


def test_a_marker_that_begins_alike_is_another_one(place):
    """Attempt 1 must not be taken for attempt 11, nor the other way round."""
    ref = place.submit(place.job())

    for marker in (f"{ref.marker}1", ref.marker[:-2]):
        place.settle()
        wait_until(lambda marker=marker: place.adapter.find(marker, time.time() - LONG_AGO) == Absent(), 30)


def test_a_second_submit_makes_a_second_job_only_where_names_are_not_unique(place):
    """Which of the two a backend is, decides whether the look-up may ever be left out."""
    spec = place.job()
    ref = place.submit(spec)

    again = place.adapter.submit(ref, spec)

    assert (again == ref.handle) is place.unique_names
    assert place.copies(ref.marker) == (1 if place.unique_names else 2)
