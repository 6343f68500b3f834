"""Guarded writes: move, end and cancel, and who wins when two of them come together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from api_spec.reasons import Reason
from api_spec.states import FINAL, JobState
from broker.store.changes import Change, Guard, Live, Write
from broker.store.jobs import Written
from broker.store.records import UPDATE
from tests.helpers import wait_until
from tests.store_kit import ACT, BACKEND, SUBMIT, World, again, ending, guard_of, opened

S = JobState


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


# ---- guards ------------------------------------------------------------------------------------------


def test_a_stale_epoch_is_refused_and_counted(world):
    job_id = world.accept()
    [old] = world.claim(lease_s=0.02)
    wait_until(world.claim)

    assert world.begin(old) is Written.STALE
    assert world.jobs.end(job_id, Guard(epoch=old.record.epoch), ending(S.FAILED)) is Written.STALE

    assert world.store.counters() == {"stale_writes": 2}
    assert world.state(job_id) is S.ACCEPTED


def test_of_two_that_read_the_same_version_one_writes(world):
    job_id = world.queued()
    guard = Guard(version=world.read(job_id).version)
    running = Change(set={"state": S.RUNNING})

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: world.jobs.move(job_id, guard, running), range(10)))

    assert sorted(answers) == ["changed"] * 9 + ["ok"]
    assert world.read(job_id).version == guard.version + 1


def test_a_write_is_refused_in_the_wrong_state(world):
    job_id = world.running()

    refused = world.jobs.move(job_id, Guard(states=(S.ACCEPTED, S.SUBMITTING)), Change(set={"message": "x"}))

    assert refused is Written.STATE
    assert world.read(job_id).message is None


def test_a_lease_that_somebody_else_holds_now_refuses_the_write(world):
    """An observer that was stopped for longer than its lease must not overwrite what its successor saw."""
    job_id = world.queued()
    epoch = world.store.leases.acquire("observe:hpc", "first", 0.01)
    running = Change(set={"state": S.RUNNING})
    wait_until(lambda: world.store.leases.acquire("observe:hpc", "second", 60))

    refused = world.jobs.move(job_id, Guard(lease=("observe:hpc", epoch)), running)
    taken = world.jobs.move(job_id, Guard(lease=("observe:hpc", epoch + 1)), running)

    assert (refused, taken) == (Written.STALE, Written.OK)
    assert world.store.counters() == {"stale_writes": 1}


def test_what_was_compared_with_an_older_entry_is_refused(world):
    """Two look at one backend. Who compared first, and writes last, may have seen the older state."""
    job_id = world.queued()
    before = world.store.backends.live(BACKEND)[job_id]
    newer = replace(before, fingerprint="newer")
    assert world.store.backends.change_live(BACKEND, job_id, before, newer)
    running = Change(set={"state": S.RUNNING})

    refused = world.jobs.move(job_id, Guard(live=(BACKEND, before.dump())), running)
    taken = world.jobs.move(job_id, Guard(live=(BACKEND, newer.dump())), running)

    assert (refused, taken) == (Written.CHANGED, Written.OK)


def test_of_several_jobs_those_that_are_live_are_read(world):
    live, other = world.queued(), world.accept()

    found = world.store.backends.live_of(BACKEND, [other, live])

    assert found == {live: world.store.backends.live(BACKEND)[live]}
    assert world.store.backends.live_of(BACKEND, []) == {}


@pytest.mark.parametrize("write", ["move", "end"])
def test_what_does_not_exist_is_missing(world, write):
    nobody = "01ARZ3NDEKTSV4RRFFQ69G5FAV"

    assert getattr(world.jobs, write)(nobody, Guard(), ending(S.FAILED)) is Written.MISSING
    assert world.jobs.cancel(nobody, "user:ana") == "missing"
    assert world.names() & {f"job:{nobody}"} == set()


@pytest.mark.parametrize("final", sorted(FINAL))
@pytest.mark.parametrize("write", ["move", "end"])
def test_what_has_ended_stays_as_it_ended(world, final, write):
    job_id = world.running()
    world.end(job_id, final)
    before = world.read(job_id)

    refused = getattr(world.jobs, write)(job_id, Guard(epoch=before.epoch), ending(S.FAILED))

    assert refused is Written.STATE
    assert world.jobs.cancel(job_id, "user:ana") == "final"
    assert world.read(job_id) == before


# ---- what a write does -------------------------------------------------------------------------------


def test_a_refused_write_leaves_nothing(world):
    job_id = world.queued()
    before = (world.jobs.parts(job_id), world.events(), world.store.backends.live(BACKEND))
    change = Change(
        set={"state": S.RUNNING},
        decision=(9, b"other"),
        spec=b"other",
        tasks=b"other",
        live=(BACKEND, Live(attempt=9)),
        due=(ACT, 0),
        events=(("running", {}),),
    )

    assert world.jobs.move(job_id, Guard(version=1), change) is Written.CHANGED

    assert (world.jobs.parts(job_id), world.events(), world.store.backends.live(BACKEND)) == before
    assert world.due_in(ACT) == {}


def test_a_write_changes_all_of_its_parts_at_once(world):
    job_id = world.queued()
    live = Live(attempt=1, handle={"id": "8"}, fingerprint="f")
    change = Change(
        set={"message": "moved", "reason": None},
        decision=(2, b"second"),
        spec=b"new spec",
        tasks=b"table",
        live=(BACKEND, live),
        events=(("updated", {"empty": [], "none": {}}),),
    )

    assert world.jobs.move(job_id, Guard(), change) is Written.OK

    parts = world.jobs.parts(job_id)
    assert (parts.spec, parts.tasks, parts.decisions[2]) == (b"new spec", b"table", b"second")
    assert world.store.backends.live(BACKEND) == {job_id: live}
    [event] = [e for e in world.store.events.of_project("vision", None, 99).items if e.type == "updated"]
    assert event.data == {"empty": [], "none": {}}, "Lua must not turn a list into an object"


def test_of_several_writes_in_one_step_each_has_its_own_parts_and_its_own_answer(world):
    one, stale, other = world.queued(), world.queued(), world.queued()

    def change(word):
        parts = {"spec": b"spec of " + word, "tasks": b"tasks of " + word}
        return Change(set={"message": word.decode()}, decision=(2, b"decision of " + word), **parts)

    answers = world.jobs.move_all(
        [
            Write(one, Guard(), change(b"one")),
            Write(stale, Guard(epoch=999), change(b"stale")),
            Write("01ARZ3NDEKTSV4RRFFQ69G5FAV", Guard(), change(b"nobody")),
            Write(other, Guard(), change(b"other")),
        ]
    )

    assert answers == [Written.OK, Written.STALE, Written.MISSING, Written.OK]
    for job_id, word in ((one, b"one"), (other, b"other")):
        parts = world.jobs.parts(job_id)
        found = (parts.record.message, parts.spec, parts.decisions[2], parts.tasks)
        assert found == (word.decode(), b"spec of " + word, b"decision of " + word, b"tasks of " + word)
    assert world.read(stale).message is None


def test_of_two_writes_to_one_job_the_second_stands_on_the_first(world):
    job_id = world.queued()
    guard, running = Guard(states=(S.QUEUED,)), Change(set={"state": S.RUNNING})

    answers = world.jobs.move_all([Write(job_id, guard, running), Write(job_id, guard, running)])

    assert answers == [Written.OK, Written.STATE]


def test_a_field_set_to_none_is_gone(world):
    job_id = world.queued()
    world.jobs.move(job_id, Guard(), Change(set={"message": "x"}))

    world.jobs.move(job_id, Guard(), Change(set={"message": None}))

    assert not world.store.client.hexists(world.key(f"job:{job_id}"), "message")


def test_a_quiet_write_only_postpones(world):
    job_id = world.accept()
    [claim] = world.claim()
    before = world.read(job_id)

    world.jobs.move(job_id, guard_of(claim), Change(set={"message": "x"}, quiet=True, due=(SUBMIT, 60)))

    after = world.read(job_id)
    assert (after.version, after.updated, after.message) == (before.version, before.updated, None)
    assert world.due_in(SUBMIT)[job_id] > before.updated


def test_a_job_stands_in_one_queue_at_most(world):
    job_id = world.accept()
    [claim] = world.claim()

    world.jobs.move(job_id, guard_of(claim), Change(set={"reroutes": 1}, due=("submit:other", 0)))

    assert world.due_in(SUBMIT) == {}
    assert set(world.due_in("submit:other")) == {job_id}
    assert world.members(f"turns:{SUBMIT}") <= {"vision"}


def test_an_end_takes_the_job_out_of_everything_that_is_live(world):
    job_id = world.running()
    world.jobs.cancel(job_id, "user:ana")
    assert set(world.due_in(ACT)) == {job_id}

    assert world.end(job_id, S.CANCELLED) is Written.OK

    record = world.read(job_id)
    assert (record.state, record.cancel, record.queue, record.lease) == (S.CANCELLED, None, None, 0)
    assert record.ended == record.updated
    assert world.due_in(ACT) == {}
    assert world.store.backends.live(BACKEND) == {}
    assert world.members("ended") == {job_id}


# ---- cancel ------------------------------------------------------------------------------------------


def test_a_job_that_is_at_no_backend_is_cancelled_at_once(world):
    job_id = world.accept()

    assert world.jobs.cancel(job_id, "user:ana") == "ended"

    record = world.read(job_id)
    assert (record.state, record.reason, record.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert world.claim() == []
    assert world.events()[-1] == ("cancelled", job_id)


@pytest.mark.parametrize("place", ["queued", "running"])
def test_a_job_at_a_backend_becomes_due_for_a_worker(world, place):
    job_id = getattr(world, place)()
    state = world.state(job_id)

    assert world.jobs.cancel(job_id, "user:ana") == "asked"
    assert world.jobs.cancel(job_id, "user:ben") == "asked"

    assert (world.state(job_id), world.read(job_id).cancel) == (state, "user:ana")
    assert world.events().count(("cancel_requested", job_id)) == 1
    assert [claim.record.id for claim in world.claim(lane="act")] == [job_id]


@pytest.mark.parametrize("place", ["accept", "running"])
def test_a_cancel_of_an_older_version_changes_nothing(world, place):
    job_id = getattr(world, place)()
    old = world.read(job_id).version
    world.jobs.move(job_id, Guard(), Change(set={"message": "news"}))
    before = world.jobs.parts(job_id)

    assert world.jobs.cancel(job_id, "user:ana", old) == "changed"
    assert world.jobs.parts(job_id) == before
    assert world.jobs.cancel(job_id, "user:ana", old + 1) in ("ended", "asked")


def test_of_ten_cancels_of_one_version_one_is_heard(world):
    job_id = world.running()
    version = world.read(job_id).version

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: world.jobs.cancel(job_id, f"user:{n}", version), range(10)))

    assert sorted(answers) == ["asked"] + ["changed"] * 9


def test_a_cancel_wins_over_a_worker_that_has_not_written_its_intent(world):
    job_id = world.accept()
    [claim] = world.claim()

    assert world.jobs.cancel(job_id, "user:ana") == "ended"

    assert world.begin(claim) is Written.STALE
    assert world.state(job_id) is S.CANCELLED
    assert world.store.backends.live(BACKEND) == {}


def test_a_cancel_after_the_intent_waits_for_the_answer(world):
    """Nobody knows yet whether the backend has it, so the job must not be called over."""
    job_id = world.accept()
    [claim] = world.claim()
    world.begin(claim)

    assert world.jobs.cancel(job_id, "user:ana") == "asked"
    assert world.state(job_id) is S.SUBMITTING
    assert world.hand_over(claim) is Written.OK

    assert world.state(job_id) is S.QUEUED
    assert [claim.record.cancel for claim in world.claim(lane="act")] == ["user:ana"]


def test_a_cancel_and_a_submit_at_once_never_leave_a_cancelled_job_at_a_backend(world):
    """Whoever comes first: either nothing was submitted, or a worker is told to withdraw it."""
    for _ in range(30):
        job_id = world.accept()
        [claim] = world.claim()

        with ThreadPoolExecutor(2) as pool:
            begun = pool.submit(world.begin, claim)
            answer = pool.submit(world.jobs.cancel, job_id, "user:ana")

        if begun.result() is Written.OK:
            assert answer.result() == "asked"
            assert world.hand_over(claim) is Written.OK
            assert set(world.due_in(ACT)) == {job_id}
            world.end(job_id, S.CANCELLED)
        else:
            assert (answer.result(), begun.result()) == ("ended", Written.STALE)
        assert world.state(job_id) is S.CANCELLED
        assert world.store.backends.live(BACKEND) == {}


def test_a_cancel_that_comes_while_the_backend_refuses_is_carried_out(world):
    """The attempt ended without a trace and another was to follow: it must not, and the job must end."""
    job_id = world.accept()
    [claim] = world.claim()
    world.begin(claim)
    assert world.jobs.cancel(job_id, "user:ana") == "asked"

    world.turned_away(claim)

    record = world.read(job_id)
    assert (record.state, record.reason, record.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert world.claim() == []


def test_an_intent_to_submit_is_refused_once_a_cancel_was_asked_for(world):
    job_id = world.accept()
    [claim] = world.claim()
    world.begin(claim)
    world.jobs.cancel(job_id, "user:ana")
    submitting = Change(set={"state": S.SUBMITTING})

    assert world.jobs.move(job_id, guard_of(claim), submitting) is Written.CANCELLED


def test_a_hold_wins_over_a_worker_that_has_not_written_its_intent(world):
    """The user was told that the job is held; it must not start after that."""
    job_id = world.accept()
    [claim] = world.claim()
    hold = Change(set={"held": True, "reason": Reason.HELD}, no_due=True)
    assert world.jobs.move(job_id, Guard(version=world.read(job_id).version), hold) is Written.OK

    assert world.begin(claim) is not Written.OK

    assert (world.state(job_id), world.read(job_id).held) == (S.ACCEPTED, True)


# ---- intents that come too early ---------------------------------------------------------------------


def test_an_intent_that_came_during_the_submit_is_acted_on_at_the_backend(world):
    job_id = world.accept()
    [claim] = world.claim()
    world.begin(claim)
    world.jobs.move(
        job_id, Guard(version=world.read(job_id).version), Change(set={"act": (UPDATE,), "replicas": 3})
    )
    assert world.claim(lane="act") == []

    world.hand_over(claim)

    assert [claim.record.replicas for claim in world.claim(lane="act")] == [3]


def test_another_attempt_has_a_handle_of_its_own(world):
    job_id = world.running()

    assert world.jobs.move(job_id, Guard(version=world.read(job_id).version), again()) is Written.OK

    assert world.store.backends.live(BACKEND) == {}
    [claim] = world.claim()
    assert world.begin(claim) is Written.OK
    assert world.store.backends.live(BACKEND) == {job_id: Live(attempt=2)}
    assert world.read(job_id).attempt == 2
