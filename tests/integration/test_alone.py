"""Who works alone: the observer of a backend, its refresh, forgetting; and for how long one is sure of it."""

from __future__ import annotations

import time

import pytest

from adapters.errors import Busy
from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.lifecycle import points
from tests.builders import spec
from tests.helpers import wait_until
from tests.kit import ANA, ENDLESS, adapter_of, at, fake_kit

S = JobState
LEASE_S = 0.6


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, lease_s=LEASE_S) as kit:
        yield kit


class Within:
    """Does ``step`` within the first call of a method of the adapter, and counts the calls."""

    def __init__(self, kit, monkeypatch, name, step, backend="fake"):
        self.calls, self.step = 0, step
        self.method = getattr(adapter_of(kit, backend), name)
        monkeypatch.setattr(adapter_of(kit, backend), name, self)

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == 1:
            self.step()
        return self.method(*arguments)


def another_observer(kit):
    """The epoch of somebody else who asks for the lease; None: it is taken."""
    return kit.store.leases.acquire("observe:fake", "another", 60)


@pytest.fixture
def unseen(kit):
    """A job that runs at its backend, which nobody has observed."""
    kit.store.backends.postpone("fake", "observe_at", 1 << 42)
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.QUEUED)
    kit.settle(lambda: kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker))
    return job_id


def dies():
    """As far as a worker in this process can: it does not go on with the job."""
    raise points.Injected("here")


def took_a_while(seconds):
    over_at = time.monotonic() + seconds
    return lambda: time.monotonic() > over_at


# ---- the observer ----------------------------------------------------------------------------------------


def test_an_observer_keeps_its_lease_through_a_pass_that_outlasts_it(kit, monkeypatch, unseen):
    def long_pass():
        over_at = time.monotonic() + 2.5 * LEASE_S
        asked = []

        def over():
            asked.append(another_observer(kit))
            return time.monotonic() > over_at

        wait_until(over)
        assert set(asked) == {None}, "somebody else got the lease in the middle of the pass"

    Within(kit, monkeypatch, "observe", long_pass)

    kit.broker.perform("observe:fake")

    assert kit.get(unseen).state is S.RUNNING, "what it saw is written"
    assert another_observer(kit) is not None, "the lease is given back"


def test_while_one_observes_a_second_does_nothing(kit, monkeypatch, unseen):
    observe = Within(kit, monkeypatch, "observe", lambda: kit.broker.perform("observe:fake"))

    kit.broker.perform("observe:fake")

    assert observe.calls == 1
    assert kit.get(unseen).state is S.RUNNING


def test_an_observer_that_has_lost_its_lease_writes_nothing(kit, monkeypatch, unseen):
    def stopped_for_long():
        kit.store.client.hset(f"{kit.store.prefix}lease:observe:fake", "until", "0")
        assert another_observer(kit) is not None

    Within(kit, monkeypatch, "observe", stopped_for_long)

    kit.broker.perform("observe:fake")

    assert kit.get(unseen).state is S.QUEUED


# ---- refresh and forget ----------------------------------------------------------------------------------


def test_while_one_refreshes_a_second_does_nothing(kit, monkeypatch):
    inventory = Within(kit, monkeypatch, "inventory", lambda: kit.broker.perform("refresh:fake"))

    kit.broker.perform("refresh:fake")
    alone = inventory.calls
    kit.broker.perform("refresh:fake")

    assert (alone, inventory.calls) == (2, 4), "inventory, and load that asks for it, once for each refresh"


def test_a_backend_that_hangs_keeps_no_other_from_being_refreshed(redis_server, tmp_path, monkeypatch):
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        other = Within(kit, monkeypatch, "inventory", lambda: None, backend="two")
        Within(kit, monkeypatch, "inventory", lambda: kit.broker.perform("refresh:two"), backend="one")

        kit.broker.perform("refresh:one")

        assert other.calls


def test_a_refresh_that_fails_gives_its_place_back(kit, monkeypatch):
    def refuses():
        raise Busy("not now", reason=Reason.BACKEND_DOWN)

    inventory = Within(kit, monkeypatch, "inventory", refuses)
    kit.broker.perform("refresh:fake")

    kit.broker.perform("refresh:fake")

    assert inventory.calls > 1
    assert kit.store.backends.read("fake").reachable is True


def test_while_one_forgets_a_second_does_nothing(redis_server, tmp_path, monkeypatch):
    with fake_kit(redis_server, tmp_path, pack_after_s=0.05, retention_s=0.3) as kit:
        ids = [kit.submit(spec(name=f"j{i}")) for i in range(3)]
        for job_id in ids:
            kit.ended(job_id)
        cleanup = Within(kit, monkeypatch, "cleanup", lambda: kit.broker.perform("forget"))

        def gone():
            kit.broker.sweep()
            return not any(kit.store.jobs.read(job_id) for job_id in ids)

        kit.settle(gone)

        assert cleanup.calls == 3, "each attempt is cleaned up once"


# ---- the settle time (docs/decisions/0007) ---------------------------------------------------------------


class Looks:
    """What a look-up is told of the last moment at which the attempt may have been sent."""

    def __init__(self, kit, monkeypatch):
        self.since, find = [], adapter_of(kit).find
        monkeypatch.setattr(
            adapter_of(kit), "find", lambda marker, since: self.since.append(since) or find(marker, since)
        )


def test_a_worker_that_died_may_have_called_until_half_its_lease_was_over(kit, monkeypatch):
    looks = Looks(kit, monkeypatch)
    job_id = kit.submit(spec())
    at("intent_written", dies)
    kit.broker.perform("drain:fake")
    written = kit.broker.attempts(job_id, ANA)[0].submitted_at

    assert kit.ended(job_id).state is S.COMPLETED

    assert looks.since[0] == pytest.approx(written + LEASE_S / 2, abs=0.002)


def test_after_a_lost_answer_the_settle_time_begins_with_the_end_of_the_call(
    redis_server, tmp_path, monkeypatch
):
    """Not when the intent was written, and not when the worker's time would have been over."""
    with fake_kit(redis_server, tmp_path, lease_s=60) as kit:
        looks = Looks(kit, monkeypatch)
        kit.fake.faults.drop(1, of="submit")
        over = []
        submit = Within(kit, monkeypatch, "submit", lambda: wait_until(took_a_while(0.4)))
        dropped = submit.method

        def and_tell(*arguments):
            try:
                return dropped(*arguments)
            finally:
                over.append(kit.store.now())

        submit.method = and_tell
        job_id = kit.submit(spec())

        assert kit.ended(job_id).state is S.COMPLETED

        written = kit.broker.attempts(job_id, ANA)[0].submitted_at
        assert looks.since[0] >= over[0] - 0.001
        assert looks.since[0] == pytest.approx(over[0], abs=0.3)
        assert written >= over[0], "and it was sent again only after the proof"


def test_a_worker_that_was_held_up_until_half_its_lease_was_over_does_not_call(kit, monkeypatch):
    submit = Within(kit, monkeypatch, "submit", lambda: None)
    at("intent_written", lambda: wait_until(took_a_while(LEASE_S / 2 + 0.02)))
    job_id = kit.submit(spec())

    kit.broker.perform("drain:fake")

    assert submit.calls == 0
    assert kit.ended(job_id).state is S.COMPLETED
    assert kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker) == 1
