"""Claim: who works on what, for how long, and who is next."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from api_spec.states import JobState
from broker.store.changes import Change, Guard
from broker.store.jobs import ClaimLimits, Written
from tests.helpers import wait_until
from tests.store_kit import BACKEND, SUBMIT, World, guard_of, new_job, opened


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def accept_many(world, project, count):
    answer = world.jobs.accept([new_job(project=project) for _ in range(count)])
    return set(answer.ids)


def refill(world, seconds):
    """As if the last claim was so long ago."""
    key = world.key(f"backend:{BACKEND}")
    at = int(world.store.client.hget(key, "tokens_at"))
    world.store.client.hset(key, "tokens_at", at - int(seconds * 1000))


# ---- one job, one worker -----------------------------------------------------------------------------


def test_of_two_workers_one_gets_the_job(world):
    job_id = world.accept()

    first, second = world.claim(), world.claim()

    assert [claim.record.id for claim in first] == [job_id]
    assert second == []


def test_of_ten_workers_at_once_each_job_goes_to_one(world):
    expected = accept_many(world, "vision", 100)

    with ThreadPoolExecutor(10) as pool:
        claims = [claim for part in pool.map(lambda _: world.claim(count=15), range(10)) for claim in part]

    assert len(claims) == len(expected)
    assert {claim.record.id for claim in claims} == expected


def test_a_claim_brings_all_that_a_step_needs(world):
    job_id = world.accept()
    [first] = world.claim(lease_s=0.001)
    world.begin(first, lease_s=0.001)

    [claim] = wait_until(lambda: world.claim(lane="act"))

    assert (first.attempt, first.spec) == (None, b"spec")
    assert (claim.record.state, claim.attempt.number) == (JobState.SUBMITTING, 1)
    assert claim.attempt.marker.startswith(f"wb-test-{job_id.lower()}")
    assert claim.send_by > first.send_by


def test_a_lease_that_is_over_gives_the_job_back_with_a_higher_epoch(world):
    """A worker that dies gives back what it holds by doing nothing; if it only slept, it is refused."""
    world.accept()
    [asleep] = world.claim(lease_s=0.02)

    [awake] = wait_until(world.claim, why="the lease is over")

    assert awake.record.epoch == asleep.record.epoch + 1
    assert awake.record.tries == 2
    assert world.begin(asleep) is Written.STALE
    assert world.begin(awake) is Written.OK


def test_a_claim_is_no_change_that_a_reader_sees(world):
    job_id = world.accept()
    before = world.read(job_id)

    world.claim()

    after = world.read(job_id)
    assert (after.version, after.updated) == (before.version, before.updated)
    assert world.events() == [("accepted", job_id)]


def test_a_job_that_is_not_due_yet_is_not_claimed(world):
    world.accept()
    [claim] = world.claim()
    later = Change(quiet=True, due=(SUBMIT, 1000))
    world.jobs.move(claim.record.id, guard_of(claim), later)

    assert world.claim() == []


def test_an_entry_without_a_job_is_dropped(world):
    """A due time whose job is gone (an import, a repair by hand) must not be claimed for ever."""
    job_id = world.accept()
    world.store.client.delete(world.key(f"job:{job_id}"))

    assert world.claim() == []
    assert world.due_in(SUBMIT) == {}


# ---- projects take turns -----------------------------------------------------------------------------


def test_a_project_with_three_jobs_is_served_beside_one_with_three_hundred(world):
    accept_many(world, "big", 300)
    small = accept_many(world, "small", 3)

    first_round = world.claim(count=6)

    assert Counter(claim.record.project for claim in first_round) == {"big": 3, "small": 3}
    assert {claim.record.id for claim in first_round if claim.record.project == "small"} == small


def claim_alone(world):
    """Turns are counted in milliseconds: no two claims in the same one."""
    before = int(world.store.client.time()[1] / 1000)
    wait_until(lambda: int(world.store.client.time()[1] / 1000) != before)
    return world.claim(count=1)[0]


def test_claims_of_one_job_at_a_time_take_turns_too(world):
    accept_many(world, "big", 300)
    accept_many(world, "small", 3)

    served = [claim_alone(world).record.project for _ in range(8)]

    assert Counter(served)["small"] == 3, served


def test_within_a_project_the_oldest_due_time_is_first(world):
    ids = [world.accept() for _ in range(5)]
    for n, job_id in enumerate(reversed(ids)):
        world.store.client.zadd(world.key(f"due:{SUBMIT}:vision"), {job_id: n})

    assert [claim.record.id for claim in world.claim(count=3)] == ids[:1:-1]


def test_a_project_without_due_jobs_keeps_no_turn(world):
    job_id = world.accept()
    [claim] = world.claim()
    world.begin(claim)
    world.hand_over(claim)

    assert world.claim() == []

    assert world.members(f"turns:{SUBMIT}") == set()
    assert world.state(job_id) is JobState.QUEUED


# ---- bulkheads ---------------------------------------------------------------------------------------


def test_no_more_than_the_cap_is_live_at_a_backend(world):
    """Two workers have claimed more than there is room for; each place is taken in the step that uses it."""
    accept_many(world, "vision", 8)
    claims = world.claim(count=4) + world.claim(count=4)

    with ThreadPoolExecutor(8) as pool:
        begun = list(pool.map(lambda claim: world.begin(claim, max_live=2), claims))

    assert sorted(begun) == ["full"] * 6 + ["ok"] * 2
    assert world.store.backends.live_count(BACKEND) == 2


def test_an_end_makes_room(world):
    first = world.queued()
    world.accept()
    [claim] = world.claim()
    assert world.begin(claim, max_live=1) is Written.FULL

    world.end(first)

    assert world.begin(claim, max_live=1) is Written.OK


def test_the_cap_does_not_keep_a_submitted_job_from_being_looked_up(world):
    """It is live itself: were it counted against the cap, a lost answer would never be asked for."""
    job_id = world.accept()
    [lost] = world.claim()
    world.begin(lost, max_live=1, lease_s=0.02)

    [claim] = wait_until(lambda: world.claim(lane="act"), why="the job is given back")

    assert (claim.record.id, claim.record.state) == (job_id, JobState.SUBMITTING)
    assert world.hand_over(claim) is Written.OK


@pytest.mark.parametrize("per_s, after_s, allowed", [(3, 1, 3), (3, 0.4, 1), (10, 60, 10)])
def test_submits_a_second_come_out_of_a_bucket(world, per_s, after_s, allowed):
    accept_many(world, "vision", 40)
    assert len(world.claim(per_s=per_s)) == per_s, "a full bucket at first"
    assert world.claim(per_s=per_s) == []

    refill(world, after_s)

    assert len(world.claim(per_s=per_s)) == allowed


@pytest.mark.parametrize("per_s", [0.5, 0.1])
def test_less_than_one_submit_a_second_is_not_none(world, per_s):
    accept_many(world, "vision", 3)

    assert len(world.claim(per_s=per_s)) == 1
    assert world.claim(per_s=per_s) == []
    refill(world, 1.05 / per_s)
    assert len(world.claim(per_s=per_s)) == 1


def test_actions_are_not_counted_against_submits(world):
    """Cancels work while a backend is full."""
    job_id = world.queued()
    world.jobs.cancel(job_id, "user:ana")

    claims = world.jobs.claim("act", BACKEND, ClaimLimits(count=9, lease_s=1, per_s=0.001))

    assert [claim.record.id for claim in claims] == [job_id]


def test_a_guard_by_epoch_holds_for_any_write(world):
    job_id = world.accept()
    [old] = world.claim(lease_s=0.02)
    wait_until(world.claim)

    refused = world.jobs.move(job_id, Guard(epoch=old.record.epoch), Change(quiet=True, no_due=True))

    assert refused is Written.STALE
    assert set(world.due_in(SUBMIT)) == {job_id}
