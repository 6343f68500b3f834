"""The verbs in depth, on the real store and the fake backend: what goes wrong, and what follows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

import adapters.errors
from adapters.base import LogQuery, Observation
from adapters.errors import Busy
from api_spec.decisions import Outcome
from api_spec.errors import (
    BackendUnavailable,
    Conflict,
    Forbidden,
    InvalidRequest,
    InvalidSpec,
    LogGone,
    NotFound,
    NothingFits,
    PreconditionFailed,
)
from api_spec.jobs import (
    Array,
    Dependency,
    Input,
    Kind,
    Output,
    OutputOf,
    Placement,
    Replicas,
    Resources,
    Retry,
    ScaleOn,
    Service,
    When,
)
from api_spec.reasons import Reason
from api_spec.schemas import dump_accepted, dump_job
from api_spec.states import JobState
from api_spec.times import from_rfc3339
from api_spec.views import JobQuery
from broker.lifecycle.context import UNPLACED
from broker.lifecycle.pending import carry_out
from broker.lifecycle.place import place
from broker.lifecycle.snapshots import Snapshots
from broker.store.changes import Change, Guard
from broker.store.jobs import ClaimLimits
from tests.builders import spec
from tests.fakes import running_fake
from tests.kit import ANA, BEN, EVE, adapter_of, at, fake_kit, make_kit, settings_for

S = JobState
ENDLESS = {"FAKE_RUN_S": "forever"}


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path) as kit:
        yield kit


@pytest.fixture
def pair(redis_server, tmp_path):
    """Two backends, ``one`` and ``two``, behind which the same fake stands."""
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        yield kit


# ---- placement -----------------------------------------------------------------------------------------


def test_a_backend_that_is_not_there_is_answered_with_those_that_are(pair):
    for ask in (pair.broker.drain_backend, pair.broker.backend):
        with pytest.raises(NotFound, match="there is no backend tow; configured are one, two"):
            ask("tow", ANA)


def test_nothing_fits_is_said_at_once(kit):
    kit.submit(spec(name="warm"))
    begun = time.perf_counter()

    with pytest.raises(NothingFits):
        kit.submit(spec(resources=Resources(gpus_per_node=4096)))

    assert time.perf_counter() - begun < 0.05


def test_what_fits_nowhere_is_shown_in_each_job_at_its_field(kit):
    greedy = spec(name="greedy", resources=Resources(gpus_per_node=4096))
    endless = spec(name="endless", resources=Resources(gpus_per_node=8192))

    with pytest.raises(NothingFits, match="job 2 of 3") as refused:
        kit.broker.accept([spec(name="modest"), greedy, endless], ANA)

    assert refused.value.extra["decision"].chosen is None
    assert [fault.pointer for fault in refused.value.faults] == [f"/jobs/{n}/resources" for n in (1, 2)]
    assert "4096" in refused.value.faults[0].message


def test_the_answer_to_a_submission_is_the_job_as_it_is_read_back(kit):
    """It is made from what was sent to the store, without a look at what the store has made of it."""
    first = kit.submit(spec(name="first"))
    edges = (Dependency(job=first),)
    service = spec(name="serve", kind=Kind.INFERENCE, labels={"team": "vision"})

    answers = (
        kit.broker.accept([spec(depends_on=edges), spec(name="held", depends_on=edges, hold=True)], ANA),
        kit.broker.accept([service], replace(ANA, subject="portal")),
        kit.broker.resubmit(first, ANA),
    )

    for answer in answers:
        read_back = [kit.get(job.id) for job in answer.jobs]
        assert list(answer.jobs) == read_back
        assert [one["job"] for one in dump_accepted(answer)] == [dump_job(job) for job in read_back]


def test_while_no_backend_answers_a_job_is_accepted_and_waits(kit):
    kit.fake.kill()
    kit.broker.perform("refresh:fake")
    kit.broker.snapshots.forget()

    job_id = kit.submit(spec())

    kit.work()
    assert (kit.get(job_id).state, kit.get(job_id).reason) == (S.ACCEPTED, Reason.BACKEND_DOWN)
    assert kit.broker.decisions(job_id, ANA)[0].outcome is Outcome.NOTHING_REACHABLE
    kit.fake.start()
    assert kit.ended(job_id, 20).state is S.COMPLETED


def test_a_backend_that_dies_before_the_submit_keeps_the_attempt(kit):
    """It refused the connection, so it has not acted: the same attempt goes there once it is back."""
    job_id = kit.submit(spec())
    kit.fake.kill()
    kit.reaches(job_id, S.SUBMITTING)
    kit.settle(lambda: kit.get(job_id).reason is Reason.BACKEND_DOWN)
    kit.fake.start()

    assert kit.ended(job_id, 20).state is S.COMPLETED
    assert kit.get(job_id).attempt == 1


def test_a_job_that_one_backend_refuses_for_good_goes_to_another(pair):
    pair.fake.faults.refuse(times=1)
    job_id = pair.submit(spec())

    job = pair.ended(job_id)

    first, second = pair.broker.attempts(job_id, ANA)
    assert job.state is S.COMPLETED
    assert first.reason is Reason.REJECTED
    assert {first.backend, second.backend} == {"one", "two"}


def test_a_job_that_every_backend_refuses_fails_with_their_words(kit):
    kit.fake.faults.refuse()
    job = kit.ended(kit.submit(spec()))

    assert (job.state, job.reason) == (S.FAILED, Reason.REJECTED)
    assert job.message


def test_a_job_queued_for_a_backend_that_is_drained_goes_elsewhere(pair):
    job_id = pair.submit(spec())
    chosen = pair.broker.decisions(job_id, ANA)[0].chosen
    pair.broker.drain_backend(chosen, ANA)

    pair.ended(job_id)

    assert {pair.get(job_id).backend, chosen} == {"one", "two"}


def test_three_hundred_jobs_do_not_all_go_to_the_place_that_looked_free(pair):
    ids = [pair.submit(spec(environment=ENDLESS, resources=Resources(cpus_per_task=16))) for _ in range(40)]
    pair.settle(lambda: all(pair.get(job_id).backend for job_id in ids), 20)

    placed = [pair.get(job_id).backend for job_id in ids]
    assert min(placed.count("one"), placed.count("two")) >= 5


def test_a_project_with_few_jobs_is_not_kept_waiting_by_one_with_many(redis_server, tmp_path):
    eve = replace(ANA, project="speech", owner="eve", subject="eve")
    with fake_kit(redis_server, tmp_path, drain_batch=4) as kit:
        for i in range(30):
            kit.submit(spec(name=f"many{i}"))
        late = kit.submit(spec(name="few"), who=eve)
        kit.hints.clear()
        kit.broker.store.leases.hint_taken("drain:fake")
        claims = kit.store.jobs.claim("submit", "fake", _limits(4))

    assert late in [claim.record.id for claim in claims]


def _limits(count):
    from broker.store.jobs import ClaimLimits

    return ClaimLimits(count=count, lease_s=5)


# ---- what users want -----------------------------------------------------------------------------------


def test_what_is_held_at_the_backend_is_released_there(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, {"start_s": 0.5}) as kit:
        job_id = kit.submit(spec())
        kit.reaches(job_id, S.QUEUED)

        kit.broker.hold(job_id, ANA)
        kit.settle(lambda: kit.get(job_id).reason is Reason.HELD, why="the backend says that it is held")
        kit.broker.release(job_id, ANA)

        assert kit.ended(job_id).state is S.COMPLETED


def test_a_running_job_cannot_be_held(kit):
    job_id = kit.submit(spec(environment=ENDLESS))
    kit.reaches(job_id, S.RUNNING)

    with pytest.raises(Conflict, match="RUNNING"):
        kit.broker.hold(job_id, ANA)


def test_a_log_cursor_that_no_page_gave_is_no_fault_of_the_backend(kit):
    """It was told as a backend that does not answer, with the advice to ask again."""
    job_id = kit.submit(spec())
    kit.ended(job_id)

    with pytest.raises(InvalidRequest, match="cursor"):
        kit.broker.log(job_id, ANA, LogQuery(cursor="no such cursor"))


def test_a_resubmitted_job_is_a_new_one_with_the_same_spec(kit):
    first = kit.submit(spec(labels={"team": "vision"}))
    kit.ended(first)

    second = kit.broker.resubmit(first, BEN).jobs[0]

    assert (second.spec, second.owner, second.resubmit_of) == (kit.get(first).spec, "ben", first)
    assert kit.ended(second.id).state is S.COMPLETED


def test_ten_resubmissions_at_once_with_one_key_make_one_job(kit):
    first = kit.submit(spec())

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: kit.broker.resubmit(first, ANA, key="k"), range(10)))

    assert len({answer.jobs[0].id for answer in answers}) == 1
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 9
    assert len(kit.broker.list_jobs(JobQuery(project="vision"), ANA).items) == 2


def test_a_repeated_resubmission_is_answered_though_the_job_has_changed_or_is_gone(kit):
    first = kit.submit(spec())
    version = kit.get(first).version
    answer = kit.broker.resubmit(first, ANA, key="k", if_version=version)
    kit.broker.cancel(first, ANA)

    changed = kit.broker.resubmit(first, ANA, key="k", if_version=version)
    kit.store.client.delete(f"{kit.store.prefix}job:{first}")
    gone = kit.broker.resubmit(first, ANA, key="k", if_version=version)

    assert answer.jobs[0].id == changed.jobs[0].id == gone.jobs[0].id
    with pytest.raises(NotFound):
        kit.broker.resubmit(first, ANA, key="another")


VERBS = ["cancel", "hold", "release", "resubmit", "update"]


@pytest.fixture
def service(kit):
    """Held, so that it stays where it is, and can be held, released, scaled and cancelled."""
    return kit.submit(spec(kind=Kind.INFERENCE, name="serve", hold=True))


def scaled(verb):
    return {"replicas": 2} if verb == "update" else {}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_asked_of_an_older_version_is_refused(kit, service, verb):
    before = kit.get(service)

    with pytest.raises(PreconditionFailed):
        getattr(kit.broker, verb)(service, ANA, if_version=before.version - 1, **scaled(verb))

    assert kit.get(service) == before
    getattr(kit.broker, verb)(service, ANA, if_version=before.version, **scaled(verb))


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_between_look_and_write_is_seen_by_the_write(kit, service, verb, monkeypatch):
    """The early look at the version saw nothing; only the script can."""
    if verb == "hold":
        kit.broker.release(service, ANA)
    version = kit.get(service).version
    read, parts = kit.store.jobs.read, kit.store.jobs.parts

    def overtaken(read):
        def reads(job_id):
            found = read(job_id)
            kit.store.jobs.move(job_id, Guard(), Change(set={"message": "somebody was faster"}))
            return found

        return reads

    monkeypatch.setattr(type(kit.store.jobs), "read", lambda _, job_id: overtaken(read)(job_id))
    monkeypatch.setattr(type(kit.store.jobs), "parts", lambda _, job_id: overtaken(parts)(job_id))

    with pytest.raises(PreconditionFailed):
        getattr(kit.broker, verb)(service, ANA, if_version=version, **scaled(verb))

    assert read(service).version == version + 1
    assert kit.store.index.count("vision", "s=ACCEPTED") == 1


@pytest.mark.parametrize("packed", [False, True], ids=["ended", "packed"])
def test_an_ended_job_is_resubmitted_at_the_version_at_which_it_ended(kit, packed):
    first = kit.submit(spec())
    version = kit.ended(first).version
    if packed:
        assert kit.store.archive.pack(kit.store.jobs.parts(first)) == "ok"

    with pytest.raises(PreconditionFailed):
        kit.broker.resubmit(first, ANA, if_version=version - 1)
    with pytest.raises(PreconditionFailed):
        kit.broker.cancel(first, ANA, if_version=version - 1)

    assert kit.broker.cancel(first, ANA, if_version=version).state is S.COMPLETED
    assert kit.broker.resubmit(first, ANA, if_version=version).jobs[0].resubmit_of == first


def test_a_new_revision_of_a_service_is_rolled_out(kit):
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve", environment={"V": "1"}))
    job = kit.reaches(job_id, S.RUNNING)

    changed = replace(job.spec, environment={"V": "2"})
    job = kit.broker.update(job_id, ANA, spec=changed, if_version=job.version)

    assert job.revision == 2
    kit.settle(lambda: kit.get(job_id).service.revision == 2, why="the new revision is seen")
    with pytest.raises(PreconditionFailed):
        kit.broker.update(job_id, ANA, replicas=2, if_version=1)


def test_nobody_scales_beyond_what_the_spec_allows(kit):
    """Who gave a maximum meant it; a new spec can give another one."""
    service = Service(port=8000, replicas=Replicas(min=1, max=2))
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve", service=service))
    job = kit.reaches(job_id, S.RUNNING)

    with pytest.raises(InvalidSpec, match="at most 2"):
        kit.broker.update(job_id, ANA, replicas=3)

    wider = replace(job.spec, service=Service(port=8000, replicas=Replicas(min=2, max=3)))
    kit.broker.update(job_id, ANA, spec=wider, replicas=3)
    kit.settle(lambda: kit.get(job_id).service.ready == 3)
    with pytest.raises(InvalidSpec, match="at least 2"):
        kit.broker.update(job_id, ANA, replicas=1)


def test_nobody_scales_by_hand_what_an_autoscaler_scales(kit):
    """The next look of the autoscaler would undo it; its limits are what can be changed."""
    scaled = Service(port=8000, replicas=Replicas(min=1, max=4), scale_on=ScaleOn(metric="cpu", target=70))
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve", service=scaled))
    job = kit.reaches(job_id, S.RUNNING)

    with pytest.raises(
        InvalidSpec, match=r"scaled by cpu; a new spec can change service\.replicas\.min and max"
    ):
        kit.broker.update(job_id, ANA, replicas=2)

    narrower = replace(job.spec, service=replace(scaled, replicas=Replicas(min=2, max=3)))
    job = kit.broker.update(job_id, ANA, spec=narrower)
    assert (job.revision, job.replicas_wanted) == (2, 2)
    by_hand = replace(job.spec, service=replace(scaled, scale_on=None))
    assert kit.broker.update(job_id, ANA, spec=by_hand, replicas=4).replicas_wanted == 4


def test_a_new_minimum_or_maximum_is_kept_at_once(kit):
    """Fewer replicas than the new minimum went on running, until somebody scaled by hand."""
    service = Service(port=8000, replicas=Replicas(min=1, max=4))
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve", service=service))
    job = kit.reaches(job_id, S.RUNNING)

    more = replace(job.spec, service=replace(service, replicas=Replicas(min=3, max=4)))
    kit.broker.update(job_id, ANA, spec=more)
    kit.settle(lambda: kit.get(job_id).service.ready == 3)
    fewer = replace(job.spec, service=replace(service, replicas=Replicas(min=1, max=2)))
    kit.broker.update(job_id, ANA, spec=fewer)

    kit.settle(lambda: kit.get(job_id).service.ready == 2)


def test_a_cancel_of_an_unconfirmed_submission_waits_for_the_proof(redis_server, tmp_path):
    """Cancelled at once, the job could still appear at the backend, and run."""
    with fake_kit(redis_server, tmp_path) as kit:
        kit.fake.faults.accept_late(0.15)
        job_id = kit.submit(spec(environment=ENDLESS))
        kit.settle(lambda: kit.get(job_id).reason is Reason.SUBMIT_UNCONFIRMED)

        kit.broker.cancel(job_id, ANA)

        assert kit.ended(job_id).state is S.CANCELLED
        marker = kit.broker.attempts(job_id, ANA)[0].marker
        assert len(kit.fake.entries("cancel", marker)) >= 1


# ---- dependencies, inputs, arrays ----------------------------------------------------------------------


def test_a_dependant_starts_when_the_service_it_waits_for_is_ready(kit):
    service, client = kit.submit_all(
        spec(name="serve", kind=Kind.INFERENCE, environment={"FAKE_READY_S": "0.3"}),
        spec(name="ask", depends_on=(Dependency(name="serve", when=When.READY),)),
    )

    assert kit.ended(client).state is S.COMPLETED
    assert kit.get(service).service.ready == 1


def test_many_dependants_are_released_in_chunks(kit):
    first = kit.submit(spec(name="first", environment=ENDLESS))
    waiting = [kit.submit(spec(name=f"w{i}", depends_on=(Dependency(job=first),))) for i in range(130)]
    kit.reaches(first, S.RUNNING)
    kit.fake.faults.finish(kit.broker.attempts(first, ANA)[0].marker)

    kit.settle(lambda: all(kit.get(job_id).state is S.COMPLETED for job_id in waiting), 30)


def test_a_dependant_that_is_held_waits_for_both(kit):
    first, second = kit.submit_all(
        spec(name="a"), spec(name="b", hold=True, depends_on=(Dependency(name="a"),))
    )
    kit.ended(first)
    kit.work()
    assert (kit.get(second).state, kit.get(second).reason) == (S.ACCEPTED, Reason.HELD)

    kit.broker.release(second, ANA)

    assert kit.ended(second).state is S.COMPLETED


def test_an_input_from_another_job_is_resolved_to_what_its_attempt_left(kit):
    """The lineage: from the service's attempt back to the training attempt's output."""
    train, serve = kit.submit_all(
        spec(name="train", outputs=(Output(name="model", path="model.json"),)),
        spec(name="use", inputs=(Input(name="model", from_output=OutputOf(job="train", output="model")),)),
    )
    kit.ended(serve)

    left = kit.broker.attempts(train, ANA)[0].outputs["model"]
    assert kit.broker.attempts(serve, ANA)[0].inputs == {"model": left}
    assert kit.get(serve).spec.depends_on == (Dependency(job=train, when=When.SUCCEEDED),)


WAITS = Dependency(name="nobody")


@pytest.mark.parametrize(
    "bundled, count, pointer", [(False, 1, ""), (True, 1, "/jobs/0"), (True, 2, "/jobs/1")]
)
def test_what_is_wrong_is_pointed_at_where_it_stands_in_the_body(kit, bundled, count, pointer):
    """A bundle of one is a bundle; the first fault is told in the sentence, too."""
    specs = [spec(name="fine")] * (count - 1) + [spec(name="waits", depends_on=(WAITS,))]

    for ask in (kit.broker.accept, kit.broker.preview):
        with pytest.raises(
            InvalidSpec, match=f"^{pointer}/depends_on/0/name no job of this submission"
        ) as told:
            ask(specs, ANA, bundled=bundled)
        assert [fault.pointer for fault in told.value.faults] == [f"{pointer}/depends_on/0/name"]


STRANGER = "01M80Q4MTXKHY7CP3YFVMHTP66"


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"depends_on": (Dependency(job=STRANGER),)}, "/depends_on/0/job"),
        (
            {"inputs": (Input(name="m", from_output=OutputOf(job=STRANGER, output="model")),)},
            "/inputs/0/from/job",
        ),
        (
            {"inputs": (Input(name="m", from_output=OutputOf(job="trian", output="model")),)},
            "/inputs/0/from/job",
        ),
    ],
    ids=["dependency", "input", "input by a name that is none"],
)
@pytest.mark.parametrize("ask", ["accept", "preview"])
def test_a_job_that_does_not_exist_is_pointed_at_where_it_is_named(kit, ask, wish, pointer):
    with pytest.raises(InvalidSpec, match=r"there is no job .* in this project") as told:
        getattr(kit.broker, ask)([spec(name="fine"), spec(name="waits", **wish)], ANA)

    assert [fault.pointer for fault in told.value.faults] == [f"/jobs/1{pointer}"]


def test_a_job_for_another_project_is_pointed_at_where_it_says_so(kit):
    with pytest.raises(Forbidden) as told:
        kit.broker.accept([spec(name="mine"), spec(name="theirs", project="speech")], ANA)

    assert [fault.pointer for fault in told.value.faults] == ["/jobs/1/project"]


@pytest.mark.parametrize("ask", ["accept", "preview"])
def test_nothing_is_told_of_a_job_of_another_project(kit, ask):
    (theirs,) = kit.broker.accept([spec(outputs=(Output(name="plan", path="p"),))], EVE).jobs
    wish = Input(name="m", from_output=OutputOf(job=theirs.id, output="model"))

    with pytest.raises(InvalidSpec) as told:
        getattr(kit.broker, ask)([spec(inputs=(wish,))], ANA)

    assert str(told.value) == f"there is no job {theirs.id} in this project"


def test_a_dry_run_of_a_bundle_knows_its_names_and_writes_nothing(kit):
    first = spec(name="first", outputs=(Output(name="model", path="model.json"),))
    second = spec(name="second", inputs=(Input(name="m", from_output=OutputOf(job="first", output="model")),))

    decisions = kit.broker.preview([first, second], ANA)

    assert [decision.chosen for decision in decisions] == ["fake", "fake"]
    assert kit.broker.list_jobs(JobQuery(project="vision"), ANA).items == ()
    with pytest.raises(InvalidSpec, match="first has no output model"):
        kit.broker.preview([spec(name="first"), second], ANA)


def test_an_input_that_no_job_promises_is_refused(kit):
    with pytest.raises(InvalidSpec, match="output"):
        kit.submit_all(
            spec(name="train"),
            spec(name="use", inputs=(Input(name="m", from_output=OutputOf(job="train", output="m")),)),
        )


def test_only_the_failed_tasks_of_an_array_are_retried(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, {"run_s": 1000}) as kit:
        array, retry = Array(indices="0-3"), Retry(max_attempts=2, on=("NonZeroExit",))
        job_id = kit.submit(spec(array=array, retry=retry))
        kit.reaches(job_id, S.RUNNING)
        first = kit.broker.attempts(job_id, ANA)[0].marker
        for index in range(4):
            kit.fake.faults.finish_task(first, index, exit_code=1 if index == 2 else 0)
        kit.settle(lambda: len(kit.broker.attempts(job_id, ANA)) == 2, why="a second attempt")
        second = kit.broker.attempts(job_id, ANA)[1]
        assert second.task_indices == "2"
        kit.reaches(job_id, S.RUNNING)
        kit.fake.faults.finish_task(second.marker, 2)

        assert kit.ended(job_id).state is S.COMPLETED
        tasks = kit.broker.tasks(job_id, ANA, None, 10).items
        assert [(task.index, task.attempt, task.state) for task in tasks] == [
            (0, 1, S.COMPLETED),
            (1, 1, S.COMPLETED),
            (2, 2, S.COMPLETED),
            (3, 1, S.COMPLETED),
        ]


@pytest.mark.parametrize("code", [70_000, -1, 0xC0000005])
def test_an_exit_code_is_told_whole_however_large(redis_server, tmp_path, code):
    with fake_kit(redis_server, tmp_path, {"run_s": 1000}) as kit:
        single, array = kit.submit(spec()), kit.submit(spec(array=Array(indices="0-1")))
        kit.reaches(single, S.RUNNING)
        kit.reaches(array, S.RUNNING)
        kit.fake.faults.finish(kit.broker.attempts(single, ANA)[0].marker, exit_code=code)
        for index in range(2):
            marker = kit.broker.attempts(array, ANA)[0].marker
            kit.fake.faults.finish_task(marker, index, exit_code=index * code)

        job = kit.ended(single)
        kit.ended(array)

        assert (job.state, job.exit_code) == (S.FAILED, code)
        assert kit.broker.attempts(single, ANA)[0].exit_code == code
        tasks = kit.broker.tasks(array, ANA, None, 10).items
        assert [(task.state, task.exit_code) for task in tasks] == [(S.COMPLETED, 0), (S.FAILED, code)]


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


# ---- races and bad days, each once a bug ---------------------------------------------------------------


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
