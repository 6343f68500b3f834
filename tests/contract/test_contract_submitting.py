"""Before and at the hand-over: what is refused, what is sent, and what a refusal says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Found, Inventory, NodeShape
from adapters.errors import Busy, OutcomeUnknown, Rejected
from api_spec.jobs import Resources
from api_spec.reasons import REFUSALS, Reason
from tests.contract.places import Fault, broken_spec, needs, new_ref
from tests.helpers import wait_until

HUGE = Resources(nodes=1, cpus_per_task=100_000, memory_per_node_mib=1 << 40, gpus_per_node=1000)


def test_a_handle_is_plain_json(place):
    """It is stored by somebody who must not know what it means."""
    handle = place.submit(place.job()).handle

    assert handle
    assert all(isinstance(key, str) for key in handle)
    assert all(isinstance(value, str | int | float | None) for value in handle.values())


def test_the_render_contains_the_marker(place):
    spec = place.job()
    ref = new_ref(spec)

    assert ref.marker in place.adapter.render(spec, ref)


def test_the_render_is_the_same_every_time(place):
    spec = replace(place.job(), environment={"B": "2", "A": "1"}, labels={"z": "1", "a": "2"})
    ref = new_ref(spec)

    assert place.adapter.render(spec, ref) == place.adapter.render(spec, ref)


def test_the_render_and_the_refusals_need_no_backend(broken_adapter):
    spec = broken_spec(broken_adapter)

    assert broken_adapter.render(spec, new_ref(spec))
    assert not broken_adapter.refusals(spec, None)


def test_a_modest_job_is_not_refused(place):
    assert not place.adapter.refusals(place.job(), None)
    assert not place.adapter.refusals(place.job(), place.adapter.inventory())


def test_without_an_inventory_size_is_no_reason_to_refuse(place):
    """Nobody knows yet what the backend has."""
    codes = {refusal.code for refusal in place.adapter.refusals(replace(place.job(), resources=HUGE), None)}

    assert Reason.NEVER_FITS not in codes


def test_what_no_node_can_hold_never_fits(place):
    refusals = place.adapter.refusals(replace(place.job(), resources=HUGE), place.adapter.inventory())

    assert Reason.NEVER_FITS in {refusal.code for refusal in refusals}


def test_a_refusal_has_a_code_of_the_table_and_a_sentence(place):
    inventory = Inventory(as_of=0, shapes=(NodeShape(name="tiny", count=1, cpus=1, memory_mib=16),))
    spec = replace(place.job(), resources=HUGE, image="registry.example/a:1")

    refusals = place.adapter.refusals(spec, inventory)

    assert refusals
    for refusal in refusals:
        assert refusal.code in REFUSALS
        assert len(refusal.message) > 10
        assert refusal.field is None or refusal.field.startswith("/")


@needs(Fault.REFUSES)
def test_what_the_backend_refuses_for_good_is_rejected_with_its_reason(place):
    spec = place.job()
    ref = new_ref(spec)
    place.refuse_next()

    with pytest.raises(Rejected) as caught:
        place.adapter.submit(ref, spec)

    assert caught.value.reason is Reason.IMAGE_ERROR
    assert place.copies(ref.marker) == 0


@needs(Fault.BUSY)
def test_a_busy_backend_has_not_acted_and_says_when_to_come_again(place):
    spec = place.job()
    ref = new_ref(spec)
    place.be_busy()

    with pytest.raises(Busy) as caught:
        place.adapter.submit(ref, spec)

    assert caught.value.retry_after_s == 7
    assert place.copies(ref.marker) == 0


@needs(Fault.HANGS)
def test_a_submit_without_an_answer_is_not_known_to_have_failed(place):
    spec = place.job()
    ref = new_ref(spec)
    impatient = place.hang()

    with pytest.raises(OutcomeUnknown):
        impatient.submit(ref, spec)

    place.calm()
    wait_until(lambda: isinstance(place.adapter.find(ref.marker, ref.submitted_at), Found))
