"""What users want of a job whose backend is busy or refuses: carried out or answered, and never forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Capability
from adapters.errors import Rejected
from api_spec.errors import Conflict, NotSupported
from api_spec.jobs import Kind, Priority, Retry
from api_spec.reasons import Reason
from api_spec.states import JobState
from tests.builders import spec
from tests.fakes import FOR_EVER
from tests.helpers import wait_until
from tests.kit import ANA, ENDLESS, adapter_of, at, fake_kit

S = JobState
AN_HOUR_S = 3600.0


def due_in_s(kit, job_id):
    """How long the store leaves the job alone."""
    key = f"{kit.store.prefix}due:act:fake:vision"
    return kit.store.client.zscore(key, job_id) / 1000 - kit.store.now()


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


def test_a_job_that_was_submitted_held_and_released_is_not_held_by_its_backend(kit, monkeypatch):
    """It was held here; the backend would hold it for ever, since nobody knows of that."""
    adapter, sent = kit.broker.context.adapter("fake"), []
    submit = adapter.submit
    monkeypatch.setattr(adapter, "submit", lambda ref, spec: sent.append(spec) or submit(ref, spec))
    job_id = kit.submit(spec(hold=True))
    kit.work()

    kit.broker.release(job_id, ANA)
    kit.reaches(job_id, S.COMPLETED)

    assert [one.hold for one in sent] == [False]
    assert kit.get(job_id).spec.hold, "what was submitted stays what it was"


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


# ---- a backend that refuses ------------------------------------------------------------------------------


class Refuses:
    """Stands before a method of the adapter: it refuses what ``wont`` says, and keeps what it was asked."""

    def __init__(self, kit, monkeypatch, name, wont):
        self.asked = []
        self.method = getattr(adapter_of(kit), name)
        self.wont = wont
        monkeypatch.setattr(adapter_of(kit), name, self)

    def __call__(self, ref, *spec):
        self.asked.append((ref.revision, ref.replicas))
        if self.wont(ref, *spec):
            raise Rejected("not here")
        self.method(ref, *spec)


@pytest.fixture
def service(kit):
    return running(kit, kind=Kind.INFERENCE, name="serve", environment=ENDLESS | {"V": "1"})


def refusals(kit, job_id):
    return kit.events(job_id).count("refused")


def revised(kit, job_id, version):
    return replace(kit.get(job_id).spec, environment=ENDLESS | {"V": version})


def test_a_scale_that_was_refused_can_be_asked_for_again(kit, monkeypatch, service):
    door = Refuses(kit, monkeypatch, "update", lambda ref, spec: ref.replicas == 3)
    for n in (1, 2):
        job = kit.broker.update(service, ANA, replicas=3)
        assert job.replicas_wanted == 3
        kit.settle(lambda n=n: refusals(kit, service) == n, why=f"answer {n}")

    job = kit.get(service)
    assert (job.replicas_wanted, job.message) == (1, "not here"), "what it has is what is wanted of it"
    door.wont = lambda ref, spec: False
    kit.broker.update(service, ANA, replicas=3)

    kit.settle(lambda: kit.get(service).service.ready == 3)


def test_a_revision_that_was_refused_is_taken_back_and_can_be_asked_for_again(kit, monkeypatch, service):
    door = Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "2")
    before, wanted = kit.get(service), revised(kit, service, "2")
    for n in (1, 2):
        kit.broker.update(service, ANA, spec=wanted)
        kit.settle(lambda n=n: refusals(kit, service) == n, why=f"answer {n}")
        assert (kit.get(service).spec, kit.get(service).revision) == (before.spec, 1)

    door.wont = lambda ref, spec: False
    kit.broker.update(service, ANA, spec=wanted)

    kit.settle(lambda: kit.get(service).service.revision == 2, why="the new revision is seen")
    assert kit.get(service).spec == wanted


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_a_hold_that_was_refused_is_no_hold_and_can_be_asked_for_again(kit, monkeypatch, verb):
    held(kit)
    [job_id] = kit.store.backends.live("fake")
    kit.settle(lambda: kit.get(job_id).reason is Reason.HELD)
    if verb == "hold":
        kit.broker.release(job_id, ANA)
        kit.settle(lambda: kit.get(job_id).reason is not Reason.HELD)
    before = kit.get(job_id).held
    door = Refuses(kit, monkeypatch, verb, lambda ref: True)
    ask = getattr(kit.broker, verb)
    for n in (1, 2):
        ask(job_id, ANA)
        kit.settle(lambda n=n: refusals(kit, job_id) == n, why=f"answer {n}")
        assert kit.get(job_id).held is before

    door.wont = lambda ref: False
    ask(job_id, ANA)

    kit.settle(lambda: (kit.get(job_id).reason is Reason.HELD) is (verb == "hold"))


def test_a_scale_after_a_refused_revision_does_not_ask_for_the_revision_again(kit, monkeypatch, service):
    Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "2")
    kit.broker.update(service, ANA, spec=revised(kit, service, "2"))
    kit.settle(lambda: refusals(kit, service))

    kit.broker.update(service, ANA, replicas=2)

    kit.settle(lambda: kit.get(service).service.ready == 2)
    assert refusals(kit, service) == 1


def test_a_revision_that_comes_while_an_older_one_is_refused_is_rolled_out(kit, monkeypatch, service):
    door = Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "2")
    newest = revised(kit, service, "3")
    kit.broker.update(service, ANA, spec=revised(kit, service, "2"))
    at("update_returned", lambda: kit.broker.update(service, ANA, spec=newest))

    kit.settle(lambda: kit.get(service).service.revision == 3, why="the newest revision is seen")

    assert kit.get(service).spec == newest
    assert [revision for revision, _ in door.asked] == [2, 3]


def test_a_scale_that_comes_while_a_revision_is_refused_is_carried_out(kit, monkeypatch, service):
    """The refused part alone is taken back."""
    Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "2")
    kit.broker.update(service, ANA, spec=revised(kit, service, "2"))
    at("update_returned", lambda: kit.broker.update(service, ANA, replicas=2))

    kit.settle(lambda: kit.get(service).service.ready == 2)

    assert (kit.get(service).revision, kit.get(service).spec.environment["V"]) == (1, "1")


def test_a_release_that_comes_while_a_hold_is_refused_leaves_it_released(kit, monkeypatch):
    job_id = kit.submit(spec(environment=ENDLESS | {"FAKE_START_S": "1000"}))
    kit.reaches(job_id, S.QUEUED)
    Refuses(kit, monkeypatch, "hold", lambda ref: True)
    kit.broker.hold(job_id, ANA)
    at("update_returned", lambda: kit.broker.release(job_id, ANA))

    kit.settle(lambda: kit.fake.asked().get("release"), why="the newer wish is carried out")

    assert kit.get(job_id).held is False


def test_what_was_refused_is_answered_even_if_the_job_was_just_seen_to_move(kit, monkeypatch, service):
    """An observation raises the version too; the answer must not wait until the worker's lease is over."""
    Refuses(kit, monkeypatch, "update", lambda ref, spec: ref.replicas == 3)
    kit.fake.faults.ready_at_most(marker_of(kit, service), 0)
    kit.store.backends.postpone("fake", "observe_at", 1 << 42)
    kit.broker.update(service, ANA, replicas=3)
    at("update_returned", lambda: kit.broker.perform("observe:fake"))

    kit.broker.perform("drain:fake")

    assert refusals(kit, service) == 1


def test_a_service_that_is_lost_after_a_refused_revision_is_started_as_it_was(kit, monkeypatch):
    retry = Retry(max_attempts=2, on=("Lost",))
    job_id = running(kit, kind=Kind.INFERENCE, name="serve", environment=ENDLESS | {"V": "1"}, retry=retry)
    Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "2")
    kit.broker.update(job_id, ANA, spec=revised(kit, job_id, "2"))
    kit.settle(lambda: refusals(kit, job_id))

    kit.fake.faults.forget(marker_of(kit, job_id))

    kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2, 20)
    assert kit.get(job_id).spec.environment["V"] == "1"


def test_when_a_newer_revision_is_refused_the_older_one_that_was_rolled_out_counts(kit, monkeypatch, service):
    Refuses(kit, monkeypatch, "update", lambda ref, spec: spec.environment["V"] == "3")
    older, newer = revised(kit, service, "2"), revised(kit, service, "3")
    kit.broker.update(service, ANA, spec=older)
    at("update_returned", lambda: kit.broker.update(service, ANA, spec=newer))

    kit.settle(lambda: refusals(kit, service))

    assert (kit.get(service).spec, kit.get(service).revision) == (older, 2)


def test_a_revision_during_a_submit_that_is_refused_goes_with_the_next_attempt(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        kit.fake.faults.refuse(times=1)
        job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve", environment=ENDLESS))
        at("submit_returned", lambda: kit.broker.update(job_id, ANA, spec=revised(kit, job_id, "2")))

        kit.reaches(job_id, S.RUNNING)

        assert kit.get(job_id).spec.environment["V"] == "2"
        assert "update" not in kit.fake.asked()
        record = kit.store.jobs.read(job_id)
        assert (record.act, record.before) == ((), None)


# ---- time limit and priority of finite work --------------------------------------------------------------


@pytest.fixture
def finite(kit):
    return running(kit, environment=ENDLESS, time_limit_s=3600)


def limited(kit, job_id, seconds):
    return replace(kit.get(job_id).spec, time_limit_s=seconds)


def test_the_time_limit_of_a_job_reaches_its_backend(kit, finite):
    job = kit.broker.update(finite, ANA, spec=limited(kit, finite, 7200))
    assert job.spec.time_limit_s == 7200

    marker = kit.store.jobs.attempt(finite, 1).marker
    kit.settle(lambda: kit.fake.entries("adjust", marker))
    assert kit.fake.entries("adjust", marker)[0]["time_limit_s"] == 7200


def test_a_time_limit_that_was_refused_is_taken_back_and_can_be_asked_for_again(kit, monkeypatch, finite):
    door = Refuses(kit, monkeypatch, "adjust", lambda ref, spec: spec.time_limit_s == 7200)
    for n in (1, 2):
        kit.broker.update(finite, ANA, spec=limited(kit, finite, 7200))
        kit.settle(lambda n=n: refusals(kit, finite) == n, why=f"answer {n}")

    assert kit.get(finite).spec.time_limit_s == 3600
    assert kit.get(finite).message == "not here"
    assert len(door.asked) == 2


def test_what_waits_in_the_broker_is_changed_without_a_backend(kit, monkeypatch):
    door = Refuses(kit, monkeypatch, "adjust", lambda ref, spec: True)
    job_id = kit.submit(spec(hold=True, environment=ENDLESS))

    kit.broker.update(job_id, ANA, spec=replace(kit.get(job_id).spec, priority=Priority.LOW))

    assert kit.get(job_id).spec.priority is Priority.LOW
    assert door.asked == []


@pytest.mark.parametrize("changes", [{"command": ("false",)}, {"environment": {}}, {"labels": {"a": "b"}}])
def test_nothing_else_of_finite_work_can_be_changed(kit, finite, changes):
    with pytest.raises(Conflict, match="only time_limit and priority") as refused:
        kit.broker.update(finite, ANA, spec=replace(kit.get(finite).spec, **changes))

    (fault,) = refused.value.faults
    assert fault.pointer == f"/spec/{next(iter(changes))}"


def test_finite_work_cannot_be_scaled(kit, finite):
    with pytest.raises(Conflict, match="only an inference job") as refused:
        kit.broker.update(finite, ANA, replicas=2)
    assert [fault.pointer for fault in refused.value.faults] == ["/replicas"]


def test_a_backend_that_cannot_change_it_says_so(kit, monkeypatch, finite):
    adapter = adapter_of(kit)
    monkeypatch.setattr(adapter, "capabilities", adapter.capabilities - {Capability.ADJUST})

    with pytest.raises(NotSupported, match="cannot change the time limit"):
        kit.broker.update(finite, ANA, spec=limited(kit, finite, 7200))
