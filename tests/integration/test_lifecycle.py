"""The verbs in depth, on the real store and the fake backend: what goes wrong, and what follows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from adapters.base import LogQuery
from api_spec.decisions import Outcome
from api_spec.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    InvalidSpec,
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
from api_spec.views import JobQuery
from broker.store.changes import Change, Guard
from broker.store.jobs import ClaimLimits
from tests.builders import spec
from tests.kit import ANA, BEN, ENDLESS, EVE, fake_kit

S = JobState


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


@pytest.mark.parametrize("parameter", ["task", "replica"])
def test_a_log_that_the_job_has_not_is_refused_and_not_another(kit, parameter):
    job_id = kit.submit(spec())
    kit.ended(job_id)
    query = LogQuery(**{{"task": "task_index"}.get(parameter, parameter): 3})

    with pytest.raises(InvalidRequest, match=f"the job has no {parameter}s") as refused:
        kit.broker.log(job_id, ANA, query)

    assert [fault.pointer for fault in refused.value.faults] == [f"?{parameter}"]


def test_what_a_backend_never_takes_is_not_rendered(kit):
    """As if it were sent so."""
    with pytest.raises(InvalidSpec, match="fake a FAKE_ variable cannot be read") as refused:
        kit.broker.render(spec(environment={"FAKE_RUN_S": "soon"}), "fake", ANA)

    assert [fault.pointer for fault in refused.value.faults] == ["/environment"]
    assert kit.broker.render(spec(), "fake", ANA)


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
