"""A backend that waits for other attempts itself: as the broker would, for those alone, and never in vain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Capability, Predecessor
from adapters.errors import CannotWait
from api_spec.jobs import When
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import Fault, needs, new_ref
from tests.helpers import wait_until

NATIVE = Capability.NATIVE_DEPENDENCY


def after(*refs, when=When.SUCCEEDED):
    return {"after": tuple(Predecessor(ref=ref, when=when) for ref in refs)}


def waits(place, ref):
    """Its observation, once the backend says what it waits for."""

    def told():
        seen = place.look(ref)
        return seen if seen.reason is Reason.DEPENDENCY_NOT_MET else None

    return wait_until(told, why=f"{ref.marker} waits for another one")


@needs(NATIVE)
def test_it_waits_until_the_other_one_has_succeeded(place):
    first = place.submit(place.job(runs=True))
    place.until(first, AttemptState.RUNNING)
    second = place.submit(place.job(), **after(first))

    seen = waits(place, second)

    assert seen.state is AttemptState.QUEUED
    assert place.starts(second.marker) == 0


@needs(NATIVE)
def test_it_starts_when_all_have_succeeded(place):
    firsts = [place.submit(place.short_job()) for _ in range(2)]
    second = place.submit(place.job(), **after(*firsts))

    assert place.until(second, AttemptState.ENDED).outcome is JobState.COMPLETED
    assert place.starts(second.marker) == 1


@needs(NATIVE)
def test_it_ends_unrun_when_one_of_them_has_failed(place):
    firsts = [place.submit(place.short_job(exit_code=code)) for code in (0, 3)]
    second = place.submit(place.job(), **after(*firsts))

    seen = place.until(second, AttemptState.ENDED)

    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.DEPENDENCY_FAILED)
    assert place.starts(second.marker) == 0


@needs(NATIVE)
def test_it_ends_unrun_when_the_other_one_is_cancelled(place):
    first = place.submit(place.job(runs=True))
    second = place.submit(place.job(), **after(first))
    waits(place, second)

    place.adapter.cancel(first)

    seen = place.until(second, AttemptState.ENDED)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.DEPENDENCY_FAILED)
    assert place.starts(second.marker) == 0


@needs(NATIVE)
def test_it_starts_when_the_other_one_has_ended_in_any_way(place):
    first = place.submit(place.job(runs=True))
    second = place.submit(place.job(), **after(first, when=When.ENDED))
    waits(place, second)

    place.adapter.cancel(first)

    assert place.until(second, AttemptState.ENDED).outcome is JobState.COMPLETED


@needs(NATIVE)
def test_a_chain_ends_unrun_as_a_whole(place):
    first = place.submit(place.job(runs=True))
    second = place.submit(place.job(), **after(first))
    third = place.submit(place.job(), **after(second))
    waits(place, third)

    place.adapter.cancel(first)

    ends = [place.until(ref, AttemptState.ENDED).reason for ref in (second, third)]
    assert ends == [Reason.DEPENDENCY_FAILED] * 2


@needs(NATIVE)
def test_one_that_is_cancelled_while_it_waits_was_cancelled(place):
    """It is nobody's failure, and it could have started yet."""
    first = place.submit(place.job(runs=True))
    second = place.submit(place.job(), **after(first))
    waits(place, second)

    place.adapter.cancel(second)

    seen = place.until(second, AttemptState.ENDED)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.CANCELLED)


@needs(NATIVE)
def test_what_is_over_is_not_waited_for(place):
    """How it ended is on its way to the broker, who judges it."""
    first = place.submit(place.job())
    place.until(first, AttemptState.ENDED)
    ref = new_ref(place.job())

    with pytest.raises(CannotWait):
        place.adapter.submit(replace(ref, **after(first)), place.job())

    assert place.copies(ref.marker) == 0


@needs(NATIVE)
def test_what_has_another_name_under_its_id_is_not_waited_for(place):
    """Ids are reused: this is what that looks like afterwards."""
    somebody_elses = place.submit(place.job(runs=True))
    first = new_ref(place.job(), handle=somebody_elses.handle)
    ref = new_ref(place.job())

    with pytest.raises(CannotWait):
        place.adapter.submit(replace(ref, **after(first)), place.job())

    assert place.copies(ref.marker) == 0


@needs(NATIVE)
def test_what_was_never_handed_over_is_not_waited_for(place):
    first, ref = new_ref(place.job()), new_ref(place.job())

    with pytest.raises(CannotWait):
        place.adapter.submit(replace(ref, **after(first)), place.job())

    assert place.copies(ref.marker) == 0


@needs(NATIVE, Fault.REUSED_ID)
def test_an_id_that_is_somebody_elses_now_lets_nothing_start(place):
    first = place.submit(place.job(runs=True))
    place.reuse_ids(first)
    place.submit(place.job())
    ref = new_ref(place.job())

    with pytest.raises(CannotWait):
        place.adapter.submit(replace(ref, **after(first)), place.job())

    assert place.copies(ref.marker) == 0
