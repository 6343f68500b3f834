"""The specification of the broker, top to bottom: what a user is promised, shown on the real store and a fake
backend that behaves like a real one and can be made to fail.
"""

from __future__ import annotations

import pytest

from adapters.base import Found
from api_spec.errors import Conflict, Forbidden, IdempotencyConflict, InvalidSpec, NotFound, NothingFits
from api_spec.jobs import Array, Dependency, Kind, Placement, Resources, Retry, When
from api_spec.reasons import Reason
from api_spec.schemas import dump_accepted
from api_spec.states import AttemptState, JobState
from api_spec.views import JobQuery
from tests.builders import spec
from tests.kit import ANA, BEN, EVE, adapter_of, fake_kit

S = JobState


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path, {"run_s": 0.05}) as kit:
        yield kit


@pytest.fixture
def busy_kit(redis_server, tmp_path):
    """Jobs run until they are told to finish."""
    with fake_kit(redis_server, tmp_path, {"run_s": 1000}) as kit:
        yield kit


# ---- one job, door to door -----------------------------------------------------------------------------


def test_a_job_is_accepted_submitted_observed_and_completed(kit):
    job_id = kit.submit(spec(name="train"))
    assert kit.get(job_id).state is S.ACCEPTED

    job = kit.ended(job_id)

    assert job.state is S.COMPLETED
    assert (job.reason, job.exit_code, job.ended_by) == (Reason.COMPLETED, 0, "backend:fake")
    assert kit.events(job_id)[:3] == ["accepted", "submitting", "queued"]
    assert kit.events(job_id)[-1] == "completed"
    assert kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker) == 1


def test_every_placement_says_why_each_backend_won_or_lost(kit):
    job_id = kit.submit(spec())
    kit.ended(job_id)

    provisional, binding = kit.broker.decisions(job_id, ANA)

    assert (provisional.binding, binding.binding) == (False, True)
    assert binding.chosen == "fake"
    assert [verdict.backend for verdict in binding.verdicts] == ["fake"]


def test_a_job_that_fits_nowhere_is_refused_with_the_decision(kit):
    with pytest.raises(NothingFits) as refused:
        kit.submit(spec(resources=Resources(gpus_per_node=4096)))

    verdict = refused.value.extra["decision"].verdicts[0]
    assert verdict.refusals[0].code is Reason.NEVER_FITS
    assert "4096" in verdict.refusals[0].message


def test_a_dry_run_gives_the_same_decision_and_writes_nothing(kit):
    preview = kit.broker.preview([spec()], ANA)[0]
    job_id = kit.submit(spec())

    accepted = kit.broker.decisions(job_id, ANA)[0]

    assert (preview.chosen, preview.verdicts[0].score) == (accepted.chosen, accepted.verdicts[0].score)
    assert len(kit.broker.list_jobs(JobQuery(project="vision"), ANA).items) == 1


def test_a_failing_job_tells_its_exit_code(kit):
    job = kit.ended(kit.submit(spec(environment={"FAKE_EXIT": "3"})))

    assert (job.state, job.reason, job.exit_code) == (S.FAILED, Reason.NON_ZERO_EXIT, 3)


# ---- exactly once ----------------------------------------------------------------------------------------


def test_the_same_idempotency_key_gives_the_same_job(kit):
    first = kit.broker.accept([spec()], ANA, key="k", body_digest="d")
    second = kit.broker.accept([spec()], ANA, key="k", body_digest="d")

    assert second.replayed
    assert dump_accepted(second) == dump_accepted(first)
    with pytest.raises(IdempotencyConflict):
        kit.broker.accept([spec()], ANA, key="k", body_digest="other")


def test_an_accepted_submission_whose_answer_was_lost_is_found_and_not_repeated(kit):
    kit.fake.faults.lose_answers(1, of="submit")
    job_id = kit.submit(spec())

    job = kit.ended(job_id)

    assert job.state is S.COMPLETED
    marker = kit.broker.attempts(job_id, ANA)[0].marker
    assert (kit.fake.accepts(marker), kit.fake.starts(marker)) == (1, 1)


def test_a_submission_that_never_arrived_is_repeated_once_that_is_proven(kit):
    kit.fake.faults.drop(1, of="submit")
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.SUBMITTING)
    assert kit.get(job_id).reason is Reason.SUBMIT_UNCONFIRMED

    assert kit.ended(job_id).state is S.COMPLETED
    assert kit.fake.starts(kit.broker.attempts(job_id, ANA)[0].marker) == 1


def test_a_submission_that_is_accepted_late_is_not_repeated(kit):
    """The first look-up finds nothing, because the request is still on its way."""
    kit.fake.faults.accept_late(0.2)
    job_id = kit.submit(spec())

    assert kit.ended(job_id).state is S.COMPLETED
    marker = kit.broker.attempts(job_id, ANA)[0].marker
    assert (kit.fake.accepts(marker), kit.fake.starts(marker)) == (1, 1)


# ---- honesty -----------------------------------------------------------------------------------------------


def test_while_a_backend_does_not_answer_jobs_keep_their_state(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)

    kit.fake.faults.freeze()
    kit.settle(lambda: kit.get(job_id).backend_reachable is False, why="the backend is seen to be down")

    job = kit.get(job_id)
    assert (job.state, job.reason) == (S.RUNNING, Reason.BACKEND_DOWN)
    kit.fake.faults.unfreeze()
    kit.settle(lambda: kit.get(job_id).backend_reachable, why="the backend is back")
    assert kit.get(job_id).reason is None


def test_a_job_that_a_complete_listing_does_not_show_is_looked_up_and_lost(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)

    kit.fake.faults.forget(kit.broker.attempts(job_id, ANA)[0].marker)

    assert (kit.ended(job_id).state, kit.get(job_id).reason) == (S.FAILED, Reason.LOST)


def test_what_a_partial_listing_does_not_show_is_not_absent(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)
    kit.fake.faults.partial_listing()
    for _ in range(5):
        kit.broker.perform("observe:fake")

    assert kit.get(job_id).state is S.RUNNING


def test_an_unknown_native_word_moves_nothing_and_is_kept(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)
    kit.fake.faults.unknown_word(kit.broker.attempts(job_id, ANA)[0].marker, "WEIRD")

    kit.settle(lambda: kit.broker.attempts(job_id, ANA)[0].native_state == "WEIRD")

    assert kit.get(job_id).state is S.RUNNING
    assert kit.store.counters()["unknown_words"] == 1


def test_a_requeue_is_a_step_back_only_when_the_backend_counts_it(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)

    kit.fake.faults.requeue(kit.broker.attempts(job_id, ANA)[0].marker, start_s=1000)

    kit.reaches(job_id, S.QUEUED)
    assert kit.broker.attempts(job_id, ANA)[0].restarts == 1
    assert "requeued" in kit.events(job_id)


# ---- what users do -----------------------------------------------------------------------------------------


def test_a_running_job_is_cancelled(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec())
    kit.reaches(job_id, S.RUNNING)

    kit.broker.cancel(job_id, ANA)

    job = kit.ended(job_id)
    assert (job.state, job.reason, job.ended_by) == (S.CANCELLED, Reason.CANCELLED, "user:ana")
    kit.broker.cancel(job_id, ANA)
    assert kit.get(job_id).version == job.version


def test_a_job_that_is_cancelled_before_it_is_submitted_never_starts(kit):
    job_id = kit.submit(spec())

    assert kit.broker.cancel(job_id, ANA).state is S.CANCELLED
    kit.work()

    assert kit.broker.attempts(job_id, ANA) == ()
    assert kit.fake.ledger() == [] or not [e for e in kit.fake.ledger() if e["event"] == "accept"]


def test_a_held_job_waits_until_it_is_released(kit):
    job_id = kit.submit(spec(hold=True))
    kit.work()
    assert (kit.get(job_id).state, kit.get(job_id).reason) == (S.ACCEPTED, Reason.HELD)

    kit.broker.release(job_id, ANA)

    assert kit.ended(job_id).state is S.COMPLETED


def test_a_failed_attempt_is_retried_for_the_reasons_named(kit):
    job_id = kit.submit(
        spec(environment={"FAKE_EXIT": "3"}, retry=Retry(max_attempts=2, on=("NonZeroExit",)))
    )

    job = kit.ended(job_id)

    assert (job.state, job.attempt) == (S.FAILED, 2)
    first, second = kit.broker.attempts(job_id, ANA)
    assert first.marker != second.marker
    assert first.state is second.state is AttemptState.ENDED


def test_a_service_becomes_ready_is_scaled_and_cancelled(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec(kind=Kind.INFERENCE, name="serve"))
    kit.reaches(job_id, S.RUNNING)
    assert kit.get(job_id).service.ready == 1

    kit.broker.update(job_id, ANA, replicas=2)

    kit.settle(lambda: kit.get(job_id).service.ready == 2, why="two replicas are ready")
    kit.broker.cancel(job_id, ANA)
    assert kit.ended(job_id).state is S.CANCELLED


# ---- dependencies ------------------------------------------------------------------------------------------


def test_jobs_of_one_submission_wait_for_each_other_by_name(kit):
    first, second = kit.submit_all(
        spec(name="prepare"), spec(name="train", depends_on=(Dependency(name="prepare"),))
    )
    assert kit.get(second).reason is Reason.DEPENDENCY_NOT_MET
    assert kit.get(second).spec.depends_on == (Dependency(job=first),)

    assert kit.ended(second).state is S.COMPLETED
    assert kit.get(first).ended_at <= kit.get(second).started_at + 1


@pytest.mark.parametrize(
    "when, exit_code, expected",
    [
        (When.SUCCEEDED, "0", S.COMPLETED),
        (When.SUCCEEDED, "1", S.FAILED),
        (When.FAILED, "1", S.COMPLETED),
        (When.FAILED, "0", S.FAILED),
        (When.ENDED, "1", S.COMPLETED),
        (When.STARTED, "1", S.COMPLETED),
    ],
)
def test_a_dependency_that_can_never_be_met_ends_the_job(kit, when, exit_code, expected):
    first, second = kit.submit_all(
        spec(name="a", environment={"FAKE_EXIT": exit_code}),
        spec(name="b", depends_on=(Dependency(name="a", when=when),)),
    )

    job = kit.ended(second)

    assert job.state is expected
    if expected is S.FAILED:
        assert job.reason is Reason.DEPENDENCY_FAILED
        assert first in job.message


def test_jobs_that_wait_for_each_other_in_a_circle_are_refused(kit):
    with pytest.raises(InvalidSpec, match="wait for each other in a circle"):
        kit.submit_all(
            spec(name="a", depends_on=(Dependency(name="b"),)),
            spec(name="b", depends_on=(Dependency(name="a"),)),
        )


def test_a_bundle_is_accepted_whole_or_not_at_all(kit):
    with pytest.raises(NothingFits):
        kit.submit_all(spec(name="a"), spec(name="b", resources=Resources(gpus_per_node=4096)))

    assert kit.broker.list_jobs(JobQuery(project="vision"), ANA).items == ()


# ---- arrays ------------------------------------------------------------------------------------------------


def test_an_array_job_has_a_state_for_each_task(kit):
    job_id = kit.submit(spec(array=Array(indices="0-4:2")))

    assert kit.ended(job_id).state is S.COMPLETED
    page = kit.broker.tasks(job_id, ANA, None, 2)
    assert [task.index for task in page.items] == [0, 2]
    assert [task.index for task in kit.broker.tasks(job_id, ANA, page.next, 2).items] == [4]
    assert kit.get(job_id).tasks == {"COMPLETED": 3}


# ---- who may see what --------------------------------------------------------------------------------------


def test_another_projects_job_does_not_exist(kit):
    job_id = kit.submit(spec())

    for look in (kit.broker.get, kit.broker.attempts, kit.broker.decisions, kit.broker.cancel):
        with pytest.raises(NotFound):
            look(job_id, EVE)


def test_a_colleague_sees_a_job_but_may_not_act_on_it(kit):
    job_id = kit.submit(spec())

    assert kit.get(job_id, BEN).owner == "ana"
    with pytest.raises(Forbidden):
        kit.broker.cancel(job_id, BEN)


# ---- operators ---------------------------------------------------------------------------------------------


def test_a_drained_backend_takes_no_new_jobs(kit):
    kit.broker.drain_backend("fake", ANA)
    kit.broker.snapshots.forget()
    job_id = kit.submit(spec())
    kit.work()
    assert (kit.get(job_id).state, kit.get(job_id).reason) == (S.ACCEPTED, Reason.DRAINED)

    kit.broker.resume_backend("fake", ANA)

    assert kit.ended(job_id).state is S.COMPLETED


def test_a_paused_backend_submits_nothing_but_cancels(busy_kit):
    kit = busy_kit
    running = kit.submit(spec())
    kit.reaches(running, S.RUNNING)
    waiting = kit.submit(spec())
    kit.broker.pause_backend("fake", ANA)
    kit.broker.cancel(running, ANA)

    assert kit.ended(running).state is S.CANCELLED
    assert kit.get(waiting).state is S.ACCEPTED


def test_scaling_a_training_job_is_a_conflict(busy_kit):
    job_id = busy_kit.submit(spec())

    with pytest.raises(Conflict, match="inference"):
        busy_kit.broker.update(job_id, ANA, replicas=2)


def test_the_marker_finds_the_attempt_at_the_backend(busy_kit):
    kit = busy_kit
    job_id = kit.submit(spec(placement=Placement(backends=("fake",))))
    kit.reaches(job_id, S.RUNNING)

    attempt = kit.broker.attempts(job_id, ANA)[0]

    assert isinstance(adapter_of(kit).find(attempt.marker, attempt.submitted_at), Found)
