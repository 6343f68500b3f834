"""A dependant that waits at its predecessor's backend starts, fails and comes back as one of the broker's."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from api_spec.jobs import Array, Dependency, Input, Kind, Output, OutputOf, Placement, Retry, When
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.store.changes import Change, Guard
from tests.builders import spec
from tests.contract.places import new_ref
from tests.kit import ANA, ENDLESS, at, fake_kit

S = JobState
NATIVE = {"native_dependencies": True}
ENDS = (When.SUCCEEDED, When.ENDED)


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, backend_options=NATIVE) as kit:
        yield kit


@pytest.fixture
def pair(redis_server, tmp_path):
    """Two backends, ``one`` and ``two``, behind which the same fake stands."""
    with fake_kit(redis_server, tmp_path, names=("one", "two"), backend_options=NATIVE) as kit:
        yield kit


def marker(kit, job_id, number=1):
    return kit.broker.attempts(job_id, ANA)[number - 1].marker


def after(job_id, when=When.SUCCEEDED, **changes):
    return spec(name="second", depends_on=(Dependency(job=job_id, when=when),), **changes)


def running(kit, **changes):
    job_id = kit.submit(spec(name="first", **{"environment": ENDLESS, **changes}))
    kit.reaches(job_id, S.RUNNING)
    return job_id


def waits_there(kit, job_id):
    """At the backend, held back by it."""
    kit.reaches(job_id, S.QUEUED)
    kit.settle(lambda: kit.get(job_id).reason is Reason.DEPENDENCY_NOT_MET, why="it waits there")
    return job_id


def stays_here(kit, job_id):
    """In the broker: the job was looked at, and has been at no backend."""
    kit.settle(lambda: not kit.store.client.exists(f"{kit.store.prefix}release"), why="it was looked at")
    for _ in range(3):
        kit.work()
    seen = kit.get(job_id)
    assert (seen.state, seen.reason) == (S.ACCEPTED, Reason.DEPENDENCY_NOT_MET)
    assert kit.broker.attempts(job_id, ANA) == ()
    return seen


def finish(kit, job_id, **how):
    kit.fake.faults.finish(marker(kit, job_id), **how)


def started(kit, job_id):
    """How often the backend has started each attempt, by its own ledger."""
    return [kit.fake.starts(one.marker) for one in kit.broker.attempts(job_id, ANA)]


# ---- as with the broker --------------------------------------------------------------------------------

# when, how the predecessor ends, what becomes of the dependant
CASES = [
    (When.SUCCEEDED, {"exit_code": 0}, S.COMPLETED),
    (When.SUCCEEDED, {"exit_code": 3}, S.FAILED),
    (When.SUCCEEDED, {"signal": 9}, S.FAILED),
    (When.SUCCEEDED, {"word": "STOPPED", "exit_code": None}, S.FAILED),
    (When.ENDED, {"exit_code": 0}, S.COMPLETED),
    (When.ENDED, {"exit_code": 3}, S.COMPLETED),
    (When.ENDED, {"word": "STOPPED", "exit_code": None}, S.COMPLETED),
]


@pytest.mark.parametrize("native", [True, False], ids=["natively", "by the broker"])
@pytest.mark.parametrize("when, how, expected", CASES, ids=str)
def test_it_ends_as_when_the_broker_holds_it(redis_server, tmp_path, native, when, how, expected):
    options = {"native_dependencies": native}
    with fake_kit(redis_server, tmp_path, backend_options=options) as kit:
        first = running(kit)
        second = kit.submit(after(first, when))
        waits_there(kit, second) if native else stays_here(kit, second)
        finish(kit, first, **how)

        job = kit.ended(second)

        assert job.state is expected
        if expected is S.FAILED:
            assert (job.reason, job.ended_by) == (Reason.DEPENDENCY_FAILED, "broker")
            assert job.message == f"waited for job {first} to have {when}, which can no longer happen"
        assert sum(started(kit, second)) == (expected is S.COMPLETED)
        assert len(kit.broker.attempts(second, ANA)) == (native or expected is S.COMPLETED)
        assert kit.fake.control("asked")["submit"] == 1 + len(kit.broker.attempts(second, ANA))


def test_the_whole_story_is_told(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))

    told = f"waits for {first} to have succeeded; fake itself holds it back until then"
    assert kit.get(second).message == told
    assert [(one.code, one.message) for one in kit.broker.pending(second, ANA)] == [
        (Reason.DEPENDENCY_NOT_MET, told)
    ]
    assert kit.broker.decisions(second, ANA)[-1].summary.endswith(
        f"fake itself waits for {first} to have succeeded"
    )
    finish(kit, first)
    kit.ended(second)
    events = kit.events(second)
    assert events[:4] == ["accepted", "submitting", "queued", "dependencies_met"]
    assert events[4:] in (["completed"], ["running", "completed"])


def test_a_chain_waits_there_as_a_whole_and_fails_as_a_whole(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    third = waits_there(kit, kit.submit(after(second)))
    finish(kit, first, exit_code=3)

    ends = [kit.ended(job_id) for job_id in (second, third)]

    assert [(one.state, one.reason) for one in ends] == [(S.FAILED, Reason.DEPENDENCY_FAILED)] * 2
    assert ends[1].message.startswith(f"waited for job {second} ")
    assert started(kit, second) + started(kit, third) == [0, 0]


def test_it_waits_for_what_is_still_open_and_no_more(kit):
    done = kit.submit(spec(name="done"))
    kit.ended(done)
    first = running(kit)
    edges = (Dependency(job=done), Dependency(job=first))

    second = waits_there(kit, kit.submit(spec(name="second", depends_on=edges)))

    assert done not in kit.get(second).message
    finish(kit, first)
    assert kit.ended(second).state is S.COMPLETED


def test_a_dependant_follows_its_predecessor_to_the_backend(kit):
    """When it was accepted the first one was nowhere yet."""
    ids = kit.submit_all(
        spec(name="first", environment=ENDLESS),
        spec(name="second", depends_on=(Dependency(name="first"),)),
    )

    waits_there(kit, ids[1])


# ---- not natively --------------------------------------------------------------------------------------

HERE = {
    "started": (
        {"environment": {"FAKE_START_S": "1000"}},
        lambda first: after(first, When.STARTED),
    ),
    "failed": ({}, lambda first: after(first, When.FAILED)),
    "another attempt may follow": (
        {"retry": Retry(max_attempts=2, on=("NodeLost",))},
        lambda first: after(first),
    ),
    "an array to wait for": ({"array": Array(indices="0-1")}, lambda first: after(first)),
    "an array that waits": ({}, lambda first: after(first, array=Array(indices="0-1"))),
    "a service that waits": ({}, lambda first: after(first, kind=Kind.INFERENCE)),
    "an output that is not there yet": (
        {"outputs": (Output(name="model", path="m"),)},
        lambda first: spec(
            name="second", inputs=(Input(name="m", from_output=OutputOf(job=first, output="model")),)
        ),
    ),
}


@pytest.mark.parametrize("case", HERE)
def test_what_the_backend_cannot_judge_as_the_broker_does_stays_in_the_broker(kit, case):
    changes, second = HERE[case]
    first = kit.submit(spec(name="first", **{"environment": ENDLESS, **changes}))
    kit.settle(lambda: kit.get(first).state in (S.QUEUED, S.RUNNING))

    stays_here(kit, kit.submit(second(first)))


def test_two_that_are_at_two_backends_are_waited_for_here(pair):
    ids = [running(pair, placement=Placement(backends=(name,))) for name in ("one", "two")]

    stays_here(pair, pair.submit(spec(name="x", depends_on=tuple(Dependency(job=one) for one in ids))))


def test_a_job_that_would_be_placed_elsewhere_waits_here_and_says_so(pair):
    first = running(pair, placement=Placement(backends=("one",)))

    second = pair.submit(after(first, placement=Placement(backends=("two",))))

    pair.settle(lambda: pair.get(second).message, why="it was decided")
    why = "the broker holds it: it would now be placed at two, and its predecessors are at one"
    assert stays_here(pair, second).message == why
    assert pair.broker.decisions(second, ANA)[0].summary.endswith(why)
    finish(pair, first)
    assert pair.ended(second).backend == "two"


@pytest.mark.parametrize("how", ["drain", "pause"])
def test_a_backend_that_takes_nothing_gets_no_dependants(kit, how):
    first = running(kit)
    kit.store.backends.set_flags("fake", drained=how == "drain", paused=how == "pause")

    seen = stays_here(kit, kit.submit(after(first)))

    assert seen.message == (
        "the broker holds it: it would now be placed at no backend, and its predecessors are at fake"
    )


def test_a_predecessor_that_was_sent_twice_may_have_a_copy(kit):
    """The end of one copy is not the end of the other."""
    kit.fake.faults.drop(of="submit")
    first = kit.submit(spec(name="first", environment=ENDLESS))
    kit.reaches(first, S.RUNNING)

    stays_here(kit, kit.submit(after(first, When.ENDED)))


# ---- what goes wrong -----------------------------------------------------------------------------------


def test_a_predecessor_that_is_gone_at_the_backend_is_not_waited_for_there(kit):
    """The fake, as some releases of Slurm, would start the job at once."""
    first = running(kit)
    kit.fake.faults.finish(marker(kit, first), exit_code=3)
    kit.fake.faults.forget(marker(kit, first))
    second = kit.submit(after(first))

    job = kit.ended(second)

    assert (job.state, job.reason) == (S.FAILED, Reason.DEPENDENCY_FAILED)
    assert sum(started(kit, second)) == 0


def test_an_id_that_is_somebody_elses_now_is_not_waited_for(kit):
    """It is checked in the call itself: between the decision and the call anything can happen."""
    first = running(kit)

    def somebody_else_gets_the_id():
        (attempt,) = kit.store.jobs.parts(first).attempts
        kit.fake.faults.forget(marker(kit, first))
        kit.fake.faults.reuse_ids(first=attempt.handle["id"])
        kit.fake.adapter().submit(*_stranger(attempt.handle["id"]))

    at("waits_there", somebody_else_gets_the_id)
    second = kit.submit(after(first))

    job = kit.ended(second)

    assert (job.state, job.reason) == (S.FAILED, Reason.DEPENDENCY_FAILED)
    assert sum(started(kit, second)) == 0
    assert kit.get(first).reason is Reason.LOST


def _stranger(native_id):
    job = spec(name="stranger")
    return new_ref(job), job


def test_an_attempt_that_could_not_wait_there_is_no_try(kit):
    """It comes back to the broker, and the job has all its attempts yet."""
    first = running(kit)
    at("waits_there", lambda: kit.fake.faults.finish(marker(kit, first)))
    retry = Retry(max_attempts=2, on=("NonZeroExit",))
    second = kit.submit(after(first, retry=retry, environment={"FAKE_EXIT": "1"}))

    job = kit.ended(second)

    assert (job.state, job.reason) == (S.FAILED, Reason.NON_ZERO_EXIT)
    assert started(kit, second) == [0, 1, 1]
    taken_back = kit.broker.attempts(second, ANA)[0]
    assert (taken_back.outcome, taken_back.reason) == (S.CANCELLED, Reason.DEPENDENCY_NOT_MET)
    assert "withdrawn" in kit.events(second)


def test_a_predecessor_that_ends_before_an_unsure_submit_is_sent_again_is_not_waited_for(kit):
    first = running(kit)
    kit.fake.faults.drop(of="submit")
    second = kit.submit(after(first))
    kit.reaches(second, S.SUBMITTING)
    kit.settle(lambda: kit.broker.attempts(second, ANA), why="it was sent")
    finish(kit, first, exit_code=3)

    job = kit.ended(second)

    assert (job.state, job.reason) == (S.FAILED, Reason.DEPENDENCY_FAILED)
    assert sum(started(kit, second)) == 0


def test_one_of_several_that_fails_before_an_unsure_submit_is_sent_again_keeps_it_from_being_sent(kit):
    bad, good = running(kit), running(kit)
    kit.fake.faults.drop(of="submit")
    second = kit.submit(spec(name="second", depends_on=(Dependency(job=bad), Dependency(job=good))))
    kit.settle(lambda: kit.broker.attempts(second, ANA), why="it was sent")
    finish(kit, bad, exit_code=3)

    assert kit.ended(second).reason is Reason.DEPENDENCY_FAILED
    assert kit.fake.accepts(marker(kit, second)) == 0
    assert kit.get(good).state is S.RUNNING


def test_one_of_several_that_has_failed_keeps_it_from_being_sent(kit):
    """Those that are left could succeed before anybody notices."""
    bad, good = running(kit), running(kit)
    second = spec(name="second", depends_on=(Dependency(job=bad), Dependency(job=good)))

    def one_fails():
        record = kit.store.jobs.read(bad)
        change = Change(set={"state": S.FAILED, "reason": Reason.NON_ZERO_EXIT})
        kit.store.jobs.end(bad, Guard(version=record.version), change)

    at("claimed", one_fails)
    second = kit.submit(second)

    assert kit.ended(second).reason is Reason.DEPENDENCY_FAILED
    assert kit.broker.attempts(second, ANA) == ()


def test_a_backend_that_never_lets_it_go_loses_it(kit):
    """The predecessor succeeded, and the backend does not see it: the job comes back and is placed again."""
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.fake.faults.hold_back(marker(kit, second))
    finish(kit, first)
    kit.ended(first)
    kit.settle(lambda: not kit.store.jobs.read(second).waits, why="the broker knows")
    assert kit.get(second).state is S.QUEUED
    late = kit.store.client.zscore(f"{kit.store.prefix}due:act:fake:vision", second)
    assert late > (time.time() + 200) * 1000

    kit.store.client.zadd(f"{kit.store.prefix}due:act:fake:vision", {second: 1})

    assert kit.ended(second).state is S.COMPLETED
    assert started(kit, second) == [0, 1]


def test_a_backend_that_gives_it_up_too_early_does_not_end_it(kit):
    """Only the predecessors of the broker say whether they can still succeed."""
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.fake.faults.finish(marker(kit, second), word="IN_VAIN", exit_code=None)
    kit.settle(lambda: kit.get(second).state is S.ACCEPTED, why="it is back")
    assert (kit.get(second).reason, kit.get(second).backend) == (Reason.DEPENDENCY_NOT_MET, None)
    for _ in range(3):
        kit.work()
    assert len(kit.broker.attempts(second, ANA)) == 1

    finish(kit, first)

    assert kit.ended(second).state is S.COMPLETED
    assert started(kit, second) == [0, 1]


def test_a_backend_that_would_start_what_must_not_is_told(kit):
    """The broker has lost the predecessor, which is no success; the backend thinks nothing of it."""
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.fake.faults.hold_back(marker(kit, second))
    kit.fake.faults.forget(marker(kit, first))

    job = kit.ended(second)

    assert kit.get(first).reason is Reason.LOST
    assert (job.state, job.reason) == (S.FAILED, Reason.DEPENDENCY_FAILED)
    assert started(kit, second) == [0]
    assert len(kit.fake.entries("cancel", marker(kit, second))) >= 1


# ---- what users do -------------------------------------------------------------------------------------


def test_a_dependant_that_waits_there_can_be_cancelled(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))

    kit.broker.cancel(second, ANA)

    job = kit.ended(second)
    assert (job.state, job.reason, job.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert kit.get(first).state is S.RUNNING
    assert kit.broker.attempts(second, ANA)[0].state is AttemptState.ENDED


def test_one_that_is_cancelled_at_the_backend_is_cancelled(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.fake.faults.finish(marker(kit, second), word="STOPPED", exit_code=None)

    assert kit.ended(second).state is S.CANCELLED


@pytest.mark.parametrize("when, expected", [(When.SUCCEEDED, S.FAILED), (When.ENDED, S.COMPLETED)])
def test_the_cancel_of_a_predecessor_is_its_end(kit, when, expected):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first, when)))

    kit.broker.cancel(first, ANA)

    assert kit.ended(second).state is expected
    assert kit.get(first).state is S.CANCELLED


def test_one_that_is_held_there_waits_for_both(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.broker.hold(second, ANA)
    kit.settle(lambda: kit.get(second).reason is Reason.HELD, why="it is held there")
    finish(kit, first)
    kit.ended(first)
    kit.settle(lambda: not kit.store.jobs.read(second).waits, why="it waits for its user alone")
    assert kit.get(second).state is S.QUEUED

    kit.broker.release(second, ANA)

    assert kit.ended(second).state is S.COMPLETED
    assert started(kit, second) == [1]


def test_one_that_was_held_when_it_came_back_stays_held(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    kit.broker.hold(second, ANA)
    kit.settle(lambda: kit.get(second).reason is Reason.HELD, why="it is held there")
    kit.fake.faults.finish(marker(kit, second), word="IN_VAIN", exit_code=None)
    kit.settle(lambda: kit.get(second).state is S.ACCEPTED, why="it is back")
    assert kit.get(second).reason is Reason.HELD
    finish(kit, first)
    kit.ended(first)
    kit.settle(lambda: not kit.store.jobs.read(second).waits)
    assert kit.get(second).state is S.ACCEPTED

    kit.broker.release(second, ANA)

    assert kit.ended(second).state is S.COMPLETED


def test_its_time_limit_can_be_changed_while_it_waits_there(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first, time_limit_s=600)))
    kit.broker.update(second, ANA, spec=replace(kit.get(second).spec, time_limit_s=1200))
    kit.settle(lambda: kit.fake.entries("adjust", marker(kit, second)), why="the backend is told")
    finish(kit, first)

    assert kit.ended(second).state is S.COMPLETED


def test_what_has_run_waits_no_more(kit):
    """Its end may be seen before that of its predecessor: another attempt follows at once."""
    first = running(kit)
    retry = Retry(max_attempts=2, on=("NonZeroExit",))
    second = waits_there(kit, kit.submit(after(first, retry=retry, environment={"FAKE_EXIT": "1"})))
    kit.fake.faults.start(marker(kit, second))

    assert kit.ended(second).reason is Reason.NON_ZERO_EXIT
    assert started(kit, second) == [1, 1]
    assert kit.get(first).state is S.RUNNING


def test_one_that_its_backend_has_lost_unrun_is_tried_again_and_not_before_its_predecessor(kit):
    """Slurm's controller, killed before it had saved a job, does not know it; the retry of what was lost
    started at once, while the predecessor ran."""
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first, retry=Retry(max_attempts=2, on=("Lost",)))))
    kit.fake.faults.forget(marker(kit, second))
    kit.settle(lambda: kit.get(second).state is S.ACCEPTED, why="it is back")
    seen = kit.get(second)
    assert seen.reason is Reason.DEPENDENCY_NOT_MET
    assert seen.message == "attempt 1 ended: Lost; another follows when its predecessors have gone on"
    for _ in range(3):
        kit.work()
    assert started(kit, second) == [0]

    finish(kit, first)

    assert kit.ended(second).state is S.COMPLETED
    assert started(kit, second) == [0, 1]


def test_one_that_its_backend_has_lost_unrun_fails_with_its_predecessor(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first, retry=Retry(max_attempts=2, on=("Lost",)))))
    kit.fake.faults.forget(marker(kit, second))
    kit.settle(lambda: kit.get(second).state is S.ACCEPTED, why="it is back")

    finish(kit, first, exit_code=3)

    assert kit.ended(second).reason is Reason.DEPENDENCY_FAILED
    assert started(kit, second) == [0]


def test_one_that_its_backend_has_lost_when_it_may_start_is_tried_again_at_once(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first, retry=Retry(max_attempts=2, on=("Lost",)))))
    kit.fake.faults.hold_back(marker(kit, second))
    finish(kit, first)
    kit.ended(first)
    kit.settle(lambda: not kit.store.jobs.read(second).waits, why="the broker knows")

    kit.fake.faults.forget(marker(kit, second))

    assert kit.ended(second).state is S.COMPLETED
    assert started(kit, second) == [0, 1]


def test_it_is_retried_as_any_other_once_it_has_run(kit):
    first = running(kit)
    retry = Retry(max_attempts=2, on=("NonZeroExit",))
    second = waits_there(kit, kit.submit(after(first, retry=retry, environment={"FAKE_EXIT": "1"})))
    finish(kit, first)

    assert kit.ended(second).reason is Reason.NON_ZERO_EXIT
    assert started(kit, second) == [1, 1]


def test_a_job_that_was_resubmitted_waits_as_the_first_one_did(kit):
    first = running(kit)
    second = waits_there(kit, kit.submit(after(first)))
    again = kit.broker.resubmit(second, ANA).jobs[0].id

    waits_there(kit, again)
    finish(kit, first)

    assert [kit.ended(one).state for one in (second, again)] == [S.COMPLETED] * 2
