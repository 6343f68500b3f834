"""Backends that come, go, die, refuse and are full, as the jobs at them see it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from adapters.base import LogQuery
from api_spec.errors import (
    BackendUnavailable,
)
from api_spec.jobs import (
    Kind,
    Placement,
)
from api_spec.reasons import Reason
from api_spec.states import JobState
from api_spec.views import JobQuery
from broker.lifecycle.context import UNPLACED
from broker.lifecycle.pending import carry_out
from broker.lifecycle.place import place
from broker.lifecycle.snapshots import Snapshots
from broker.store.changes import Change, Guard
from broker.store.jobs import ClaimLimits
from tests.builders import spec
from tests.fakes import running_fake
from tests.kit import ANA, ENDLESS, make_kit, settings_for

S = JobState


# ---- backends come and go ------------------------------------------------------------------------------


def test_jobs_of_a_backend_that_left_the_configuration_are_kept(pair):
    job_id = pair.submit(spec(environment=ENDLESS, placement=Placement(backends=("two",))))
    pair.reaches(job_id, S.RUNNING)
    settings = replace(pair.settings, backends=pair.settings.backends[:1])
    other = make_kit(settings, pair.fake, prefix=pair.store.prefix)

    other.work()
    other.broker.cancel(job_id, ANA)
    other.work()

    job = other.get(job_id)
    assert (job.state, job.reason, job.backend_reachable) == (S.RUNNING, Reason.BACKEND_DOWN, False)
    view = other.broker.backend("two", ANA)
    assert (view.configured, view.live_jobs) == (False, 1)
    other.store.close()
    pair.ended(job_id)


@pytest.fixture
def without_two(pair):
    """The same state, seen by a broker whose configuration has lost the backend ``two``."""
    settings = replace(pair.settings, backends=pair.settings.backends[:1])
    other = make_kit(settings, pair.fake, prefix=pair.store.prefix)
    yield other
    other.store.close()


def test_what_a_silent_backend_said_last_is_no_longer_the_reason(pair, without_two):
    """Neither of the job nor in the list, where an administrator looks first."""
    job_id = pair.submit(spec(environment={"FAKE_START_S": "1000"}, placement=Placement(backends=("two",))))
    pair.reaches(job_id, S.QUEUED)
    change = Change(set={"reason": Reason.PRIORITY, "message": "one is ahead"})
    pair.store.jobs.move(job_id, Guard(), change)

    [listed] = without_two.broker.list_jobs(JobQuery(project="vision"), ANA).items
    for seen in (without_two.get(job_id), listed):
        told = (seen.state, seen.reason, seen.message)
        assert told == (S.QUEUED, Reason.BACKEND_DOWN, "the backend two is not in the configuration")
    assert pair.get(job_id).reason is Reason.PRIORITY


def test_what_may_run_only_at_a_backend_that_was_taken_out_waits_for_it(pair, without_two):
    job_id = pair.submit(spec(hold=True, placement=Placement(backends=("two",))))
    without_two.broker.release(job_id, ANA)

    without_two.settle(lambda: without_two.get(job_id).reason is Reason.BACKEND_DOWN)
    job = without_two.get(job_id)
    assert job.state is S.ACCEPTED
    assert job.message == "the backend two is not in the configuration"
    assert pair.ended(job_id).state is S.COMPLETED


def test_what_waits_for_another_backend_says_so_although_one_was_taken_out(pair, without_two):
    job_id = pair.submit(spec(hold=True, placement=Placement(backends=("one", "two"))))
    pair.store.backends.set_flags("one", drained=True)
    without_two.broker.release(job_id, ANA)

    without_two.settle(lambda: without_two.get(job_id).reason is not None)
    assert without_two.get(job_id).reason is Reason.DRAINED


def test_what_is_asked_of_a_job_at_a_backend_that_was_taken_out_is_for_later(pair, without_two):
    """It can do all this, and nobody asked a wrong question."""
    place = Placement(backends=("two",))
    job_id = pair.submit(spec(environment={"FAKE_START_S": "1000"}, placement=place))
    service = pair.submit(spec(kind=Kind.INFERENCE, placement=place))
    pair.reaches(job_id, S.QUEUED)
    pair.reaches(service, S.RUNNING)

    for ask in (
        lambda: without_two.broker.log(job_id, ANA, LogQuery()),
        lambda: without_two.broker.hold(job_id, ANA),
        lambda: without_two.broker.update(service, ANA, replicas=2),
    ):
        with pytest.raises(BackendUnavailable, match="the backend two is not in the configuration"):
            ask()


def test_the_breaker_opens_after_failures_and_closes_when_the_backend_is_back(kit):
    kit.fake.kill()
    for _ in range(4):
        kit.broker.perform("refresh:fake")
    assert kit.store.backends.read("fake").not_before > 0

    kit.fake.start()
    kit.broker.perform("refresh:fake")

    known = kit.store.backends.read("fake")
    assert (known.reachable, known.not_before, known.failures) == (True, 0, 0)


def test_in_a_new_incarnation_an_attempt_is_looked_up_before_it_is_first_sent(kit):
    """Redis may have lost that it was sent: the backend is asked first."""
    job_id = kit.submit(spec())
    kit.store.begin_incarnation()

    assert kit.ended(job_id).state is S.COMPLETED

    assert kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker) == 1
    assert kit.fake.asked()["find"] if "find" in kit.fake.asked() else kit.fake.asked()["list"] >= 1


def test_a_list_is_filtered_by_everything_it_says(kit):
    wanted = kit.submit(spec(name="a", labels={"team": "vision"}))
    kit.submit(spec(name="b", labels={"team": "speech"}))
    kit.submit(spec(name="a", kind=Kind.BATCH))
    kit.ended(wanted)

    query = JobQuery(project="vision", name="a", labels={"team": "vision"}, kind=Kind.TRAINING, owner="ana")

    assert [job.id for job in kit.broker.list_jobs(query, ANA).items] == [wanted]


# ---- caps ----------------------------------------------------------------------------------------------


@contextmanager
def two_with(url, tmp_path, **caps_of_one):
    """Two backends of which the first has caps of its own; their jobs run until they are cancelled."""
    with running_fake(tmp_path, run_s=1000) as fake:
        one, two = replace(fake.config("one"), **caps_of_one), fake.config("two")
        kit = make_kit(settings_for(url, tmp_path, one, two), fake)
        yield kit
        kit.store.close()


def submit_to_each(kit, count):
    return {
        name: [kit.submit(spec(placement=Placement(backends=(name,)))) for _ in range(count)]
        for name in ("one", "two")
    }


def in_state(kit, ids, state):
    return sum(kit.get(job_id).state is state for job_id in ids)


def test_a_backend_takes_as_many_live_jobs_as_its_own_cap_says(redis_server, tmp_path):
    with two_with(redis_server, tmp_path, max_live_jobs=2) as kit:
        ids = submit_to_each(kit, 4)

        kit.settle(lambda: in_state(kit, ids["two"], S.RUNNING) == 4)
        kit.settle(lambda: in_state(kit, ids["one"], S.RUNNING) == 2)
        kit.settle(lambda: sum(kit.get(job_id).reason is Reason.QUOTA_EXCEEDED for job_id in ids["one"]) == 2)

        assert kit.broker.backend("one", ANA).live_jobs == 2
        caps = [view.caps.max_live_jobs for view in kit.broker.backends(ANA)]
        assert caps == [2, kit.settings.max_live_jobs]


def test_of_two_workers_at_the_last_place_of_a_backend_one_gets_it(redis_server, tmp_path):
    """Both have read that there is room; the write counts again, by the cap of that backend."""
    with two_with(redis_server, tmp_path, max_live_jobs=1) as kit:
        ids = submit_to_each(kit, 2)["one"]
        context = kit.broker.context
        limits = ClaimLimits(count=2, lease_s=60)
        queues = ("one", UNPLACED)  # where the first and, behind it, the second one were put
        claims = [claim for queue in queues for claim in context.store.jobs.claim("submit", queue, limits)]
        assert len(claims) == 2
        workers = [Snapshots(context) for _ in claims]
        for snapshots in workers:
            snapshots.facts(spec(), "ana", frozenset())

        for snapshots, claim in zip(workers, claims, strict=True):
            carry_out(context.store.jobs, place(context, snapshots, "one", claim))

        assert kit.store.backends.live_count("one") == 1
        assert in_state(kit, ids, S.ACCEPTED) == 1


def test_a_backend_gets_as_many_submits_a_second_as_its_own_cap_says(redis_server, tmp_path):
    with two_with(redis_server, tmp_path, max_submits_per_s=0.001) as kit:
        ids = submit_to_each(kit, 3)

        kit.broker.perform("drain:one")
        kit.broker.perform("drain:two")

        assert in_state(kit, ids["one"], S.ACCEPTED) == 2
        assert in_state(kit, ids["two"], S.ACCEPTED) == 0


def test_a_backend_is_drained_by_as_many_at_once_as_its_own_cap_says(redis_server, tmp_path):
    with two_with(redis_server, tmp_path, max_drains=1) as kit:
        ids = submit_to_each(kit, 1)
        for name in ids:
            assert kit.store.leases.take_slot(f"drain:{name}", "another worker", 1, 60)

        kit.broker.perform("drain:one")
        kit.broker.perform("drain:two")

        assert in_state(kit, ids["one"], S.ACCEPTED) == 1
        assert in_state(kit, ids["two"], S.ACCEPTED) == 0
