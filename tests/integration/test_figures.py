"""What an operator's graphs and alarms are made of."""

from __future__ import annotations

import pytest

from api_spec.states import JobState
from tests.builders import spec
from tests.kit import ANA, ENDLESS

S = JobState


def test_live_jobs_are_counted_by_backend_and_state_and_the_oldest_has_an_age(kit):
    first, second = (kit.submit(spec(environment=ENDLESS)) for _ in range(2))
    kit.reaches(first, S.RUNNING)
    kit.reaches(second, S.RUNNING)
    kit.submit(spec(hold=True))
    kit.ended(kit.submit(spec()))

    told = kit.broker.figures()

    assert told["backend_jobs"] == {("fake", "RUNNING"): 2, ("-", "ACCEPTED"): 1}
    age = kit.store.now() - kit.get(first).created_at
    assert told["oldest_job_seconds"]["fake", "RUNNING"] == pytest.approx(age, abs=0.5)
    assert told["jobs"]["vision", "COMPLETED"] == 1


def test_where_nothing_is_live_no_observer_is_late(kit):
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.RUNNING)
    key = f"{kit.store.prefix}backend:fake"
    an_hour_ago = int((kit.store.now() - 3600) * 1000)
    kit.store.client.hset(key, "seen_at", an_hour_ago)

    lag = kit.broker.figures()["observer_lag_seconds"]["fake",]
    assert 0 < lag <= kit.store.now() - kit.get(job_id).created_at + 0.5, (
        "it is no longer than the job is known"
    )

    kit.broker.cancel(job_id, ANA)
    kit.ended(job_id)
    kit.store.client.hset(key, "seen_at", an_hour_ago)
    assert kit.broker.figures()["observer_lag_seconds"] == {("fake",): 0.0}


def test_the_sweeper_says_when_it_was_there(kit):
    assert kit.broker.figures()["sweeper_lag_seconds"] == {}

    kit.broker.sweep()

    assert 0 <= kit.broker.figures()["sweeper_lag_seconds"][()] < 5


def test_what_only_grows_is_there_from_the_start(kit):
    before = kit.broker.figures()
    kit.submit(spec())
    kit.work()

    assert before["stale_writes_total"] == before["drains_total"] == {(): 0.0}
    assert kit.broker.figures()["drains_total"][()] >= 1
