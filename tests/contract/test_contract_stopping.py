"""Cancel, hold, release and cleanup: repeated they do nothing, and they never meet a stranger."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Capability, Found
from adapters.errors import Busy, OutcomeUnknown
from api_spec.jobs import Priority
from api_spec.reasons import PENDING, Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import Fault, needs, new_ref

LONG_AGO = 3600.0


def test_a_cancelled_job_ends_as_cancelled(place):
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    place.adapter.cancel(ref)

    seen = place.until(ref, AttemptState.ENDED)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.CANCELLED)


def test_what_goes_its_own_way_out_when_it_is_cancelled_was_cancelled(place):
    """A trainer that writes its last checkpoint at SIGTERM, and then ends with a code of its own."""
    ref = place.submit(place.job(runs=True, exit_code=3))
    place.until(ref, AttemptState.RUNNING)

    place.adapter.cancel(ref)

    seen = place.until(ref, AttemptState.ENDED)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.CANCELLED)


def test_a_waiting_job_that_is_cancelled_never_starts(place):
    ref, let_it_start = place.submit_waiting()

    place.adapter.cancel(ref)
    let_it_start()

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED
    assert place.starts(ref.marker) == 0


def test_cancelling_twice_is_cancelling_once(place):
    ref = place.submit(place.job(runs=True))

    place.adapter.cancel(ref)
    place.adapter.cancel(ref)

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED
    place.adapter.cancel(ref)


def test_cancelling_what_has_ended_changes_nothing(place):
    ref = place.submit(place.job())
    before = place.until(ref, AttemptState.ENDED)

    place.adapter.cancel(ref)

    assert place.look(ref) == before
    assert before.outcome is JobState.COMPLETED


def test_cancelling_what_is_not_there_does_nothing(place):
    place.adapter.cancel(new_ref(place.job()))


def test_an_unconfirmed_attempt_is_cancelled_by_its_marker_alone(place):
    ref = place.submit(place.job(runs=True))

    place.adapter.cancel(replace(ref, handle=None))

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED


def test_every_copy_is_cancelled(place):
    """Where names are not unique a lost answer may have left two."""
    spec = place.job(runs=True)
    ref = place.submit(spec)
    copy = replace(ref, handle=place.adapter.submit(ref, spec))

    place.adapter.cancel(ref)

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED
    assert place.until(copy, AttemptState.ENDED).outcome is JobState.CANCELLED


@needs(Fault.LOST_WRITE)
def test_a_cancel_whose_answer_was_lost_can_be_repeated(place):
    ref = place.submit(place.job(runs=True))
    place.lose_next_answer()

    with pytest.raises(OutcomeUnknown):
        place.adapter.cancel(ref)
    place.adapter.cancel(ref)

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED


@needs(Fault.PARTIAL)
def test_a_partial_listing_does_not_pass_for_a_cancelled_job(place):
    ref = place.submit(place.job(runs=True))
    place.list_partially()

    with pytest.raises(Busy):
        place.adapter.cancel(ref)


# ---- ids are reused --------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["cancel", "hold", "release", "cleanup"])
def test_a_handle_that_belongs_to_somebody_else_hurts_nobody(place, write):
    stranger = place.submit(place.job(runs=True))
    before = place.until(stranger, AttemptState.RUNNING)
    mistaken = new_ref(place.job(), handle=stranger.handle)

    getattr(place.adapter, write)(mistaken)

    assert place.look(stranger) == before


@needs(Fault.REUSED_ID)
def test_a_reused_id_is_noticed(place):
    ours = place.submit(place.job(runs=True))
    place.reuse_ids(ours)
    stranger = place.submit(place.job(runs=True))
    assert stranger.handle["id"] == ours.handle["id"]

    place.adapter.cancel(ours)

    assert not place.adapter.observe([ours]).found
    assert place.adapter.find(ours.marker, time.time() - LONG_AGO) == Absent()
    assert place.look(stranger).state is AttemptState.RUNNING


# ---- cleanup ---------------------------------------------------------------------------------------


def test_cleaning_up_twice_is_cleaning_up_once(place):
    ref = place.submit(place.job())
    place.until(ref, AttemptState.ENDED)

    place.adapter.cleanup(ref)
    place.adapter.cleanup(ref)


def test_cleaning_up_what_is_not_there_does_nothing(place):
    place.adapter.cleanup(new_ref(place.job()))


def test_cleaning_up_kills_nothing_that_runs(place):
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    place.adapter.cleanup(ref)

    assert place.look(ref).state is AttemptState.RUNNING


# ---- hold and release ------------------------------------------------------------------------------


@needs(Capability.HOLD)
def test_a_held_job_does_not_start_until_it_is_released(place):
    ref, let_it_start = place.submit_waiting()
    place.adapter.hold(ref)
    let_it_start()
    held = place.look(ref)

    place.adapter.release(ref)

    assert (held.state, held.reason) == (AttemptState.QUEUED, Reason.HELD)
    place.until(ref, AttemptState.RUNNING)
    assert place.starts(ref.marker) == 1


@needs(Capability.HOLD)
def test_holding_and_releasing_twice_does_nothing(place):
    ref, let_it_start = place.submit_waiting()

    for _ in range(2):
        place.adapter.hold(ref)
    for _ in range(2):
        place.adapter.release(ref)
    let_it_start()

    place.until(ref, AttemptState.RUNNING)


@needs(Capability.HOLD)
def test_a_held_job_can_be_cancelled(place):
    ref, _ = place.submit_waiting()
    place.adapter.hold(ref)

    place.adapter.cancel(ref)

    assert place.until(ref, AttemptState.ENDED).outcome is JobState.CANCELLED
    assert isinstance(place.adapter.find(ref.marker, ref.submitted_at), Found)


# ---- time limit and priority ------------------------------------------------------------------------


@needs(Capability.ADJUST)
@pytest.mark.parametrize("runs", [False, True], ids=["waiting", "running"])
def test_what_is_adjusted_goes_on(place, runs):
    """Shorter and later, which every user may ask for his own job; longer is for the backend to allow."""
    spec = replace(place.job(runs=True), time_limit_s=7200)
    ref = place.submit(spec) if runs else place.submit_waiting()[0]
    before = place.until(ref, AttemptState.RUNNING if runs else AttemptState.QUEUED)

    for _ in range(2):  # repeated, it does nothing
        place.adapter.adjust(ref, replace(spec, time_limit_s=3600, priority=Priority.LOW))

    assert place.look(ref).state is before.state
    place.adapter.cancel(ref)


# ---- why it waits ----------------------------------------------------------------------------------


@needs(Capability.EXPLAIN)
def test_a_waiting_job_is_explained_with_codes_of_the_table(place):
    ref, _ = place.submit_waiting()

    reasons = place.adapter.explain_pending(ref)

    assert reasons
    assert all(reason.code in PENDING and reason.message for reason in reasons)


@needs(Capability.EXPLAIN, Capability.HOLD)
def test_a_held_job_is_explained_by_the_hold(place):
    ref, _ = place.submit_waiting()
    place.adapter.hold(ref)

    assert place.adapter.explain_pending(ref)[0].code is Reason.HELD


@needs(Capability.EXPLAIN)
def test_a_running_job_waits_for_nothing(place):
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    assert not place.adapter.explain_pending(ref)
