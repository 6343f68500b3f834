"""What a backend says of an attempt, in our words."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import AttemptRef, Capability
from adapters.errors import OutcomeUnknown
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import Fault, needs, new_ref

MANY = 500


def test_five_hundred_attempts_are_observed_in_one_pass(place):
    """One each would be 500 calls a pass; a scheduler with a rate limit would lock the broker out."""
    refs = [place.submit(place.job()) for _ in range(5)]
    refs += [new_ref(place.job()) for _ in range(MANY - len(refs))]
    before = place.round_trips()

    seen = place.adapter.observe(refs)

    assert 1 <= place.round_trips() - before <= place.trips_per_pass
    assert seen.complete
    assert set(seen.found) == {ref.marker for ref in refs[:5]}


def test_an_observation_of_nothing_is_complete_and_empty(place):
    seen = place.adapter.observe([])

    assert seen.complete
    assert not seen.found


def test_an_observation_carries_its_time(place):
    before = time.time()

    seen = place.adapter.observe([new_ref(place.job())])

    assert before - 1 <= seen.as_of <= time.time() + 1


def test_marker_and_handle_are_all_that_a_pass_needs(place):
    """The broker knows no more of an attempt while it looks at all of them."""
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    assert place.look(AttemptRef(marker=ref.marker, handle=ref.handle)).state is AttemptState.RUNNING


@needs(Capability.SERVICES)
def test_marker_and_handle_are_enough_for_a_service_too(place):
    ref = place.submit(place.service(replicas=1))
    place.until(ref, AttemptState.RUNNING)

    assert place.look(AttemptRef(marker=ref.marker, handle=ref.handle)).service.ready == 1


def test_an_unknown_marker_is_absent_and_not_failed(place):
    seen = place.adapter.observe([new_ref(place.job())])

    assert seen.complete
    assert not seen.found


@needs(Fault.PARTIAL)
def test_a_partial_listing_says_that_it_is_not_complete(place):
    refs = [place.submit(place.job()) for _ in range(4)]
    place.list_partially()

    seen = place.adapter.observe(refs)

    assert not seen.complete
    assert len(seen.found) < 4


def test_an_attempt_is_observed_without_its_handle(place):
    """After a lost answer there is none."""
    ref = place.submit(place.job(runs=True))

    seen = place.until(replace(ref, handle=None), AttemptState.RUNNING)

    assert seen.handle == ref.handle


def test_a_running_job_says_since_when_and_where(place):
    ref = place.submit(place.job(runs=True))

    seen = place.until(ref, AttemptState.RUNNING)

    assert seen.started_at == pytest.approx(time.time(), abs=30)
    assert seen.ended_at is None
    assert seen.nodes
    assert seen.native_state
    assert (seen.outcome, seen.exit_code, seen.signal) == (None, None, None)


@pytest.mark.parametrize(
    "ending, outcome, reason, exit_code, signal",
    [
        ({"exit_code": 0}, JobState.COMPLETED, Reason.COMPLETED, 0, None),
        ({"exit_code": 1}, JobState.FAILED, Reason.NON_ZERO_EXIT, 1, None),
        ({"exit_code": 42}, JobState.FAILED, Reason.NON_ZERO_EXIT, 42, None),
        ({"signal": 9}, JobState.FAILED, Reason.SIGNALLED, None, 9),
        ({"signal": 11}, JobState.FAILED, Reason.SIGNALLED, None, 11),
    ],
    ids=["zero", "one", "another", "SIGKILL", "SIGSEGV"],
)
def test_an_end_says_how(place, ending, outcome, reason, exit_code, signal):
    ref = place.submit(place.job(**ending))

    seen = place.until(ref, AttemptState.ENDED)

    assert (seen.outcome, seen.reason) == (outcome, reason)
    assert (seen.exit_code, seen.signal) == (exit_code, signal)
    assert seen.started_at <= seen.ended_at


def test_an_ended_attempt_stays_as_it_ended_until_it_is_cleaned_up(place):
    ref = place.submit(place.job(exit_code=3))
    first = place.until(ref, AttemptState.ENDED)

    assert place.look(ref) == first


def test_one_process_is_started_for_one_attempt(place):
    ref = place.submit(place.job())
    place.until(ref, AttemptState.ENDED)

    assert place.starts(ref.marker) == 1


@needs(Fault.UNKNOWN_WORD)
def test_a_word_that_we_do_not_know_moves_nothing_and_is_kept(place):
    ref = place.submit(place.job(runs=True))
    word = place.say_an_unknown_word(ref)

    seen = place.look(ref)

    assert (seen.state, seen.outcome) == (None, None)
    assert seen.native_state == word


@needs(Fault.REQUEUE)
def test_a_requeue_by_the_backend_raises_the_restarts(place):
    """Without that number, going back to QUEUED would be an illegal move."""
    ref = place.submit(place.job(runs=True))
    before = place.until(ref, AttemptState.RUNNING)
    place.requeue(ref)

    after = place.look(ref)

    assert after.state is AttemptState.QUEUED
    assert after.restarts == before.restarts + 1
    assert after.started_at is None


def test_a_waiting_job_is_queued_and_then_runs(place):
    ref, let_it_start = place.submit_waiting()
    assert place.look(ref).state is AttemptState.QUEUED

    let_it_start()

    place.until(ref, AttemptState.RUNNING)


def test_a_hidden_second_copy_is_not_a_second_observation(place):
    """Where names are not unique the handle says which one is meant."""
    spec = place.job(runs=True)
    ref = place.submit(spec)
    place.adapter.submit(ref, spec)

    seen = place.look(ref)

    assert seen.handle == ref.handle


@needs(Fault.LOST_WRITE)
def test_a_read_is_never_an_unknown_outcome(place):
    """Only what writes may leave a question behind."""
    ref = place.submit(place.job())
    place.lose_next_answer()

    assert place.look(ref).marker == ref.marker

    with pytest.raises(OutcomeUnknown):
        place.adapter.cleanup(ref)
