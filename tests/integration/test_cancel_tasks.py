"""Single tasks of an array are cancelled: wherever the job stands, once, and without harm to the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Capability
from adapters.errors import Busy
from api_spec.errors import Conflict, InvalidSpec, NotSupported, PreconditionFailed
from api_spec.jobs import Array, Dependency, Retry
from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.access import Scope
from broker.lifecycle.context import ref_of
from broker.lifecycle.recover import import_lines
from broker.store.dump import export_lines
from tests.builders import spec
from tests.fakes import FOR_EVER
from tests.helpers import wait_until
from tests.kit import ANA, ENDLESS, adapter_of, at, fake_kit, make_kit

S = JobState
AN_HOUR_S = 3600.0


def array(indices="0-3", environment=ENDLESS, **members):
    return spec(array=Array(indices=indices), environment=environment, **members)


def running(kit, *arguments, **members):
    job_id = kit.submit(array(*arguments, **members))
    kit.settle(lambda: set(states(kit, job_id).values()) == {S.RUNNING}, why="all tasks run")
    return job_id


def rows(kit, job_id):
    return {task.index: task for task in kit.broker.tasks(job_id, ANA, None, 1000).items}


def states(kit, job_id):
    return {index: task.state for index, task in rows(kit, job_id).items()}


def cancel(kit, job_id, indices, **options):
    return kit.broker.cancel_tasks(job_id, indices, ANA, **options)


def marker(kit, job_id, number=1):
    return kit.broker.context.marker(job_id, number)


def gone(kit, job_id, *indices):
    kit.settle(
        lambda: {states(kit, job_id)[index] for index in indices} == {S.CANCELLED},
        why=f"{indices} are cancelled",
    )


def asked_of_the_backend(kit, job_id):
    return [entry["indices"] for entry in kit.fake.entries("cancel_tasks", marker(kit, job_id))]


# ---- a job that waits in the broker ------------------------------------------------------------------


def test_tasks_that_are_cancelled_in_the_broker_never_run(kit):
    job_id = kit.submit(array(hold=True, environment={}))

    done = cancel(kit, job_id, "1,3")
    kit.broker.release(job_id, ANA)
    end = kit.ended(job_id)

    assert (done.requested, done.ended_before) == ("1,3", None)
    assert done.job.tasks == {"QUEUED": 2, "CANCELLED": 2}
    assert kit.broker.attempts(job_id, ANA)[0].task_indices == "0,2"
    assert states(kit, job_id) == {0: S.COMPLETED, 1: S.CANCELLED, 2: S.COMPLETED, 3: S.CANCELLED}
    assert (end.state, end.reason, end.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert end.message == "2 of 4 tasks were cancelled"
    assert not asked_of_the_backend(kit, job_id), "it was never given them"


def test_a_cancel_while_the_job_is_being_placed_is_not_passed_over(kit):
    job_id = kit.submit(array(environment={}))
    at("claimed", lambda: cancel(kit, job_id, "1"))

    kit.ended(job_id)

    assert kit.broker.attempts(job_id, ANA)[0].task_indices == "0,2,3"


@pytest.mark.parametrize("parts", [["0-3"], ["0,1", "2,3"]], ids=["at once", "in two"])
def test_the_cancel_of_all_tasks_in_the_broker_ends_the_job(kit, parts):
    job_id = kit.submit(array(hold=True))

    for indices in parts:
        cancel(kit, job_id, indices)

    job = kit.get(job_id)
    assert (job.state, job.reason, job.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert set(states(kit, job_id).values()) == {S.CANCELLED}
    assert kit.broker.attempts(job_id, ANA) == ()


def test_a_job_whose_tasks_are_all_cancelled_ends_though_nobody_came_to_end_it(kit, monkeypatch):
    """The API dies between the two writes: tasks are cancelled, the job is not."""
    job_id = kit.submit(array())
    with monkeypatch.context() as patch:
        patch.setattr("broker.lifecycle.intents.cancel", lambda *arguments: None)
        cancel(kit, job_id, "0-3")
    assert kit.get(job_id).state is S.ACCEPTED

    assert kit.ended(job_id).ended_by == "user:ana"


# ---- a job at its backend ----------------------------------------------------------------------------


def test_a_running_task_is_cancelled_alone(kit):
    job_id = running(kit)

    cancel(kit, job_id, "1,3")
    gone(kit, job_id, 1, 3)

    assert states(kit, job_id) == {0: S.RUNNING, 1: S.CANCELLED, 2: S.RUNNING, 3: S.CANCELLED}
    ended = rows(kit, job_id)[1]
    assert (ended.reason, ended.cancelled_by) == (Reason.CANCELLED, "user:ana")
    assert rows(kit, job_id)[0].cancelled_by is None
    assert asked_of_the_backend(kit, job_id) == [[1, 3]]
    assert kit.get(job_id).cancel_requested is False
    kit.settle(lambda: kit.store.jobs.read(job_id).act == (), why="nothing is left to be done")


def test_a_task_that_waits_at_its_backend_is_cancelled_and_never_starts(kit):
    job_id = kit.submit(array(environment={**ENDLESS, "FAKE_START_S": "1000"}))
    kit.reaches(job_id, S.QUEUED)

    cancel(kit, job_id, "2")
    gone(kit, job_id, 2)
    kit.fake.faults.start(marker(kit, job_id))
    kit.reaches(job_id, S.RUNNING)

    assert states(kit, job_id) == {0: S.RUNNING, 1: S.RUNNING, 2: S.CANCELLED, 3: S.RUNNING}


def test_a_wish_that_is_not_carried_out_yet_is_shown(kit):
    job_id = running(kit)

    cancel(kit, job_id, "1")

    assert [task.cancel_requested for task in rows(kit, job_id).values()] == [False, True, False, False]
    [told] = [one for one in kit.broker.job_events(job_id, ANA) if one.type == "tasks_cancel_requested"]
    assert told.data == {"tasks": "1", "count": 1, "by": "user:ana"}


@pytest.mark.parametrize(
    "exits, also", [({}, ""), ({"FAKE_TASKS": '{"2": 3}'}, ", 1 failed")], ids=["completed", "failed"]
)
def test_an_array_of_which_a_task_was_cancelled_is_cancelled_in_the_end(kit, exits, also):
    """The rule does not ask who cancelled; an administrator's cancel at Slurm ends it so as well."""
    job_id = running(kit, environment={"FAKE_RUN_S": "1000", **exits})
    cancel(kit, job_id, "0")
    gone(kit, job_id, 0)

    kit.fake.advance(2000)
    end = kit.ended(job_id)

    assert (end.state, end.reason, end.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    assert end.exit_code is None
    assert states(kit, job_id)[1] is S.COMPLETED
    assert end.tasks == {"CANCELLED": 1, "COMPLETED": 2 if also else 3} | ({"FAILED": 1} if also else {})


def test_the_cancel_of_all_that_is_left_is_the_end_of_the_job(kit):
    job_id = running(kit)
    kit.fake.faults.finish_task(marker(kit, job_id), 0)
    kit.settle(lambda: states(kit, job_id)[0] is S.COMPLETED)

    done = cancel(kit, job_id, "0-3")
    end = kit.ended(job_id)

    assert (done.requested, done.ended_before) == ("1-3", "0")
    assert done.job.cancel_requested is True
    assert (end.state, end.ended_by) == (S.CANCELLED, "user:ana")
    assert states(kit, job_id) == {0: S.COMPLETED, 1: S.CANCELLED, 2: S.CANCELLED, 3: S.CANCELLED}
    assert not asked_of_the_backend(kit, job_id), "one call for the whole of it"


def test_a_dependant_of_an_array_with_a_cancelled_task_does_not_run(kit):
    first = running(kit)
    second = kit.submit(spec(name="second", depends_on=(Dependency(job=first),)))
    cancel(kit, first, "0")
    gone(kit, first, 0)

    kit.fake.faults.finish(marker(kit, first))

    assert kit.ended(second).reason is Reason.DEPENDENCY_FAILED


# ---- what changes nothing, and what is refused -------------------------------------------------------


def test_a_task_that_has_ended_stays_as_it_ended_and_that_is_said(kit):
    job_id = running(kit)
    kit.fake.faults.finish_task(marker(kit, job_id), 0)
    kit.settle(lambda: states(kit, job_id)[0] is S.COMPLETED)
    before = kit.get(job_id).version

    done = cancel(kit, job_id, "0")

    assert (done.requested, done.ended_before) == (None, "0")
    assert done.job.version == before
    assert states(kit, job_id)[0] is S.COMPLETED


def test_the_end_of_a_job_is_the_end_of_all_its_tasks(kit):
    job_id = kit.submit(array(environment={}))
    end = kit.ended(job_id)

    done = cancel(kit, job_id, "1-2")

    assert (done.requested, done.ended_before, done.job) == (None, "1,2", end)


def test_asking_twice_is_asking_once(kit):
    job_id = running(kit)
    first = cancel(kit, job_id, "1")

    second = cancel(kit, job_id, "1")

    assert (second.requested, second.ended_before) == ("1", None)
    assert second.job.version == first.job.version
    assert kit.events(job_id).count("tasks_cancel_requested") == 1


def test_tasks_that_the_array_does_not_have_are_refused_by_name(kit):
    job_id = running(kit, "0-6:2")

    with pytest.raises(InvalidSpec, match="the array has no task 1,3") as refused:
        cancel(kit, job_id, "0-3")

    assert [fault.pointer for fault in refused.value.faults] == ["/tasks"]
    assert not kit.store.jobs.read(job_id).cancel_tasks


def test_a_job_that_is_no_array_has_no_tasks_to_cancel(kit):
    job_id = kit.submit(spec(environment=ENDLESS))

    with pytest.raises(Conflict, match="not an array job"):
        cancel(kit, job_id, "0")


def test_a_backend_that_cannot_says_so_and_the_whole_can_still_be_cancelled(kit, monkeypatch):
    job_id = running(kit)
    adapter = adapter_of(kit)
    monkeypatch.setattr(adapter, "capabilities", adapter.capabilities - {Capability.CANCEL_TASKS})

    with pytest.raises(NotSupported, match="cannot cancel single tasks"):
        cancel(kit, job_id, "1")

    assert not kit.store.jobs.read(job_id).cancel_tasks
    assert cancel(kit, job_id, "0-3").job.cancel_requested


def test_a_cancel_of_tasks_is_bound_to_the_version_that_was_looked_at(kit):
    job_id = running(kit)
    seen = kit.get(job_id).version

    cancel(kit, job_id, "0", if_version=seen)
    with pytest.raises(PreconditionFailed):
        cancel(kit, job_id, "1", if_version=seen)

    assert kit.store.jobs.read(job_id).cancel_tasks == {"user:ana": "0"}


def test_a_running_array_that_changes_meanwhile_does_not_refuse_the_cancel(kit, monkeypatch):
    job_id = running(kit)
    jobs = kit.store.jobs
    parts = type(jobs).parts

    def parts_and_change(self, id):
        found = parts(self, id)
        monkeypatch.undo()
        kit.fake.faults.finish_task(marker(kit, job_id), 0)
        kit.broker.perform("observe:fake")
        return found

    monkeypatch.setattr(type(jobs), "parts", parts_and_change)
    done = cancel(kit, job_id, "0,1")

    assert (done.requested, done.ended_before) == ("1", "0")


# ---- another attempt ---------------------------------------------------------------------------------

RETRY = Retry(max_attempts=3, on=("NonZeroExit", "Lost"))


def test_a_retry_runs_no_task_that_was_cancelled(kit):
    job_id = running(kit, environment={"FAKE_RUN_S": "1000", "FAKE_TASKS": '{"2": 3}'}, retry=RETRY)
    cancel(kit, job_id, "0")
    gone(kit, job_id, 0)

    kit.fake.advance(2000)
    kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2, why="task 2 is run again")

    first, second = kit.broker.attempts(job_id, ANA)
    assert (first.outcome, first.reason, second.task_indices) == (S.FAILED, Reason.NON_ZERO_EXIT, "2")


def test_an_array_that_was_lost_does_not_bring_a_cancelled_task_back(kit):
    """Also one whose cancel had not reached the backend."""
    job_id = running(kit, retry=RETRY)
    cancel(kit, job_id, "0")
    gone(kit, job_id, 0)
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="cancel_tasks")
    cancel(kit, job_id, "1")
    kit.broker.perform("drain:fake")

    kit.fake.faults.forget(marker(kit, job_id))
    kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2, why="the others are run again")

    assert kit.broker.attempts(job_id, ANA)[1].task_indices == "2,3"
    kit.settle(lambda: states(kit, job_id)[2] is S.RUNNING)
    assert states(kit, job_id) == {0: S.CANCELLED, 1: S.CANCELLED, 2: S.RUNNING, 3: S.RUNNING}


def test_a_task_that_waits_for_its_next_attempt_is_cancelled(kit):
    exits = {"FAKE_RUN_S": "1000", "FAKE_TASKS": '{"2": 3, "3": 3}'}
    job_id = running(kit, environment=exits, retry=RETRY)
    kit.fake.advance(2000)
    kit.settle(lambda: kit.store.jobs.read(job_id).next_tasks == "2,3", why="two are to be run again")

    done = cancel(kit, job_id, "0,2")

    assert (done.requested, done.ended_before) == ("2", "0")
    assert states(kit, job_id) == {0: S.COMPLETED, 1: S.COMPLETED, 2: S.CANCELLED, 3: S.FAILED}
    kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2)
    assert kit.broker.attempts(job_id, ANA)[1].task_indices == "3"


def test_a_task_that_has_failed_and_would_run_again_is_not_over(kit):
    """The others of its attempt still run; its cancel is known before the next attempt is made."""
    job_id = running(kit, retry=RETRY)
    kit.fake.faults.finish_task(marker(kit, job_id), 2, exit_code=3)
    kit.settle(lambda: states(kit, job_id)[2] is S.FAILED)

    done = cancel(kit, job_id, "2")

    assert done.requested == "2"
    assert states(kit, job_id)[2] is S.CANCELLED
    for index in (0, 1, 3):
        kit.fake.faults.finish_task(marker(kit, job_id), index)
    assert kit.ended(job_id).attempt == 1


def test_a_task_that_somebody_cancelled_at_the_backend_ends_the_retries(kit):
    """Nobody knows whether more was meant; the rule is as old as the adapters."""
    exits = {"FAKE_RUN_S": "1000", "FAKE_TASKS": '{"2": 3}'}
    job_id = running(kit, environment=exits, retry=RETRY)
    ref = ref_of(kit.store.jobs.read(job_id), kit.store.jobs.attempt(job_id, 1))

    adapter_of(kit).cancel_tasks(ref, [0])
    kit.fake.advance(2000)
    end = kit.ended(job_id)

    assert (end.state, end.attempt, end.ended_by) == (S.CANCELLED, 1, "backend:fake")


# ---- while it is being handed over -------------------------------------------------------------------


def test_a_cancel_during_the_submit_is_carried_out_as_soon_as_it_stands(kit):
    job_id = kit.submit(array())
    at("submit_returned", lambda: cancel(kit, job_id, "1"))

    gone(kit, job_id, 1)

    assert asked_of_the_backend(kit, job_id) == [[1]]


def test_what_was_not_handed_over_yet_is_handed_over_without_the_task(kit):
    kit.fake.faults.busy(1, retry_after_s=0.5, of="submit")
    job_id = kit.submit(array())
    kit.broker.perform("drain:fake")
    assert kit.get(job_id).state is S.SUBMITTING

    cancel(kit, job_id, "1")
    gone(kit, job_id, 1)

    kit.settle(lambda: states(kit, job_id)[0] is S.RUNNING)
    assert kit.broker.attempts(job_id, ANA)[0].task_indices == "0,2,3"
    assert not asked_of_the_backend(kit, job_id)
    kit.settle(lambda: kit.store.jobs.read(job_id).act == ())


def test_all_tasks_of_what_was_not_handed_over_yet_are_the_end(kit):
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="submit")
    job_id = kit.submit(array())
    kit.broker.perform("drain:fake")

    cancel(kit, job_id, "0-3")

    assert kit.ended(job_id).ended_by == "user:ana"
    assert kit.fake.starts(marker(kit, job_id)) == 0


def test_a_task_that_was_cancelled_before_a_backend_rejects_the_job_does_not_go_to_the_next(
    redis_server, tmp_path
):
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        kit.fake.faults.refuse(times=1)
        job_id = kit.submit(array())
        at("submit_returned", lambda: cancel(kit, job_id, "1"))

        gone(kit, job_id, 1)

        assert [one.task_indices for one in kit.broker.attempts(job_id, ANA)] == ["0-3", "0,2,3"]


# ---- a backend that is busy, slow or forgetful -------------------------------------------------------


def test_a_cancel_that_a_backend_puts_off_is_asked_for_again(kit):
    job_id = running(kit)
    kit.fake.faults.busy(2, retry_after_s=0.05, of="cancel_tasks")

    cancel(kit, job_id, "1")

    gone(kit, job_id, 1)
    assert kit.store.backends.read("fake").reachable


def test_a_backend_that_is_busy_with_it_is_left_alone_but_not_for_an_hour(kit):
    job_id = running(kit)
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="cancel_tasks")
    cancel(kit, job_id, "1")

    kit.broker.perform("drain:fake")

    due = kit.store.client.zscore(f"{kit.store.prefix}due:act:fake:vision", job_id) / 1000
    assert 10 < due - kit.store.now() <= 60


def test_a_lost_answer_to_a_cancel_of_tasks_does_no_harm(kit):
    job_id = running(kit)
    kit.fake.faults.lose_answers(1, of="cancel_tasks")

    cancel(kit, job_id, "1")

    gone(kit, job_id, 1)


def test_a_wish_for_tasks_does_not_wait_behind_a_change_that_is_put_off_for_an_hour(kit):
    job_id = running(kit, time_limit_s=3600)
    kit.fake.faults.busy(FOR_EVER, retry_after_s=AN_HOUR_S, of="adjust")
    wanted = replace(kit.get(job_id).spec, time_limit_s=7200)
    kit.broker.update(job_id, ANA, spec=wanted)
    kit.broker.perform("drain:fake")

    cancel(kit, job_id, "1")

    gone(kit, job_id, 1)


def test_a_wish_for_tasks_that_comes_while_a_change_is_put_off_does_not_wait_either(kit, monkeypatch):
    job_id = running(kit, time_limit_s=3600)
    adapter = adapter_of(kit)

    def put_off(*arguments):
        monkeypatch.undo()
        cancel(kit, job_id, "1")
        raise Busy("later", retry_after_s=AN_HOUR_S)

    monkeypatch.setattr(adapter, "adjust", put_off)
    kit.broker.update(job_id, ANA, spec=replace(kit.get(job_id).spec, time_limit_s=7200))

    gone(kit, job_id, 1)


def test_a_change_beside_a_wish_for_tasks_is_carried_out_too(kit):
    job_id = running(kit, time_limit_s=3600)
    kit.broker.update(job_id, ANA, spec=replace(kit.get(job_id).spec, time_limit_s=7200))
    cancel(kit, job_id, "1")

    gone(kit, job_id, 1)
    kit.settle(lambda: kit.fake.entries("adjust", marker(kit, job_id)))
    kit.settle(lambda: kit.store.jobs.read(job_id).act == ())


def test_a_task_of_which_the_backend_keeps_nothing_is_over_when_it_says_so(kit, monkeypatch):
    """Slurm keeps no row of a task that was cancelled while it waited."""
    job_id = running(kit)
    adapter = adapter_of(kit)
    monkeypatch.setattr(adapter, "cancel_tasks", lambda ref, indices: set(indices))

    cancel(kit, job_id, "1")

    gone(kit, job_id, 1)
    kit.settle(lambda: kit.store.jobs.read(job_id).act == ())


def test_a_backend_that_does_not_come_to_it_is_asked_less_and_less_often(kit, monkeypatch):
    job_id = running(kit)
    calls = []
    monkeypatch.setattr(adapter_of(kit), "cancel_tasks", lambda ref, indices: calls.append(indices) or ())
    cancel(kit, job_id, "1")
    key = f"{kit.store.prefix}due:act:fake:vision"
    client = kit.store.client

    waits = []
    for _ in range(3):
        kit.broker.perform("drain:fake")
        waits.append(client.zscore(key, job_id) / 1000 - kit.store.now())
        client.zadd(key, {job_id: 0})

    assert calls == [[1], [1], [1]]
    assert [round(wait / 5) for wait in waits] == [1, 2, 4]


# ---- how it is shown ---------------------------------------------------------------------------------


def test_an_array_that_ends_in_the_broker_has_no_task_that_waits(kit):
    """Its tasks were shown as queued for ever."""
    job_id = kit.submit(array(hold=True))
    kit.broker.cancel(job_id, ANA)

    found = rows(kit, job_id)

    assert {task.state for task in found.values()} == {S.CANCELLED}
    assert {task.cancelled_by for task in found.values()} == {"user:ana"}


def test_who_cancelled_which_task_is_kept(kit):
    job_id = running(kit)
    admin = replace(ANA, subject="root", owner="root", scopes=frozenset(Scope))
    cancel(kit, job_id, "0")
    kit.broker.cancel_tasks(job_id, "1", admin)

    gone(kit, job_id, 0, 1)

    found = rows(kit, job_id)
    assert [found[index].cancelled_by for index in range(4)] == ["user:ana", "user:root", None, None]


def test_a_wish_survives_the_export_and_import_of_the_store(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path) as kit:
        job_id = running(kit)
        cancel(kit, job_id, "1")
        other = make_kit(kit.settings, kit.fake)
        import_lines(other.store, list(export_lines(kit.store)))

        gone(other, job_id, 1)
        other.store.close()
        assert wait_until(lambda: asked_of_the_backend(kit, job_id)) == [[1]]
