"""The watch of a backend: what it tells is written at once and as a pass would, by one worker at a time."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from adapters.base import Capability, Observations
from api_spec.states import JobState
from broker.lifecycle.watch import watched
from broker.watcher import Watcher
from tests.builders import spec
from tests.helpers import wait_until
from tests.kit import ANA, ENDLESS, adapter_of, fake_kit, make_kit

S = JobState
LEASE_S = 0.6


class SpokenWatch:
    """Tells what the test tells it to; how things are is the fake's answer, or what the test puts instead."""

    def __init__(self, adapter):
        self.adapter = adapter
        self.fault = None
        self.told = set()
        self.later = []
        self.blind_to = set()
        self.closed = threading.Event()
        self._news = threading.Condition()

    def tell(self, *markers):
        with self._news:
            self.told |= set(markers)
            self._news.notify()

    def changed(self, wait_s):
        with self._news:
            self._news.wait_for(lambda: self.told, min(wait_s, 0.05))
            found, self.told = self.told, set()
            return found

    def again(self, markers, in_s):
        self.later.append(set(markers))
        timer = threading.Timer(min(in_s, 0.05), self.tell, markers)
        timer.daemon = True
        timer.start()

    def observe(self, refs):
        seen = self.adapter.observe([ref for ref in refs if ref.marker not in self.blind_to])
        return Observations(as_of=seen.as_of, complete=False, found=seen.found)

    def close(self):
        self.closed.set()


def makes_watches(kit):
    """Each watch that is begun."""
    adapter, begun = adapter_of(kit), []

    def watch():
        begun.append(SpokenWatch(adapter))
        return begun[-1]

    adapter.capabilities = adapter.capabilities | {Capability.WATCH}
    adapter.watch = watch
    return begun


@pytest.fixture
def kit(redis_server, tmp_path):
    """No pass is made unless the test makes one."""
    with fake_kit(redis_server, tmp_path, lease_s=LEASE_S) as kit:
        kit.store.backends.postpone("fake", "observe_at", 1 << 42)
        yield kit


@contextmanager
def watching(kit):
    begun = makes_watches(kit)
    watcher = Watcher(kit.broker, again_s=0.05)
    watcher.start()
    try:
        wait_until(lambda: begun, why="the watch begins")
        yield begun
    finally:
        watcher.stop()
    assert all(one.closed.is_set() for one in begun)


@pytest.fixture
def seen(kit):
    with watching(kit) as (watch, *_):
        yield watch


def marker_of(kit, job_id):
    return kit.broker.attempts(job_id, ANA)[0].marker


def running(kit):
    """A job that runs at its backend, which nobody has looked at."""
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.QUEUED)
    wait_until(lambda: kit.fake.starts(marker_of(kit, job_id)))
    return job_id


def reaches(kit, job_id, state):
    wait_until(lambda: kit.get(job_id).state is state, why=f"{kit.get(job_id)} is {state}")


def answers_for_all(kit):
    until = kit.store.backends.read("fake").watched_until
    return until is not None and until > kit.store.now() * 1000


# ---- what it tells --------------------------------------------------------------------------------------


def test_what_the_watch_tells_is_written_without_a_pass(kit, seen):
    job_id = running(kit)
    marker = marker_of(kit, job_id)

    seen.tell(marker)
    reaches(kit, job_id, S.RUNNING)
    kit.fake.faults.finish(marker, exit_code=3)
    seen.tell(marker)
    reaches(kit, job_id, S.FAILED)

    assert kit.get(job_id).exit_code == 3
    assert kit.events(job_id).count("running") == 1


def test_what_the_watch_does_not_show_is_not_lost(kit, seen):
    """It may be younger than the watch; only a pass can prove an absence."""
    job_id = running(kit)
    marker = marker_of(kit, job_id)
    seen.tell(marker)
    reaches(kit, job_id, S.RUNNING)
    kit.fake.faults.forget(marker)

    seen.tell(marker)
    wait_until(lambda: not seen.told)
    other = running(kit)
    seen.tell(marker_of(kit, other))
    reaches(kit, other, S.RUNNING)
    assert kit.get(job_id).state is S.RUNNING

    kit.settle(lambda: not kit.broker.perform("observe:fake") and kit.get(job_id).state is S.FAILED)


def test_what_is_told_before_the_handle_is_written_is_told_again(kit, seen):
    """The backend is quicker to say that something is there than the worker to write that it has sent it."""
    held = threading.Event()
    adapter = adapter_of(kit)
    submit = adapter.submit

    def slow(ref, wanted):
        handle = submit(ref, wanted)
        seen.tell(ref.marker)
        assert wait_until(lambda: {ref.marker} in seen.later)
        held.set()
        return handle

    adapter.submit = slow
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.settle(lambda: held.is_set() and kit.get(job_id).state is not S.ACCEPTED)

    reaches(kit, job_id, S.RUNNING)


def test_markers_of_nobody_are_passed_over(kit, seen):
    job_id = running(kit)
    marker = marker_of(kit, job_id)

    seen.tell("", "x", f"{marker[:-1]}7", "wb-test-01jabcdefghjkmnpqrstvwxyz0-1", marker)

    reaches(kit, job_id, S.RUNNING)


def test_a_pass_that_looked_before_the_watch_wrote_is_refused(kit, seen):
    """What it has seen is older than what is written; it would take a service's replicas back."""
    job_id = running(kit)
    marker = marker_of(kit, job_id)
    adapter = adapter_of(kit)
    look = adapter.observe

    def slow(refs):
        found = look(refs)
        del adapter.observe
        kit.fake.faults.unknown_word(marker, "NEWER")
        seen.tell(marker)
        wait_until(lambda: kit.broker.attempts(job_id, ANA)[0].native_state == "NEWER")
        return found

    adapter.observe = slow
    kit.broker.perform("observe:fake")

    assert kit.broker.attempts(job_id, ANA)[0].native_state == "NEWER"
    assert kit.get(job_id).state is S.QUEUED


# ---- who watches, and what a pass is for ----------------------------------------------------------------


def test_it_answers_for_all_only_while_it_is_well(kit, seen):
    wait_until(lambda: answers_for_all(kit))
    assert kit.broker.backend("fake", ANA).watched is True
    assert kit.broker.figures()["backend_watched"] == {("fake",): 1.0}

    seen.fault = "jobs cannot be watched: forbidden"
    wait_until(lambda: not answers_for_all(kit))

    assert kit.broker.figures()["backend_watched"] == {("fake",): 0.0}
    assert kit.broker.backend("fake", ANA).watched is False
    assert kit.store.counters()["watch_failures"] == 1
    seen.fault = None
    wait_until(lambda: answers_for_all(kit))


def test_passes_are_rarer_while_it_does_and_as_often_as_ever_afterwards(kit):
    running(kit)
    with watching(kit) as (seen, *_):
        wait_until(lambda: answers_for_all(kit))
        kit.broker.perform("observe:fake")
        before = kit.fake.asked()["list"]
        wait_until(lambda: due(kit, "observe_at"), why="without a watch a pass would be due")
        kit.work()
        assert kit.fake.asked()["list"] == before
        seen.fault = "it is broken"
        kit.settle(lambda: kit.fake.asked()["list"] > before)
    assert not answers_for_all(kit)


def due(kit, name):
    at_ms = int(kit.store.client.hget(f"{kit.store.prefix}backend:fake", name))
    return at_ms < kit.store.now() * 1000


def test_of_two_workers_one_watches_and_the_other_takes_over(kit, redis_server):
    other = make_kit(kit.settings, kit.fake, kit.store.prefix)
    with watching(kit) as first:
        theirs = makes_watches(other)
        second = Watcher(other.broker, again_s=0.05)
        second.start()
        try:
            wait_until(lambda: answers_for_all(kit))
            assert (len(first), len(theirs)) == (1, 0)
            kit.store.client.hset(f"{kit.store.prefix}lease:watch:fake", "until", "0")  # as of a dead worker
            wait_until(lambda: theirs or len(first) > 1)
            wait_until(lambda: sum(not one.closed.is_set() for one in (*first, *theirs)) == 1)
        finally:
            second.stop()
            other.store.close()


def test_a_watch_that_lost_its_lease_writes_nothing(kit, seen):
    job_id = running(kit)
    kit.store.client.hset(f"{kit.store.prefix}lease:watch:fake", "until", "0")
    assert kit.store.leases.acquire("watch:fake", "another", 60)

    seen.tell(marker_of(kit, job_id))

    wait_until(seen.closed.is_set, why="it leaves")
    assert kit.get(job_id).state is S.QUEUED


def test_one_that_fails_begins_anew(kit):
    begun = makes_watches(kit)
    watcher = Watcher(kit.broker, again_s=0.05)
    watcher.start()
    try:
        first = wait_until(lambda: begun)[0]
        first.observe = None
        job_id = running(kit)
        first.tell(marker_of(kit, job_id))
        wait_until(lambda: len(begun) == 2)
        begun[1].tell(marker_of(kit, job_id))
        reaches(kit, job_id, S.RUNNING)
    finally:
        watcher.stop()


def test_only_what_can_be_watched_is(kit):
    assert kit.broker.backend("fake", ANA).watched is None
    assert watched(kit.broker.context) == ()
    makes_watches(kit)
    assert watched(kit.broker.context) == ("fake",)
    adapter_of(kit).capabilities = frozenset()
    assert watched(kit.broker.context) == ()
