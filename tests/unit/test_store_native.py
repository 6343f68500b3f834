"""Dependants whose backend waits for their predecessors: when it is offered them, and how they come back."""

from __future__ import annotations

import pytest

from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.store.changes import Change, Guard
from broker.store.jobs import LATE_S, Written
from tests.store_kit import ACT, BACKEND, SUBMIT, World, guard_of, opened

S = JobState
NATIVE = (BACKEND,)


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def dependant(world, *predecessors, when="succeeded", **changes):
    deps = tuple((job_id, when) for job_id in predecessors)
    return world.accept(deps=deps, natively=True, **changes)


def look(world, native=NATIVE):
    queues = set()
    while (answer := world.jobs.release(100, native))[0]:
        queues.update(answer[1])
    return queues


def there(world, *predecessors, state="queued"):
    """A dependant that its backend has, or is about to get."""
    job_id = dependant(world, *predecessors)
    look(world)
    (claim,) = [claim for claim in world.claim() if claim.record.id == job_id]
    assert world.begin(claim) is Written.OK
    if state == "queued":
        assert world.hand_over(claim) is Written.OK
    return job_id, claim


def came_back(world, job_id):
    """As a worker writes it when the backend has ended the attempt unrun."""
    change = Change(
        set={"state": S.ACCEPTED, "backend": None, "reason": "DependencyNotMet", "message": "came back"},
        not_live=BACKEND,
        no_due=True,
        judged=True,
        events=(("withdrawn", {}),),
    )
    return world.jobs.move(job_id, Guard(version=world.read(job_id).version), change)


# ---- offered to the backend --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [World.queued, World.running], ids=["queued", "running"])
def test_one_whose_predecessor_is_at_a_backend_is_offered_to_it(world, make):
    second = dependant(world, make(world))

    assert look(world) == {SUBMIT}
    assert second in world.due_in(SUBMIT)
    assert world.read(second).waits


def test_a_predecessor_that_arrives_there_later_wakes_it(world):
    first = world.accept()
    second = dependant(world, first)
    assert look(world) == set()
    (claim,) = world.claim()
    world.begin(claim)
    change = Change(set={"state": S.QUEUED}, no_due=True, wake=True)
    world.jobs.move(first, guard_of(claim, S.SUBMITTING), change)

    look(world)

    assert second in world.due_in(SUBMIT)


NOT_OFFERED = {
    "no backend that can": lambda world: (dependant(world, world.running()), ()),
    "for what only the broker tells": lambda world: (
        dependant(world, world.running(), when="failed"),
        NATIVE,
    ),
    "held": lambda world: (dependant(world, world.running(), held=True), NATIVE),
    "not by itself": lambda world: (world.accept(deps=((world.running(), "succeeded"),)), NATIVE),
    "one is at no backend": lambda world: (dependant(world, world.running(), world.accept()), NATIVE),
    "its end depends on others yet": lambda world: (
        dependant(world, there(world, world.running())[0], when="ended"),
        NATIVE,
    ),
}


@pytest.mark.parametrize("case", NOT_OFFERED)
def test_any_other_one_is_held_by_the_store(world, case):
    second, native = NOT_OFFERED[case](world)

    look(world, native)

    assert world.read(second).waits
    assert second not in world.due_in(SUBMIT)


def test_a_predecessor_that_is_to_be_cancelled_is_not_waited_for_there(world):
    first = world.running()
    world.jobs.cancel(first, "user:ana")
    second = dependant(world, first)

    look(world)

    assert second not in world.due_in(SUBMIT)


# ---- the write before it is sent ---------------------------------------------------------------------


def cancelled(world, first):
    world.jobs.cancel(first, "user:ana")


def retried(world, first):
    change = Change(set={"attempt": 2})
    world.jobs.move(first, Guard(version=world.read(first).version), change)


@pytest.mark.parametrize("happens", [cancelled, retried, World.end])
def test_a_predecessor_that_has_gone_on_stops_the_submission(world, happens):
    first = world.running()
    second = dependant(world, first)
    look(world)
    (claim,) = world.claim()
    happens(world, first)

    guard = Guard(epoch=claim.record.epoch, after=((first, "succeeded", 1),))

    assert world.jobs.move(second, guard, Change(set={"reason": None})) is Written.CHANGED


def test_another_one_that_has_failed_stops_it_too(world):
    bad, good = world.running(), world.running()
    second = dependant(world, bad, good)
    look(world)
    (claim,) = world.claim()
    world.end(bad, S.FAILED)

    guard = Guard(epoch=claim.record.epoch, after=((good, "succeeded", 1),))

    assert world.jobs.move(second, guard, Change(set={"reason": None})) is Written.CHANGED


# ---- while it is there -------------------------------------------------------------------------------


def test_one_that_must_not_start_is_asked_back_at_once(world):
    first = world.running()
    second, _ = there(world, first)
    world.end(first, S.FAILED)

    assert look(world) == {ACT}

    assert second in world.due_in(ACT)
    assert (world.state(second), world.read(second).waits) == (S.QUEUED, True)


def test_one_that_may_start_is_looked_at_when_it_should_have(world):
    first = world.running()
    second, _ = there(world, first)
    world.end(first)
    before = world.store.now()

    look(world)

    assert not world.read(second).waits
    assert world.due_in(ACT)[second] >= (before + LATE_S - 1) * 1000


def test_one_that_is_being_sent_keeps_its_claim(world):
    """Its worker writes next, and it is judged once more when the backend has it."""
    first = world.running()
    second, claim = there(world, first, state="submitting")
    world.end(first)
    look(world)

    change = Change(set={"state": S.QUEUED}, no_due=True, look_again=True)
    written = world.jobs.move(second, guard_of(claim, S.SUBMITTING), change)

    assert written is Written.OK
    assert not world.read(second).waits


# ---- taken back --------------------------------------------------------------------------------------


def test_while_a_predecessor_can_still_do_it_the_store_holds_it(world):
    second, _ = there(world, world.running())

    assert came_back(world, second) is Written.OK

    record = world.read(second)
    assert (record.state, record.waits, record.reason) == (S.ACCEPTED, True, Reason.DEPENDENCY_NOT_MET)
    assert record.queue is None


def test_it_is_let_go_when_they_all_have_done_it(world):
    first = world.running()
    second, _ = there(world, first)
    world.end(first)

    came_back(world, second)

    record = world.read(second)
    assert (record.state, record.waits, record.reason) == (S.ACCEPTED, False, None)
    assert record.message is None
    assert record.queue == SUBMIT  # where it was to go when it was accepted


def test_it_fails_when_one_no_longer_can(world):
    first = world.running()
    second, _ = there(world, first)
    third = world.accept(deps=((second, "succeeded"),))
    world.end(first, S.FAILED)

    came_back(world, second)
    look(world)

    ends = [world.read(job_id) for job_id in (second, third)]
    assert [(one.state, one.reason) for one in ends] == [(S.FAILED, Reason.DEPENDENCY_FAILED)] * 2
    assert ends[0].message == f"waited for job {first} to have succeeded, which can no longer happen"
    assert world.members(f"dependants:{first}") == set()


def test_a_cancel_that_came_meanwhile_wins(world):
    second, _ = there(world, world.running())
    version = world.read(second).version
    world.jobs.cancel(second, "user:ana")
    assert world.read(second).version != version

    came_back(world, second)

    record = world.read(second)
    assert (record.state, record.reason, record.message) == (S.CANCELLED, Reason.CANCELLED, None)


def test_one_that_was_held_there_is_held_here(world):
    first = world.running()
    second, _ = there(world, first)
    world.jobs.move(second, Guard(), Change(set={"held": True}))
    world.end(first)

    came_back(world, second)

    record = world.read(second)
    assert (record.held, record.waits, record.reason, record.queue) == (True, False, Reason.HELD, None)
