"""What users want of a job whose backend is busy or refuses: carried out or answered, and never forgotten."""

from __future__ import annotations

import pytest

from api_spec.jobs import Kind
from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.lifecycle import points
from tests.builders import spec
from tests.fakes import FOR_EVER
from tests.helpers import wait_until
from tests.kit import ANA, fake_kit

S = JobState
ENDLESS = {"FAKE_RUN_S": "forever"}
AN_HOUR_S = 3600.0


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path) as kit:
        yield kit


def due_in_s(kit, job_id):
    """How long the store leaves the job alone."""
    key = f"{kit.store.prefix}due:act:fake:vision"
    return kit.store.client.zscore(key, job_id) / 1000 - kit.store.now()


def at(name, step):
    """Does ``step`` when the point is passed for the first time."""

    def hook(passed):
        if passed == name:
            points.install(None)
            step()

    points.install(hook)


# ---- a cancel beside a busy backend ----------------------------------------------------------------------


def test_a_cancel_does_not_wait_for_a_submit_that_is_to_be_repeated_in_an_hour(kit):
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="submit")
    job_id = kit.submit(spec())
    kit.work()
    assert due_in_s(kit, job_id) > AN_HOUR_S / 2

    kit.broker.cancel(job_id, ANA)

    assert kit.ended(job_id).state is S.CANCELLED


def test_a_cancel_that_comes_while_the_backend_says_that_it_is_busy_does_not_wait_either(kit):
    """The worker that writes the hour down does not know yet that nobody wants the job any more."""
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="submit")
    job_id = kit.submit(spec())
    at("submit_returned", lambda: kit.broker.cancel(job_id, ANA))

    assert kit.ended(job_id).state is S.CANCELLED


def test_a_cancel_does_not_wait_for_an_update_that_is_to_be_repeated_in_an_hour(kit):
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    kit.reaches(job_id, S.RUNNING)
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="update")
    kit.broker.update(job_id, ANA, replicas=2)
    kit.settle(lambda: due_in_s(kit, job_id) > AN_HOUR_S / 2, why="the update waits")

    kit.broker.cancel(job_id, ANA)

    assert kit.ended(job_id).state is S.CANCELLED


def test_a_cancel_that_comes_while_an_update_is_answered_busy_does_not_wait_either(kit, monkeypatch):
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    kit.reaches(job_id, S.RUNNING)
    adapter = kit.broker.context.adapters["fake"]
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="update")
    update = adapter.update

    def update_and_be_cancelled(*arguments):
        kit.broker.cancel(job_id, ANA)
        update(*arguments)

    monkeypatch.setattr(adapter, "update", update_and_be_cancelled)
    kit.broker.update(job_id, ANA, replicas=2)

    assert kit.ended(job_id).state is S.CANCELLED


@pytest.mark.parametrize("busy_with", ["cancel", "find"])
def test_a_backend_that_is_busy_with_the_cancel_itself_is_left_alone_but_not_for_an_hour(kit, busy_with):
    """``find``: the cancel of this backend looks its marker up first."""
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.RUNNING)
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of=busy_with)
    kit.broker.cancel(job_id, ANA)
    kit.settle(lambda: due_in_s(kit, job_id) > 10, why="the backend is left alone")

    assert due_in_s(kit, job_id) <= 60


def test_a_look_up_for_a_cancelled_job_is_not_put_off_for_an_hour(kit):
    """It may have been sent: before the cancel can be acted on, the backend has to say whether it was."""
    kit.fake.faults.drop(1, of="submit")
    job_id = kit.submit(spec())
    kit.broker.perform("drain:fake")
    kit.fake.faults.busy(1, retry_after_s=AN_HOUR_S, of="find")
    kit.broker.cancel(job_id, ANA)
    kit.settle(lambda: due_in_s(kit, job_id) > 10, why="the backend is left alone")

    assert due_in_s(kit, job_id) <= 60


def test_a_short_wait_that_a_busy_backend_asks_for_is_kept(kit):
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.RUNNING)
    kit.fake.faults.busy(1, retry_after_s=7, of="cancel")
    kit.broker.cancel(job_id, ANA)

    kit.settle(lambda: due_in_s(kit, job_id) > 5.5, why="the backend is left alone")

    assert due_in_s(kit, job_id) <= 7


# ---- what a busy backend is, and is not ------------------------------------------------------------------


def busy_again_and_again(kit, op, times=4):
    """Until it is done.  Only the workers call: a poll that is answered would hide what they have counted."""
    kit.fake.faults.busy(times, retry_after_s=0.01, of=op)
    before = kit.fake.asked().get(op, 0)
    kit.hints.clear()

    def asked():
        kit.broker.perform("drain:fake")
        return kit.fake.asked().get(op, 0) > before

    wait_until(asked, why=f"{op} was answered with 'busy' {times} times, and then done")


def cancelled(kit):
    kit.broker.cancel(running(kit, environment=ENDLESS), ANA)


def scaled(kit):
    kit.broker.update(running(kit, kind=Kind.INFERENCE, name="serve"), ANA, replicas=2)


def held(kit):
    job_id = kit.submit(spec(environment=ENDLESS | {"FAKE_START_S": "1000"}))
    kit.reaches(job_id, S.QUEUED)
    kit.broker.hold(job_id, ANA)


def perhaps_submitted(kit):
    kit.fake.faults.drop(1, of="submit")
    kit.submit(spec(environment=ENDLESS))
    kit.broker.perform("drain:fake")


def running(kit, **members):
    job_id = kit.submit(spec(**members))
    kit.reaches(job_id, S.RUNNING)
    return job_id


@pytest.mark.parametrize(
    ("wanted", "op"), [(cancelled, "cancel"), (scaled, "update"), (held, "hold"), (perhaps_submitted, "find")]
)
def test_a_backend_that_answers_that_it_is_busy_is_not_taken_for_dead(kit, wanted, op):
    wanted(kit)

    busy_again_and_again(kit, op)

    known = kit.store.backends.read("fake")
    assert (known.failures, known.not_before, known.reachable) == (0, 0, True)


@pytest.mark.parametrize(("op", "hint"), [("list", "observe:fake"), ("shapes", "refresh:fake")])
def test_a_poll_that_is_put_off_does_not_close_the_backend_either(kit, op, hint):
    running(kit, environment=ENDLESS)
    kit.fake.faults.busy(FOR_EVER, of=op)

    for _ in range(4):
        kit.broker.perform(hint)

    known = kit.store.backends.read("fake")
    assert (known.failures, known.not_before, known.reachable) == (0, 0, True)


def test_a_cancel_that_reaches_nobody_counts_against_the_backend(kit):
    job_id = running(kit, environment=ENDLESS)
    kit.fake.kill()

    kit.broker.cancel(job_id, ANA)
    kit.broker.perform("drain:fake")

    assert kit.store.backends.read("fake").reachable is False


# ---- hold of a service -----------------------------------------------------------------------------------


@pytest.fixture
def queued_service(kit):
    job_id = kit.submit(
        spec(kind=Kind.INFERENCE, name="serve", environment=ENDLESS | {"FAKE_START_S": "1000"})
    )
    kit.reaches(job_id, S.QUEUED)
    return job_id


def test_a_service_that_has_not_started_can_be_held_and_released(kit, queued_service):
    kit.broker.hold(queued_service, ANA)
    kit.settle(lambda: kit.get(queued_service).reason is Reason.HELD, why="the backend says that it is held")

    kit.broker.release(queued_service, ANA)

    kit.settle(lambda: kit.get(queued_service).reason is not Reason.HELD, why="it is held no more")
    kit.fake.faults.start(marker_of(kit, queued_service))
    kit.reaches(queued_service, S.RUNNING)


def test_a_service_that_is_held_and_scaled_at_once_is_both(kit, queued_service):
    kit.broker.hold(queued_service, ANA)
    kit.broker.update(queued_service, ANA, replicas=2)

    kit.settle(lambda: kit.get(queued_service).reason is Reason.HELD, why="the backend says that it is held")
    kit.settle(lambda: kit.get(queued_service).service.wanted == 2, why="the backend knows of two replicas")


def test_scaling_a_service_neither_holds_nor_releases_it(kit, queued_service):
    kit.broker.update(queued_service, ANA, replicas=2)

    kit.settle(lambda: kit.get(queued_service).service.wanted == 2, why="the backend knows of two replicas")
    assert not {"hold", "release"} & set(kit.fake.asked())


def marker_of(kit, job_id):
    return kit.broker.attempts(job_id, ANA)[0].marker
