"""Races and bad days of the whole lifecycle, each once a bug."""

from __future__ import annotations

from dataclasses import replace

import pytest

import adapters.errors
from adapters.base import LogQuery, Observation
from adapters.errors import Busy
from api_spec.errors import (
    LogGone,
)
from api_spec.jobs import (
    Array,
    Dependency,
    Kind,
    Resources,
    Retry,
)
from api_spec.reasons import Reason
from api_spec.schemas import dump_accepted
from api_spec.states import JobState
from api_spec.times import from_rfc3339
from api_spec.views import JobQuery
from broker.store.jobs import ClaimLimits
from tests.builders import spec
from tests.kit import ANA, ENDLESS, adapter_of, at, fake_kit, make_kit

S = JobState


def test_at_the_cap_an_unconfirmed_submission_is_still_looked_up(redis_server, tmp_path):
    """It counts as live itself, so a cap on claims kept it waiting for ever."""
    with fake_kit(redis_server, tmp_path, max_live_jobs=1) as kit:
        kit.fake.faults.lose_answers(1, of="submit")
        job_id = kit.submit(spec(environment=ENDLESS))

        kit.reaches(job_id, S.RUNNING)
        waiting = kit.submit(spec(name="next"))
        kit.settle(lambda: kit.get(waiting).reason is Reason.QUOTA_EXCEEDED)
        kit.broker.cancel(job_id, ANA)

        assert kit.ended(waiting, 20).state is S.COMPLETED


def test_pause_keeps_nobody_from_cancelling_what_may_have_been_sent(kit):
    kit.fake.faults.lose_answers(1, of="submit")
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.broker.perform("drain:fake")
    kit.broker.pause_backend("fake", ANA)

    kit.broker.cancel(job_id, ANA)

    assert kit.ended(job_id).state is S.CANCELLED


def test_what_a_backend_does_not_let_the_broker_see_keeps_its_state_and_says_so(kit, monkeypatch):
    """One namespace of a cluster was closed to it; the jobs of all others were then as old as that one's."""
    closed, seen = (kit.submit(spec(name=name, environment=ENDLESS)) for name in ("closed", "seen"))
    for job_id in (closed, seen):
        kit.reaches(job_id, S.RUNNING)
    hidden, observe = marker_of(kit, closed), adapter_of(kit).observe

    def without_one(refs):
        told = observe(refs)
        why = Observation(marker=hidden, state=None, reason=Reason.BACKEND_DOWN, message="it may not look")
        return replace(told, found={**told.found, hidden: why})

    monkeypatch.setattr(adapter_of(kit), "observe", without_one)
    job = kit.settle(lambda: (found := kit.get(closed)).reason and found, why="it says that it is not seen")

    assert (job.state, job.reason, job.message) == (S.RUNNING, Reason.BACKEND_DOWN, "it may not look")
    assert (job.backend_reachable, job.observed_at) == (False, None)
    other = kit.get(seen)
    assert (other.reason, other.backend_reachable) == (None, True)
    assert "unknown_words" not in kit.store.counters()
    monkeypatch.undo()
    kit.settle(lambda: kit.get(closed).backend_reachable, why="it is seen again")
    assert (kit.get(closed).state, kit.get(closed).reason) == (S.RUNNING, None)


def marker_of(kit, job_id):
    return kit.broker.attempts(job_id, ANA)[0].marker


def test_what_a_backend_forbids_one_job_closes_it_for_no_other(kit, monkeypatch):
    submit, calls = adapter_of(kit).submit, []

    def forbidden(ref, wanted):
        calls.append(ref)
        if wanted.name == "closed":
            raise Busy("it may not", 60.0, Reason.BACKEND_DOWN, is_local=True)
        return submit(ref, wanted)

    monkeypatch.setattr(adapter_of(kit), "submit", forbidden)
    refused = [kit.submit(spec(name="closed")) for _ in range(5)]
    kit.settle(lambda: all(kit.get(one).reason is Reason.BACKEND_DOWN for one in refused))

    assert kit.broker.backend("fake", ANA).reachable
    assert kit.ended(kit.submit(spec(name="open"))).state is S.COMPLETED


def test_to_a_paused_backend_nothing_is_sent_again(kit):
    kit.fake.faults.drop(1, of="submit")
    job_id = kit.submit(spec())
    kit.broker.perform("drain:fake")
    kit.broker.pause_backend("fake", ANA)
    kit.settle(lambda: kit.get(job_id).reason is Reason.DRAINED, why="proven absent, and not sent again")
    assert kit.fake.ledger() == []

    kit.broker.resume_backend("fake", ANA)

    assert kit.ended(job_id, 20).state is S.COMPLETED


def test_jobs_queued_for_a_backend_that_dies_go_elsewhere(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        job_id = kit.submit(spec())
        chosen = kit.broker.decisions(job_id, ANA)[0].chosen
        for _ in range(4):
            kit.store.backends.failed(chosen, "does not answer", int(kit.store.now() * 1000))
        kit.store.backends.postpone(chosen, "refresh_at", int((kit.store.now() + 60) * 1000))

        assert kit.ended(job_id).state is S.COMPLETED
        assert {kit.get(job_id).backend, chosen} == {"one", "two"}


def test_a_job_queued_for_a_backend_that_left_the_configuration_goes_elsewhere(pair):
    job_id = pair.submit(spec())
    chosen = pair.broker.decisions(job_id, ANA)[0].chosen
    others = tuple(config for config in pair.settings.backends if config.name != chosen)
    other = make_kit(replace(pair.settings, backends=others), pair.fake, prefix=pair.store.prefix)

    assert other.ended(job_id).state is S.COMPLETED
    other.store.close()


@pytest.mark.parametrize("moment", ["claimed", "run_checked"])
def test_a_hold_wins_over_a_worker_that_has_not_written_its_intent(kit, moment):
    job_id = kit.submit(spec())
    at(moment, lambda: kit.broker.hold(job_id, ANA))
    for _ in range(5):
        kit.work()

    assert (kit.get(job_id).state, kit.get(job_id).reason) == (S.ACCEPTED, Reason.HELD)
    kit.broker.release(job_id, ANA)
    assert kit.ended(job_id).state is S.COMPLETED


def test_a_scale_while_it_is_being_placed_is_not_lost(kit):
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    at("claimed", lambda: kit.broker.update(job_id, ANA, replicas=3))

    kit.settle(lambda: (kit.get(job_id).service or None) and kit.get(job_id).service.ready == 3)


def test_a_cancel_while_the_backend_refuses_is_carried_out(kit):
    kit.fake.faults.refuse()
    job_id = kit.submit(spec())
    at("submit_returned", lambda: kit.broker.cancel(job_id, ANA))

    job = kit.ended(job_id)

    assert (job.state, job.ended_by) == (S.CANCELLED, "user:ana")


def test_a_job_held_at_its_backend_is_not_run_by_a_retry(kit):
    retry = Retry(max_attempts=2, on=("NonZeroExit",))
    job_id = kit.submit(spec(environment=ENDLESS | {"FAKE_START_S": "1000"}, retry=retry))
    kit.reaches(job_id, S.QUEUED)
    kit.broker.hold(job_id, ANA)
    marker = kit.broker.attempts(job_id, ANA)[0].marker
    kit.fake.faults.finish(marker, exit_code=3)
    kit.settle(lambda: kit.get(job_id).state is S.ACCEPTED, why="the first attempt has ended")
    for _ in range(5):
        kit.work()

    assert kit.get(job_id).reason is Reason.HELD
    assert kit.get(job_id).attempt == 1


def test_a_server_that_lost_writes_is_noticed_before_anything_is_sent(kit):
    """A record from before the loss says that the attempt was never sent; the backend knows better."""
    job_id = kit.submit(spec(environment=ENDLESS))
    client, prefix = kit.store.client, kit.store.prefix
    before = {key: client.dump(key) for key in client.keys(f"{prefix}*")}
    kit.reaches(job_id, S.RUNNING)
    marker = kit.broker.attempts(job_id, ANA)[0].marker
    for key in client.keys(f"{prefix}*"):
        client.delete(key)
    for key, value in before.items():
        if b"hint:" not in key:  # their expiry is not in the dump
            client.restore(key, 0, value)
    client.hset(f"{prefix}meta", "run_id", "of the server before")
    kit.store._run_id = "of the server before"

    kit.hints.clear()
    kit.reaches(job_id, S.RUNNING)

    assert kit.fake.starts(marker) == 1


def test_a_log_that_was_asked_for_too_early_goes_on_from_its_start(kit):
    """What a page says before there is a log is a place to go on from, as any other page says one."""
    job_id = kit.submit(spec(environment={"FAKE_LOG": "hello"}))
    early = kit.broker.log(job_id, ANA, LogQuery())
    kit.ended(job_id)

    later = kit.broker.log(job_id, ANA, LogQuery(cursor=early.cursor))

    assert (early.data, early.cursor, early.complete) == (b"", "", False)
    assert later.data == kit.broker.log(job_id, ANA, LogQuery()).data != b""


def test_a_job_can_be_followed_through_the_logs_of_all_processes(kit, caplog):
    with caplog.at_level("INFO"):
        job_id = kit.submit(spec())
    with caplog.at_level("INFO"):
        kit.ended(job_id)

    lines = [record for record in caplog.records if getattr(record, "job", None) == job_id]
    assert [line.message for line in lines] == ["accepted", "handed over", "ended"]
    assert lines[0].backend == "fake"
    assert [(line.attempt, line.backend) for line in lines[1:]] == [(1, "fake")] * 2
    assert (lines[2].state, lines[2].reason) == (S.COMPLETED, Reason.COMPLETED)


def test_a_log_that_nobody_has_any_more_is_gone_and_not_late(kit, monkeypatch):
    """Who hears that a backend is away asks again, and would for ever."""
    job_id = kit.submit(spec())
    kit.ended(job_id)

    def gone(*_):
        raise adapters.errors.LogGone("its logs are gone")

    monkeypatch.setattr(adapter_of(kit), "logs", gone)

    with pytest.raises(LogGone) as told:
        kit.broker.log(job_id, ANA, LogQuery())
    assert (told.value.http_status, told.value.retryable) == (410, False)


def test_what_a_backend_has_is_dated_as_everything_else(kit):
    kit.broker.perform("refresh:fake")

    view = kit.broker.backend("fake", ANA)

    for told in (view.inventory, view.load):
        assert abs(from_rfc3339(told["as_of"]) - kit.store.now()) < 60


def test_the_first_attempt_of_an_array_names_its_tasks_too(kit):
    """An adapter learns from them where the log of a task is; nobody else tells it that there are tasks."""
    job_id = kit.submit(spec(array=Array(indices="0-6:2")))

    kit.settle(lambda: kit.broker.attempts(job_id, ANA))

    assert kit.broker.attempts(job_id, ANA)[0].task_indices == "0-6:2"


def test_a_job_that_breaks_its_workers_is_set_aside(kit, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("a bug")

    job_id = kit.submit(spec())
    monkeypatch.setattr("broker.lifecycle.dispatch.place", broken)
    for _ in range(9):
        kit.store.client.zadd(f"{kit.store.prefix}due:submit:fake:vision", {job_id: 0})
        kit.broker.perform("drain:fake")

    job = kit.get(job_id)
    assert (job.state, job.reason) == (S.ACCEPTED, Reason.HELD)
    assert "set aside" in job.message


def test_what_a_slow_backend_leaves_of_a_batch_counts_as_no_try(kit):
    """A worker may handle a few of many before its lease is nearly over.  The rest was set aside in the end,
    as if it had broken its workers."""
    kit.fake.faults.delay(0.8, of="submit")
    ids = [kit.submit(spec()) for _ in range(3)]

    kit.broker.perform("drain:fake")

    records = [kit.store.jobs.read(job_id) for job_id in ids]
    left = [record for record in records if record.state is S.ACCEPTED]
    assert len(left) == 2
    assert {record.tries for record in left} == {0}
    claims = kit.store.jobs.claim("submit", "fake", ClaimLimits(count=9, lease_s=1))
    assert {claim.record.id for claim in claims} == {record.id for record in left}, "due at once"


def test_an_array_that_was_lost_runs_what_has_not_completed(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, {"run_s": 1000}) as kit:
        job_id = kit.submit(spec(array=Array(indices="0-2"), retry=Retry(max_attempts=2, on=("Lost",))))
        kit.reaches(job_id, S.RUNNING)
        first = kit.broker.attempts(job_id, ANA)[0].marker
        kit.fake.faults.finish_task(first, 0)
        kit.settle(lambda: kit.get(job_id).tasks.get("COMPLETED") == 1)
        kit.fake.faults.forget(first)
        kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2)

        assert [one.task_indices for one in kit.broker.attempts(job_id, ANA)] == ["0-2", "1,2"]


def test_what_was_accepted_once_is_replayed_when_it_would_be_refused_now(kit):
    wanted = [spec(resources=Resources(gpus_per_node=8))]
    first = kit.broker.accept(wanted, ANA, key="k", body_digest="d")
    kit.fake.faults.has({"name": "cpu", "count": 1, "cpus": 4, "memory_mib": 1024})
    kit.broker.perform("refresh:fake")
    kit.broker.snapshots.forget()

    assert kit.broker.accept(wanted, ANA, key="k", body_digest="d").jobs[0].id == first.jobs[0].id


def test_a_repeated_request_has_the_answer_of_the_first_whatever_has_become_of_the_jobs(kit):
    wanted = [
        spec(name="first", time_limit_s=3600, environment={"FAKE_START_S": "forever"}),
        spec(name="second", depends_on=(Dependency(name="first"),), labels={"team": "vision"}),
        spec(name="third", hold=True),
    ]
    first = kit.broker.accept(wanted, ANA, key="k", body_digest="d")
    ids = [job.id for job in first.jobs]
    kit.reaches(ids[0], S.QUEUED)
    kit.broker.update(ids[0], ANA, spec=replace(kit.get(ids[0]).spec, time_limit_s=1800))
    kit.broker.cancel(ids[2], ANA)

    again = kit.broker.accept(wanted, ANA, key="k", body_digest="d")

    assert again.replayed
    assert dump_accepted(again) == dump_accepted(first)
    assert kit.get(ids[0]).spec.time_limit_s == 1800


def test_a_repeated_resubmission_has_the_answer_of_the_first(kit):
    job_id = kit.submit(spec())
    first = kit.broker.resubmit(job_id, ANA, key="k")
    kit.ended(first.jobs[0].id)

    assert dump_accepted(kit.broker.resubmit(job_id, ANA, key="k")) == dump_accepted(first)


def test_two_owners_behind_one_portal_may_think_of_the_same_key(kit):
    portal = replace(ANA, subject="portal")
    first = kit.broker.accept([spec()], portal, key="k", body_digest="d")
    second = kit.broker.accept([spec()], replace(portal, owner="ben"), key="k", body_digest="d")

    assert (first.jobs[0].owner, second.jobs[0].owner) == ("ana", "ben")


def test_ended_jobs_are_packed_read_as_before_and_forgotten(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, pack_after_s=0.1, retention_s=0.6) as kit:
        job_id = kit.submit(spec(labels={"team": "vision"}))
        before = kit.ended(job_id)

        def packed():
            kit.broker.sweep()
            return kit.store.client.exists(f"{kit.store.prefix}packed:{job_id}")

        kit.settle(packed)
        assert kit.get(job_id) == before
        assert (
            len(kit.broker.list_jobs(JobQuery(project="vision", labels={"team": "vision"}), ANA).items) == 1
        )

        kit.settle(lambda: kit.store.jobs.read(job_id) is None, why="it is forgotten")
        assert not [key for key in kit.store.client.keys(f"{kit.store.prefix}*") if job_id.encode() in key]
        assert kit.store.client.exists(f"{kit.store.prefix}index:vision") == 0


def test_one_that_cannot_be_forgotten_does_not_keep_the_others(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, names=("one", "two"), pack_after_s=0.05, retention_s=0.3) as kit:
        pinned = kit.submit(spec(name="pinned"))
        kit.submit(spec(name="waits", hold=True, depends_on=(Dependency(job=pinned),)))
        kit.ended(pinned)
        others = [kit.submit(spec(name=f"o{i}")) for i in range(3)]

        def gone():
            kit.broker.sweep()
            return not any(kit.store.jobs.read(job_id) for job_id in others)

        kit.settle(gone)
        assert kit.store.jobs.read(pinned) is not None
