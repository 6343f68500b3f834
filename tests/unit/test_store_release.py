"""Dependants: when they are let go, in chunks; how predecessors are packed, pinned and forgotten."""

from __future__ import annotations

import pytest

from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.store.changes import Change, Guard
from tests.store_kit import BACKEND, SUBMIT, World, new_job, opened

S = JobState


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def release_all(world):
    while world.jobs.release(100)[0]:
        pass


def outcome(world, job_id):
    """What became of a dependant: 'waits', 'due' or 'failed'."""
    record = world.read(job_id)
    if record.state is S.FAILED:
        assert record.reason is Reason.DEPENDENCY_FAILED
        return "failed"
    assert record.waits is (job_id not in world.due_in(SUBMIT))
    return "waits" if record.waits else "due"


# ---- chunks ------------------------------------------------------------------------------------------


def test_250_dependants_are_judged_a_hundred_at_a_time(world):
    """A thousand dependants must not hold up every other client for as long as it takes."""
    first = world.running()
    accepted = world.jobs.accept([new_job(deps=((first, "succeeded"),)) for _ in range(250)])
    assert accepted.waits == (True,) * 250
    world.end(first)

    chunks = []
    while (answer := world.jobs.release(100))[0]:
        chunks.append(answer)

    assert [looked_at for looked_at, _ in chunks] == [100, 100, 50]
    assert {queue for _, queues in chunks for queue in queues} == {SUBMIT}
    assert set(world.due_in(SUBMIT)) == set(accepted.ids)
    assert world.members("release") == set()


def test_several_predecessors_that_end_together_share_the_chunks(world):
    ids = []
    for _ in range(15):
        first = world.running()
        bundle = [new_job(deps=((first, "succeeded"),)) for _ in range(10)]
        ids += world.jobs.accept(bundle).ids
        world.end(first)

    release_all(world)

    assert set(world.due_in(SUBMIT)) == set(ids)
    assert world.members("release") == set()


def test_a_release_with_nothing_to_do_does_nothing(world):
    assert world.jobs.release(100) == (0, ())


def test_what_was_released_in_part_goes_on_after_a_death(world):
    """Level-triggered: the next worker finds the rest, and looking twice changes nothing."""
    first = world.running()
    bundle = [new_job(deps=((first, "succeeded"),)) for _ in range(5)]
    ids = world.jobs.accept(bundle).ids
    world.end(first)
    world.jobs.release(2)
    world.store.client.sadd(world.key(f"releasing:{first}"), *ids)

    release_all(world)

    assert set(world.due_in(SUBMIT)) == set(ids)
    met = [job_id for kind, job_id in world.events() if kind == "dependencies_met"]
    assert sorted(met) == sorted(ids)


# ---- each when ---------------------------------------------------------------------------------------

# when, what the predecessor does, what becomes of its dependant
CASES = [
    ("started", "nothing", "waits"),
    ("started", "running", "due"),
    ("started", "COMPLETED", "due"),
    ("started", "FAILED", "due"),
    ("started", "failed unstarted", "failed"),
    ("started", "cancelled", "failed"),
    ("succeeded", "running", "waits"),
    ("succeeded", "COMPLETED", "due"),
    ("succeeded", "FAILED", "failed"),
    ("succeeded", "cancelled", "failed"),
    ("failed", "COMPLETED", "failed"),
    ("failed", "FAILED", "due"),
    ("failed", "cancelled", "failed"),
    ("ended", "running", "waits"),
    ("ended", "COMPLETED", "due"),
    ("ended", "FAILED", "due"),
    ("ended", "cancelled", "due"),
    ("ready", "running", "waits"),
    ("ready", "ready", "due"),
    ("ready", "COMPLETED", "failed"),
]


ENDED = ("COMPLETED", "FAILED", "failed unstarted", "cancelled")


def happen(world, job_id, what):
    if what == "nothing":
        return
    if what == "cancelled":
        assert world.jobs.cancel(job_id, "user:ana") == "ended"
        return
    [claim] = [claim for claim in world.claim() if claim.record.id == job_id]
    world.begin(claim)
    world.hand_over(claim)
    if what == "failed unstarted":
        world.end(job_id, S.FAILED)
        return
    world.start(job_id, **({"ready": True} if what == "ready" else {}))
    if what in (S.COMPLETED, S.FAILED):
        world.end(job_id, S(what))


@pytest.mark.parametrize("when, what, expected", CASES)
def test_a_dependant_that_came_before_is_judged_when_it_happens(world, when, what, expected):
    first = world.accept()
    second = world.accept(deps=((first, when),))
    assert outcome(world, second) == "waits"
    assert world.read(second).reason is Reason.DEPENDENCY_NOT_MET

    happen(world, first, what)
    release_all(world)

    assert outcome(world, second) == expected


@pytest.mark.parametrize("when, what, expected", CASES)
def test_a_dependant_that_comes_after_is_judged_at_once(world, when, what, expected):
    first = world.accept()
    happen(world, first, what)

    second = world.accept(deps=((first, when),))

    if expected == "failed":
        release_all(world)
    assert outcome(world, second) == expected


@pytest.mark.parametrize("when, what, expected", [case for case in CASES if case[1] in ENDED])
def test_what_is_left_of_a_packed_predecessor_is_enough_to_judge(world, when, what, expected):
    first = world.accept()
    happen(world, first, what)
    assert world.pack(first) == "ok"

    second = world.accept(deps=((first, when),))

    release_all(world)
    assert outcome(world, second) == expected


def test_a_dependant_of_several_waits_for_all_of_them(world):
    a, b = world.running(), world.running()
    both = world.accept(deps=((a, "succeeded"), (b, "ended")))
    world.end(a)
    release_all(world)
    assert outcome(world, both) == "waits"

    world.end(b, S.FAILED)
    release_all(world)

    assert outcome(world, both) == "due"


def test_one_that_can_never_be_met_fails_the_dependant_though_another_is_open(world):
    a, b = world.running(), world.running()
    both = world.accept(deps=((a, "succeeded"), (b, "succeeded")))

    world.end(b, S.FAILED)
    release_all(world)

    assert outcome(world, both) == "failed"
    assert b in world.read(both).message


def test_a_failure_runs_down_the_whole_chain(world):
    first = world.running()
    chain = [first]
    for _ in range(5):
        chain.append(world.accept(deps=((chain[-1], "succeeded"),)))

    world.end(first, S.FAILED)
    release_all(world)

    assert [outcome(world, job_id) for job_id in chain[1:]] == ["failed"] * 5
    assert not [name for name in world.names() if name.startswith(("dependants:", "releasing:"))]


# ---- held and cancelled dependants -------------------------------------------------------------------


def test_a_held_dependant_stays_held_when_its_dependency_is_met(world):
    first = world.running()
    second = world.accept(held=True, deps=((first, "succeeded"),))
    assert world.read(second).reason is Reason.HELD

    world.end(first)
    release_all(world)

    record = world.read(second)
    assert (record.waits, record.held, record.reason) == (False, True, Reason.HELD)
    assert world.due_in(SUBMIT) == {}


def test_a_held_dependant_fails_with_its_predecessor(world):
    first = world.running()
    second = world.accept(held=True, deps=((first, "succeeded"),))

    world.end(first, S.FAILED)
    release_all(world)

    assert outcome(world, second) == "failed"


def test_a_hold_let_go_before_the_dependency_is_met_goes_on_waiting(world):
    first = world.running()
    second = world.accept(held=True, deps=((first, "succeeded"),))
    world.jobs.move(second, Guard(), Change(set={"held": None, "reason": Reason.DEPENDENCY_NOT_MET}))
    assert outcome(world, second) == "waits"

    world.end(first)
    release_all(world)

    assert outcome(world, second) == "due"


def test_a_cancelled_dependant_lets_its_predecessor_go(world):
    first = world.running()
    second = world.accept(deps=((first, "succeeded"),))

    world.jobs.cancel(second, "user:ana")

    assert world.members(f"dependants:{first}") == set()
    world.end(first)
    assert world.members("release") == set()


# ---- packed, pinned, forgotten -----------------------------------------------------------------------


def test_a_packed_job_reads_as_before(world):
    job_id = world.running(labels={"team": "ü"})
    world.jobs.move(job_id, Guard(), Change(tasks=b"\x00table\xff"))
    world.end(job_id)
    before = world.jobs.parts(job_id)

    assert world.pack(job_id) == "ok"

    assert world.jobs.parts(job_id) == before
    assert world.jobs.read(job_id) == before.record
    assert world.jobs.read_with_spec(job_id) == (before.record, before.spec)
    assert world.jobs.read_many([job_id]) == [before.record]
    assert {name for name in world.names() if job_id in name} == {f"packed:{job_id}"}
    assert (world.members("ended"), world.members("packs")) == (set(), {job_id})


def test_a_live_job_is_not_packed(world):
    job_id = world.running()

    assert world.pack(job_id) == "changed"
    assert world.state(job_id) is S.RUNNING


def test_a_packed_job_is_final(world):
    job_id = world.running()
    world.end(job_id)
    world.pack(job_id)

    assert world.jobs.cancel(job_id, "user:ana") in ("final", "missing")
    assert world.state(job_id) is S.COMPLETED


def test_a_live_dependant_pins_its_predecessor(world):
    first = world.running()
    second = world.accept(deps=((first, "succeeded"),))
    world.end(first)
    world.pack(first)
    assert world.forget(first) == "pinned"
    release_all(world)
    assert world.forget(first) == "pinned", "its outputs may still be asked for"

    world.jobs.cancel(second, "user:ana")

    assert world.forget(first) == "ok"
    assert world.jobs.read(first) is None
    assert not [name for name in world.names() if first in name]


def test_a_pinned_predecessor_comes_up_again_later(world):
    """Those that are pinned must not stand at the head of the list for ever, or the others never go."""
    first, other = world.running(), world.running()
    world.accept(deps=((first, "succeeded"),))
    for job_id in (first, other):
        world.end(job_id)
        world.pack(job_id)
    now_ms = int(world.store.now() * 1000)
    assert set(world.store.archive.packed_before(now_ms, 10)) == {first, other}

    parts = world.jobs.parts(first)
    assert world.store.archive.forget(parts, now_ms + 60_000) == "pinned"

    assert world.store.archive.packed_before(now_ms, 1) == [other]
    assert first in world.store.archive.packed_before(now_ms + 60_000, 10)


def test_nothing_of_a_job_expires_by_itself(world):
    """An expiry would tear holes: into the lists that still name the job, and below a dependant it pins."""
    first, second = world.running(), world.running()
    world.accept(held=True, deps=((first, "succeeded"),))
    world.end(first)
    world.end(second)
    world.pack(first)

    expiring = {n for n in world.names() if world.store.client.pttl(world.key(n)) >= 0}

    assert not [name for name in expiring if first in name or second in name]


def test_a_forgotten_job_leaves_nothing_but_its_events(world):
    job_id = world.running(labels={"team": "vision", "run": "7"})
    world.end(job_id)
    world.pack(job_id)

    assert world.forget(job_id) == "ok"

    left = {name for name in world.names() if name.startswith(("index:", "packs", "ended", "live:", "due:"))}
    assert left == set()
    assert not [name for name in world.names() if job_id in name]


def test_the_lanes_of_a_backend_are_empty_after_the_last_job(world):
    job_id = world.running()
    world.jobs.cancel(job_id, "user:ana")
    world.end(job_id, S.CANCELLED)

    left = {name for name in world.names() if name.startswith(("due:", "turns:", "live:"))}

    assert left == set(), f"still there after {job_id} at {BACKEND}"
