"""What a backend says of itself, what it keeps of ours, and what leaves the adapter when it is broken."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

import pytest

from adapters.base import Capability, LogQuery
from adapters.errors import BackendError, Busy, OutcomeUnknown
from api_spec.states import AttemptState
from tests.contract.places import broken_spec, new_ref
from tests.helpers import wait_until

# ---- inventory, load, check ------------------------------------------------------------------------


def test_the_inventory_has_shapes_and_an_age(place):
    inventory = place.adapter.inventory()

    assert inventory.as_of == pytest.approx(time.time(), abs=30)
    assert inventory.shapes
    assert all(shape.count > 0 and shape.cpus > 0 and shape.memory_mib > 0 for shape in inventory.shapes)


def test_the_load_speaks_of_the_shapes_of_the_inventory_and_has_an_age(place):
    shapes = {shape.name: shape for shape in place.adapter.inventory().shapes}

    load = place.adapter.load()

    assert load.as_of == pytest.approx(time.time(), abs=30)
    assert {shape.name for shape in load.shapes} == set(shapes)
    for free in load.shapes:
        assert 0 <= free.free_nodes <= shapes[free.name].count
        assert 0 <= free.free_cpus <= shapes[free.name].cpus * shapes[free.name].count


def test_the_load_counts_what_runs(place):
    wait_until(lambda: not place.adapter.load().running_count, 30, "what ran for other tests is gone")
    ref = place.submit(place.job(runs=True))
    place.until(ref, AttemptState.RUNNING)

    assert place.adapter.load().running_count == 1
    place.adapter.cancel(ref)


def test_the_load_counts_what_waits(place):
    ref, _ = place.submit_waiting()

    assert place.adapter.load().queued_count > 0
    place.adapter.cancel(ref)


def test_a_sound_backend_passes_its_own_check(place):
    findings = place.adapter.check()

    assert findings
    assert all(finding.subject and finding.message for finding in findings)
    assert all(finding.well for finding in findings)


def test_an_adapter_has_the_methods_of_its_capabilities(place):
    methods = {
        Capability.LOGS: ["logs"],
        Capability.EXPLAIN: ["explain_pending"],
        Capability.UPDATE: ["update"],
        Capability.ADJUST: ["adjust"],
        Capability.HOLD: ["hold", "release"],
        Capability.USAGE: ["usage"],
    }
    for capability, names in methods.items():
        for name in names:
            assert hasattr(place.adapter, name) is (capability in place.adapter.capabilities)
    # Of one type of backend some can and some cannot, by how they are reached.
    assert hasattr(place.adapter, "cancel_tasks") or Capability.CANCEL_TASKS not in place.adapter.capabilities


# ---- what the broker's state can be rebuilt from -----------------------------------------------------


def test_what_is_ours_can_be_listed_with_all_that_it_carries(place):
    ref = place.submit(place.job(runs=True))

    (ours,) = [one for one in place.adapter.list_ours(0) if one.ref.marker == ref.marker]

    for field in ("marker", "handle", "job_id", "number", "project", "owner", "kind", "name", "digest"):
        assert getattr(ours.ref, field) == getattr(ref, field), field
    assert ours.observation.marker == ref.marker


def test_ended_ones_are_listed_as_well(place):
    started = time.time()
    ref = place.submit(place.job())
    place.until(ref, AttemptState.ENDED)

    listed = {one.ref.marker: one for one in place.adapter.list_ours(started - 60)}

    assert listed[ref.marker].observation.state is AttemptState.ENDED


def test_what_another_instance_submitted_is_not_ours(place):
    spec = place.job()
    ours = new_ref(spec)
    theirs = replace(ours, marker=ours.marker.replace("wb-test-", "wb-other-"))
    place.adapter.submit(theirs, spec)

    assert theirs.marker not in {one.ref.marker for one in place.adapter.list_ours(0)}


# ---- broken backends -----------------------------------------------------------------------------------


REF_WRITES = {
    "cancel": lambda adapter, ref, spec: adapter.cancel(ref),
    "cleanup": lambda adapter, ref, spec: adapter.cleanup(ref),
    "hold": lambda adapter, ref, spec: adapter.hold(ref),
    "release": lambda adapter, ref, spec: adapter.release(ref),
    "update": lambda adapter, ref, spec: adapter.update(ref, spec),
    "adjust": lambda adapter, ref, spec: adapter.adjust(ref, spec),
    "cancel_tasks": lambda adapter, ref, spec: adapter.cancel_tasks(ref, [0]),
}
OPTIONAL_WRITES = (Capability.UPDATE, Capability.ADJUST, Capability.CANCEL_TASKS)
READS = {
    "find": lambda adapter, ref, spec: adapter.find(ref.marker, 0),
    "observe": lambda adapter, ref, spec: adapter.observe([ref]),
    "list_ours": lambda adapter, ref, spec: adapter.list_ours(0),
    "load": lambda adapter, ref, spec: adapter.load(),
}


@pytest.mark.parametrize("call", READS.values(), ids=READS)
def test_reading_from_a_broken_backend_is_busy(broken_adapter, call):
    """Nothing was learnt, nothing was done; never an empty answer that looks like an absence."""
    spec = broken_spec(broken_adapter)

    with pytest.raises(Busy):
        call(broken_adapter, new_ref(spec, handle={"id": 1}), spec)


@pytest.mark.parametrize("call", REF_WRITES.values(), ids=REF_WRITES)
def test_a_write_to_a_broken_backend_raises_an_error_of_ours(broken_adapter, call):
    """What it does not have at all is no question of being broken."""
    spec = broken_spec(broken_adapter)
    optional = {REF_WRITES[one.value]: one for one in OPTIONAL_WRITES}
    if optional.get(call, Capability.HOLD) not in broken_adapter.capabilities:
        return

    with pytest.raises((Busy, OutcomeUnknown)):
        call(broken_adapter, new_ref(spec, handle={"id": 1}), spec)


def test_a_submit_to_a_broken_backend_is_never_final(broken_adapter):
    """Rejected would end the job, and a handle would invent one."""
    spec = broken_spec(broken_adapter)

    with pytest.raises((Busy, OutcomeUnknown)):
        broken_adapter.submit(new_ref(spec), spec)


def test_a_log_of_a_broken_backend_is_an_error_of_ours(broken_adapter):
    with pytest.raises(BackendError):
        broken_adapter.logs(new_ref(broken_spec(broken_adapter), handle={"id": 1}), LogQuery())


def test_an_inventory_of_a_broken_backend_is_true_or_there_is_none(broken_adapter):
    """Some know what they have without asking; an empty one would refuse every job for good."""
    with contextlib.suppress(Busy):
        assert broken_adapter.inventory().shapes


def test_the_check_of_a_broken_backend_finds_it_and_does_not_raise(broken_adapter):
    findings = broken_adapter.check()

    assert [finding for finding in findings if not finding.well]
