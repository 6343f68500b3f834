"""A worker's run over several jobs: what one leaves to write goes with what the next one begins with."""

from __future__ import annotations

from api_spec.jobs import Dependency, When
from api_spec.states import JobState
from broker.lifecycle import dispatch, native
from broker.store.jobs import ClaimLimits
from tests.builders import spec
from tests.helpers import wait_until
from tests.kit import ANA, ENDLESS, adapter_of, at, fake_kit

S = JobState
MANY = 8


def claimed(kit, lane):
    limits = ClaimLimits(count=9, lease_s=60)

    def some():
        return kit.store.jobs.claim(lane, "fake", limits)

    return wait_until(some)


def submit_many(kit, count=MANY):
    return [kit.submit(spec(environment=ENDLESS)) for _ in range(count)]


def states(kit, ids):
    return [kit.get(job_id).state for job_id in ids]


def starts(kit, job_id):
    return kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker)


def moves_of(kit, monkeypatch, ids):
    """How often the store was written to while these were handed over."""
    names = []
    monkeypatch.setattr(kit.store.scripts, "watch", names.append)
    kit.broker.perform("drain:fake")
    assert states(kit, ids) == [S.QUEUED] * len(ids)
    return names.count("move")


def test_a_handle_and_the_next_intent_are_one_trip_to_the_store(kit, monkeypatch):
    assert moves_of(kit, monkeypatch, submit_many(kit)) == MANY + 1


def test_a_single_job_is_written_twice(kit, monkeypatch):
    assert moves_of(kit, monkeypatch, submit_many(kit, 1)) == 2


def test_each_handle_is_written_before_the_next_job_is_sent(kit, monkeypatch):
    """Whoever dies in a slow call leaves one attempt to be looked for, and not two."""
    ids, seen = submit_many(kit, 3), []
    adapter = adapter_of(kit)
    submit = adapter.submit

    def watched(ref, job):
        seen.append(states(kit, ids).count(S.QUEUED))
        return submit(ref, job)

    monkeypatch.setattr(adapter, "submit", watched)
    kit.broker.perform("drain:fake")

    assert seen == [0, 1, 2]


def break_at(job_id, monkeypatch):
    place = dispatch.place

    def broken(context, snapshots, backend, claim):
        if claim.record.id == job_id:
            raise ZeroDivisionError("a bug")
        return place(context, snapshots, backend, claim)

    monkeypatch.setattr(dispatch, "place", broken)


def test_a_job_that_breaks_its_worker_takes_no_handle_of_another_along(kit, monkeypatch):
    ids = submit_many(kit, 3)
    break_at(ids[1], monkeypatch)

    kit.broker.perform("drain:fake")

    assert states(kit, ids) == [S.QUEUED, S.ACCEPTED, S.QUEUED]
    assert [starts(kit, job_id) for job_id in (ids[0], ids[2])] == [1, 1]


def test_the_last_job_of_a_run_may_break_its_worker(kit, monkeypatch):
    ids = submit_many(kit, 2)
    break_at(ids[1], monkeypatch)

    kit.broker.perform("drain:fake")

    assert states(kit, ids) == [S.QUEUED, S.ACCEPTED]


def test_a_handle_that_cannot_be_written_keeps_no_other_job_from_its_turn(kit, monkeypatch):
    """Before a job that takes its time the handle is written alone: what fails there is no end of the run."""
    lost, later = submit_many(kit, 2)
    kit.fake.faults.busy(of="submit")
    kit.broker.perform("drain:fake")
    [waiting] = [job_id for job_id in (lost, later) if kit.get(job_id).state is S.SUBMITTING]
    before = submit_many(kit, 1)[0]
    claims = claimed(kit, "submit") + claimed(kit, "act")
    assert [claim.record.id for claim in claims] == [before, waiting]

    def broken(jobs, pending):
        raise ZeroDivisionError("a bug")

    run = dispatch._Run(kit.broker.context, kit.broker.snapshots, "fake")
    assert run.handle(claims[0]) == 1
    monkeypatch.setattr(dispatch, "carry_out", broken)

    assert run.handle(claims[1]) == 0
    assert kit.store.counters()["drain_failures"] == 1


def test_an_intent_that_is_refused_lets_the_handle_beside_it_be_written(kit):
    """The second job is cancelled between its claim and its first write."""
    ids = submit_many(kit, 3)
    at("submit_returned", lambda: kit.broker.cancel(ids[1], ANA))

    kit.broker.perform("drain:fake")

    assert states(kit, ids) == [S.QUEUED, S.CANCELLED, S.QUEUED]
    assert kit.broker.attempts(ids[1], ANA) == ()


def test_a_handle_that_comes_too_late_lets_the_intent_beside_it_be_written(kit):
    """Somebody else has claimed the first job while the backend answered: its handle is refused."""
    ids = submit_many(kit, 2)
    key = f"{kit.store.prefix}job:{ids[0]}"
    at("submit_returned", lambda: kit.store.client.hincrby(key, "epoch", 1))

    kit.broker.perform("drain:fake")

    assert states(kit, ids) == [S.SUBMITTING, S.QUEUED]
    assert kit.store.counters()["stale_writes"] == 1


def test_a_backend_that_is_busy_is_written_so_for_each_job(kit):
    ids = submit_many(kit, 3)
    kit.fake.faults.busy(times=3)

    kit.broker.perform("drain:fake")

    assert states(kit, ids) == [S.SUBMITTING] * 3
    assert None not in [kit.get(job_id).reason for job_id in ids]


def test_what_was_handed_over_is_written_before_a_dependant_looks_for_it(redis_server, tmp_path, monkeypatch):
    """It may be a predecessor, whose handle must not be the one that is still to be written."""
    with fake_kit(redis_server, tmp_path, backend_options={"native_dependencies": True}) as kit:
        first = submit_many(kit, 1)[0]
        kit.reaches(first, S.QUEUED)
        before = submit_many(kit, 1)[0]
        kit.submit(spec(depends_on=(Dependency(job=first, when=When.SUCCEEDED),)))
        predecessors, seen = native.predecessors, []

        def watched(*arguments):
            seen.append(kit.get(before).state)
            return predecessors(*arguments)

        monkeypatch.setattr(native, "predecessors", watched)
        kit.broker.perform("release")
        kit.broker.perform("drain:fake")

        assert seen == [S.QUEUED]
