"""Leases, slots, hints, the tick and the incarnation: who may do what alone, and what is overdue."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.store import open_store
from broker.store.store import StoreOptions
from tests.helpers import wait_until
from tests.store_kit import BACKEND, World, new_job, opened

HINT_MS = 60_000


@pytest.fixture
def world(redis_server):
    with opened(redis_server, sweep_s=HINT_MS / 1000) as store:
        yield World(store)


@pytest.fixture
def leases(world):
    return world.store.leases


# ---- leases ------------------------------------------------------------------------------------------


def test_a_lease_has_one_holder_who_may_renew_it(leases):
    epoch = leases.acquire("sweeper", "a", 60)

    assert leases.acquire("sweeper", "b", 60) is None
    assert leases.acquire("sweeper", "a", 60) == epoch == 1
    assert leases.acquire("observe:hpc", "b", 60) == 1, "another name, another lease"


def test_of_ten_that_ask_at_once_one_gets_it(leases):
    with ThreadPoolExecutor(10) as pool:
        epochs = list(pool.map(lambda n: leases.acquire("sweeper", f"holder-{n}", 60), range(10)))

    assert sorted(epochs, key=bool) == [None] * 9 + [1]


def test_the_epoch_rises_with_each_holder(leases):
    first = leases.acquire("sweeper", "a", 0.01)

    second = wait_until(lambda: leases.acquire("sweeper", "b", 60), why="the lease is over")

    assert second == first + 1


def test_whoever_comes_back_after_its_lease_is_another_holder(leases):
    """It was asleep: what it began under the old epoch must be refused."""
    first = leases.acquire("sweeper", "a", 0)

    assert leases.acquire("sweeper", "a", 60) == first + 1


def test_a_lease_given_back_is_free_at_once(leases):
    leases.acquire("sweeper", "a", 60)

    leases.release("sweeper", "a")

    assert leases.acquire("sweeper", "b", 60) == 2


def test_only_the_holder_gives_a_lease_back(leases):
    leases.acquire("sweeper", "a", 60)

    leases.release("sweeper", "b")

    assert leases.acquire("sweeper", "b", 60) is None


# ---- slots -------------------------------------------------------------------------------------------


def test_no_more_than_the_cap_hold_a_slot(leases):
    with ThreadPoolExecutor(10) as pool:
        taken = list(pool.map(lambda n: leases.take_slot("drain:hpc", f"holder-{n}", 2, 60), range(10)))

    assert sum(taken) == 2


def test_a_slot_can_be_renewed_left_and_outlived(leases):
    assert leases.take_slot("drain:hpc", "a", 1, 0.05)
    assert leases.take_slot("drain:hpc", "a", 1, 0.05), "it has one already"
    assert wait_until(lambda: leases.take_slot("drain:hpc", "b", 1, 60), why="the holder died")
    assert not leases.take_slot("drain:hpc", "c", 1, 60)

    leases.leave_slot("drain:hpc", "b")

    assert leases.take_slot("drain:hpc", "c", 1, 60)


def test_the_slots_of_a_backend_that_nobody_drains_are_gone(world, leases):
    leases.take_slot("drain:hpc", "a", 1, 0.02)

    assert wait_until(lambda: "slots:drain:hpc" not in world.names())


# ---- hints and the tick ------------------------------------------------------------------------------


def known(world, **times):
    """A backend whose snapshot and pass are not due, but for ``times``."""
    values = {"observe_at": str(1 << 42), "refresh_at": str(1 << 42), **times}
    world.store.client.hset(world.key(f"backend:{BACKEND}"), mapping=values)


def accept_unhinted(world):
    """A worker took the hint of the accept, and died with it."""
    world.accept()
    world.store.leases.hint_taken("drain:hpc")


def test_an_accept_hints_each_queue_once(world, leases):
    known(world)
    bundle = [new_job(), new_job(), new_job(queue="submit:other"), new_job(held=True, queue="submit:third")]

    first, second = world.jobs.accept(bundle), world.jobs.accept([new_job()])

    assert sorted(first.hints) == ["drain:hpc", "drain:other"]
    assert second.hints == (), "one is outstanding"
    assert leases.tick([BACKEND], []) == []


def test_one_hint_is_outstanding_until_somebody_acts_on_it(leases):
    assert [leases.hint("drain:hpc"), leases.hint("drain:hpc")] == [True, False]

    leases.hint_taken("drain:hpc")

    assert leases.hint("drain:hpc")


def test_a_tick_hints_what_is_overdue_once(world, leases):
    known(world)
    assert leases.tick([BACKEND], []) == []
    accept_unhinted(world)

    assert leases.tick([BACKEND], []) == ["drain:hpc"]
    assert leases.tick([BACKEND], []) == []
    leases.hint_taken("drain:hpc")
    assert leases.tick([BACKEND], []) == ["drain:hpc"], "still overdue: the message may be lost"


def test_a_hint_that_was_lost_is_sent_again(redis_server):
    with opened(redis_server, sweep_s=0.02) as store:
        accept_unhinted(World(store))
        known(World(store))
        assert store.leases.tick([BACKEND], []) == ["drain:hpc"]

        assert wait_until(lambda: store.leases.tick([BACKEND], [])) == ["drain:hpc"]


def test_what_is_claimed_is_not_overdue(world, leases):
    known(world)
    accept_unhinted(world)
    world.claim()

    assert leases.tick([BACKEND], []) == []


def test_a_backend_whose_breaker_is_open_is_not_asked_to_act(world, leases):
    """What waits for a submit is decided anew all the same: it may go elsewhere."""
    known(world)
    job_id = world.queued()
    leases.hint_taken("drain:hpc")
    world.jobs.cancel(job_id, "user:ana")
    now_ms = int(world.store.now() * 1000)
    changed = [world.store.backends.failed(BACKEND, "no answer", now_ms) for _ in range(3)]
    assert changed == [True, False, False]
    assert leases.tick([BACKEND], []) == []

    assert world.store.backends.answered(BACKEND)

    assert leases.tick([BACKEND], []) == ["drain:hpc"]


def test_jobs_of_a_backend_that_left_the_configuration_are_hinted(world, leases):
    accept_unhinted(world)

    assert leases.tick([], []) == []
    assert leases.tick([], [BACKEND]) == ["drain:hpc"]


def test_what_is_to_be_forgotten_is_hinted(redis_server):
    with opened(redis_server, retention_s=0.05) as store:
        world = World(store)
        job_id = world.running()
        world.end(job_id)
        world.pack(job_id)

        assert wait_until(lambda: store.leases.tick([], [])) == ["forget"]


def test_a_backend_is_observed_while_something_is_live_there(world, leases):
    known(world, observe_at="0")
    assert leases.tick([BACKEND], []) == []

    job_id = world.queued()
    leases.hint_taken("drain:hpc")

    assert leases.tick([BACKEND], []) == ["observe:hpc"]
    leases.hint_taken("observe:hpc")
    world.end(job_id)
    assert leases.tick([BACKEND], []) == []


def test_while_a_watch_answers_for_a_backend_its_passes_are_rarer(world, leases):
    """And as frequent as ever as soon as it does not, because it says so or is silent."""
    world.queued()
    leases.hint_taken("drain:hpc")
    now_ms = int(world.store.now() * 1000)
    known(world, observe_at=str(now_ms), observe_watched_at=str(now_ms + 60_000))
    backends = world.store.backends

    backends.watched(BACKEND, now_ms + 60_000)
    assert leases.tick([BACKEND], []) == []
    backends.watched(BACKEND, 0)
    assert leases.tick([BACKEND], []) == ["observe:hpc"]
    leases.hint_taken("observe:hpc")
    backends.watched(BACKEND, now_ms + 60_000)
    assert leases.tick([BACKEND], []) == []
    backends.watched(BACKEND, now_ms - 1)
    assert leases.tick([BACKEND], []) == ["observe:hpc"]


def test_a_pass_that_somebody_asks_for_is_due_in_spite_of_a_watch(world, leases):
    world.queued()
    leases.hint_taken("drain:hpc")
    now_ms = int(world.store.now() * 1000)
    known(world, observe_watched_at=str(now_ms + 60_000))
    world.store.backends.watched(BACKEND, now_ms + 60_000)

    world.store.backends.postpone(BACKEND, "observe_at", 0)

    assert leases.tick([BACKEND], []) == ["observe:hpc"]


def test_a_snapshot_is_asked_for_when_it_is_old(world, leases):
    now_ms = int(world.store.now() * 1000)
    world.store.backends.put_snapshot(BACKEND, {"inventory": "{}", "load": "{}"}, now_ms, 60)
    assert leases.tick([BACKEND], []) == []

    world.store.backends.postpone(BACKEND, "refresh_at", now_ms - 1)

    assert leases.tick([BACKEND], []) == ["refresh:hpc"]


def test_dependants_to_judge_are_hinted(world, leases):
    known(world)
    first = world.running()
    world.accept(deps=((first, "succeeded"),))
    world.end(first)
    leases.hint_taken("drain:hpc")

    assert leases.tick([BACKEND], []) == ["release"]


# ---- incarnations ------------------------------------------------------------------------------------


def incarnate(world, run_id, durable):
    return world.store.scripts.run("incarnation", {"run_id": run_id, "durable": durable})


def test_the_first_incarnation_begins_before_every_job(world):
    assert world.store.meta()["incarnation"] == "1"
    assert world.store.incarnation_began() == 0.0


def test_the_first_incarnation_is_later_than_any_of_a_store_that_was_lost(redis_server):
    """Its number is the time, so that an id which a reader kept from before is none of this store."""
    store = open_store(redis_server, StoreOptions(prefix=f"i{uuid.uuid4().hex[:8]}:"))
    try:
        began = int(store.meta()["incarnation"])
        assert began == int(store.meta()["first_incarnation"])
        assert abs(store.client.time()[0] - began) <= 30
    finally:
        store.close()


def test_the_same_server_goes_on_in_the_same_incarnation(world):
    assert not world.store.notice_restart()
    assert world.store.meta()["incarnation"] == "1"


def test_a_restart_that_may_have_lost_writes_begins_another_one(world):
    before = world.store.client.time()[0]

    assert incarnate(world, "restarted", durable=False) == 1
    assert incarnate(world, "restarted", durable=False) == 0, "once"

    assert world.store.meta()["incarnation"] == "2"
    world.store.notice_restart()  # as every drain does, before it sends anything
    assert world.store.incarnation_began() >= before


def test_a_restart_of_a_server_that_loses_nothing_changes_nothing(world):
    assert incarnate(world, "restarted", durable=True) == 0

    assert world.store.meta()["incarnation"] == "1"
    assert world.store.meta()["run_id"] == "restarted"


def test_of_ten_processes_that_notice_a_restart_one_begins_the_incarnation(world):
    with ThreadPoolExecutor(10) as pool:
        began = list(pool.map(lambda _: incarnate(world, "restarted", durable=False), range(10)))

    assert sum(began) == 1
    assert world.store.meta()["incarnation"] == "2"
