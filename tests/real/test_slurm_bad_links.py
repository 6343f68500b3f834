"""Daemons that freeze, die, lose what they had accepted, take no token: nothing is lost or runs twice."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Found, Unsettled
from adapters.errors import Busy, OutcomeUnknown
from adapters.slurm.script import SECOND_COPY
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.slurm.fixtures import WITH_ACCOUNTING
from tests.real.slurm_kit import BOTH, SETTLE_S, bench_on, job, native_id, on, own_cluster

pytestmark = pytest.mark.process

A = AttemptState


def found(bench, ref):
    """What a look-up says in the end."""

    def answer():
        said = bench.adapter.find(ref.marker, ref.submitted_at)
        return None if isinstance(said, Unsettled) else said

    return wait_until(answer, 30, f"a look-up for {ref.marker} is settled")


def jobs_named(bench, ref):
    listed = bench.cluster.run("squeue", "-h", "--all", "-t", "all", "-n", ref.marker, "-o", "%A")
    return sorted({int(line) for line in listed.split()})


# ---- who we are --------------------------------------------------------------------------------------


@on(*BOTH)
def test_a_token_that_has_expired_is_replaced_without_a_restart(cluster, tmp_path):
    """By whoever renews the file; meanwhile nothing is lost, because nothing was done."""
    cluster.shared.chmod(0o1777)
    file = cluster.shared / "token"
    file.write_text(cluster.token(lifespan_s=2))
    with bench_on(cluster, token={"file": str(file)}) as bench:
        bench.run(job())
        refused = new_ref(job())
        wait_until(lambda: raises_busy(lambda: bench.adapter.observe([refused])), why="it has expired")
        with pytest.raises(Busy, match="does not take the broker's token") as busy:
            bench.submit(job(), refused)

        file.write_text(cluster.token())
        ref = bench.submit(job(), refused)

        assert busy.value.reason is Reason.BACKEND_DOWN
        assert jobs_named(bench, ref) == [int(native_id(ref))]


def raises_busy(call):
    try:
        call()
    except Busy:
        return True
    return False


@on(*BOTH)
def test_a_wrong_key_is_said(cluster, tmp_path):
    key = cluster.shared / "wrong.key"
    key.write_bytes(b"k" * 64)
    with (
        bench_on(cluster, token={"key_file": str(key)}) as bench,
        pytest.raises(Busy, match="does not take the broker's token") as busy,
    ):
        bench.submit(job())

    assert busy.value.reason is Reason.BACKEND_DOWN
    assert not cluster.run("squeue", "-h")


@on(*BOTH)
def test_another_cluster_behind_the_address_gets_nothing(cluster):
    """v0.0.38 names its cluster in the rows of jobs alone, so that there has to be one."""
    cluster.submit("sleep 100", "--hold", "--job-name=somebodys")
    with (
        bench_on(cluster, cluster="elsewhere") as bench,
        pytest.raises(Busy, match="is the cluster lab and not elsewhere") as busy,
    ):
        bench.submit(job())

    assert busy.value.reason is Reason.BACKEND_DOWN
    assert cluster.run("squeue", "-h", "-o", "%j").split() == ["somebodys"]


# ---- the controller ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BOTH)
def brief_cluster(request):
    """Its daemons give up on each other after 2 s, and it forgets jobs soon."""
    with own_cluster(request.param, message_timeout_s=2, min_job_age_s=2) as cluster:
        yield cluster


@pytest.fixture
def brief(brief_cluster):
    brief_cluster.calm()
    with bench_on(brief_cluster) as bench:
        bench.adapter.find("nobody", 0.0)  # the controller answers us
        yield bench


def test_what_a_frozen_controller_was_sent_is_found_when_it_goes_on(brief):
    """It answers nothing within its time-out, and makes the job later."""
    ref = new_ref(job())
    brief.cluster.freeze("slurmctld")
    with pytest.raises(OutcomeUnknown):
        brief.submit(job(), ref)
    with pytest.raises(Busy):
        brief.adapter.find(ref.marker, ref.submitted_at)

    brief.cluster.thaw("slurmctld")

    said = found(brief, ref)
    assert isinstance(said, Found)
    assert jobs_named(brief, ref) == [said.handle["id"]]
    brief.until(replace(ref, handle=said.handle), lambda seen: seen.state is A.RUNNING)
    wait_until(lambda: brief.starts(ref) == 1)


def test_a_controller_that_is_gone_was_sent_nothing(brief):
    """Nobody could connect to it, so the same attempt may be sent again at once."""
    ref = new_ref(job())
    brief.cluster.kill("slurmctld")
    with pytest.raises((Busy, OutcomeUnknown)):
        brief.submit(job(), ref)

    brief.cluster.start("slurmctld")

    assert found(brief, ref) == Absent()
    ref = brief.submit(job(), ref)
    assert jobs_named(brief, ref) == [int(native_id(ref))]


def test_a_job_that_the_controller_accepted_and_lost_is_not_taken_for_the_next_one(brief):
    """Killed before it had saved its state, it knows nothing of the job and gives its id to another.  The
    database keeps a ghost that waits for ever, or cancels it, by nobody, when it hears of the other."""
    lost = brief.submit(job(hold=True))
    state = brief.cluster.layout.directory / "state" / "job_state"
    brief.cluster.kill("slurmctld")
    state.unlink(missing_ok=True)  # as it was before the submit
    state.with_name("job_state.old").unlink(missing_ok=True)
    brief.cluster.start("slurmctld")
    other = brief.submit(job())

    seen = brief.until(other, lambda seen: seen.state is A.RUNNING)

    assert seen.handle["id"] == other.handle["id"]
    ghost = brief.look(lost)
    if ghost is None:
        assert found(brief, lost) == Absent()
    else:
        assert brief.cluster.layout.accounting
        assert (ghost.outcome, ghost.started_at) == (JobState.CANCELLED, None)
    brief.adapter.cancel(lost)
    brief.adapter.hold(lost)
    assert brief.look(other).state is A.RUNNING, "nobody touched it for the lost one"
    assert brief.starts(lost) == 0


@pytest.mark.parametrize("kind", ["22.05", "24.11"])
def test_more_jobs_than_the_controller_takes_are_asked_to_come_later(kind):
    with own_cluster(kind, nodes=1, max_job_count=3) as cluster, bench_on(cluster) as bench:
        bench.submit(job(hold=True))
        bench.submit(job(hold=True))
        too_many = new_ref(job())

        with pytest.raises(Busy) as busy:
            bench.submit(job(), too_many)

        assert (busy.value.reason, busy.value.retry_after_s) == (Reason.CAPACITY, 10.0)
        assert jobs_named(bench, too_many) == []


def test_a_job_that_slurm_has_forgotten_is_known_to_the_database_or_proven_absent(brief):
    ref = brief.submit(job("exit 3"))
    wait_until(lambda: brief.cluster.starts(ref.marker))
    wait_until(lambda: not jobs_named(brief, ref), 90, "Slurm has forgotten it")

    if brief.cluster.layout.accounting:
        seen = brief.ended(ref)
        assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 3)
        assert isinstance(found(brief, ref), Found)
    else:
        assert brief.look(ref) is None
        assert found(brief, ref) == Absent(), "what the broker calls Lost"


def test_of_what_22_05_has_forgotten_nobody_knows_how_it_failed():
    """Its database has the exit code; slurmrestd of that release says 0 whatever it was."""
    with own_cluster("22.05-accounting", min_job_age_s=2) as cluster, bench_on(cluster) as bench:
        ref = bench.submit(job("exit 3"))
        wait_until(lambda: bench.cluster.starts(ref.marker))
        wait_until(lambda: not jobs_named(bench, ref), 90, "Slurm has forgotten it")

        seen = bench.ended(ref)

    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.UNKNOWN, None)
    assert seen.message == "Slurm's accounts do not tell with what it failed"


# ---- slurmrestd and the database ---------------------------------------------------------------------


@on(*BOTH)
def test_a_slurmrestd_that_dies_during_a_submission_leaves_it_unknown(bench):
    ref = new_ref(job())
    bench.adapter.find("nobody", 0.0)  # it has asked who is there
    bench.cluster.freeze("slurmctld")
    died = threading.Timer(0.5, bench.cluster.kill, ["slurmrestd"])
    died.start()
    with pytest.raises(OutcomeUnknown):
        bench.submit(job(), ref)
    died.join()
    with pytest.raises(Busy):
        bench.adapter.find(ref.marker, ref.submitted_at)

    bench.cluster.thaw("slurmctld")
    bench.cluster.start("slurmrestd")

    said = found(bench, ref)
    copies = [said.handle["id"]] if isinstance(said, Found) else []
    assert jobs_named(bench, ref) == copies


@on(*WITH_ACCOUNTING)
def test_without_its_database_a_cluster_takes_jobs_and_proves_nothing(bench):
    """What the database has not heard of may still be on its way to it."""
    bench.cluster.kill("slurmdbd")
    ref = bench.submit(job("true"))
    end = bench.ended(ref)
    stranger = new_ref(job(), submitted_at=time.time() - 10 * SETTLE_S)

    with_the_database_down = ask(bench, stranger)
    bench.cluster.start("slurmdbd")

    assert end.outcome is JobState.COMPLETED
    assert with_the_database_down != Absent()
    assert found(bench, stranger) == Absent()


def ask(bench, ref):
    try:
        return bench.adapter.find(ref.marker, ref.submitted_at)
    except Busy as error:
        return error


# ---- two of one --------------------------------------------------------------------------------------


@on(*BOTH)
def test_of_two_jobs_under_one_marker_the_second_is_cancelled_while_it_waits(bench):
    """``singleton`` keeps it waiting, and the observer ends it."""
    ref = bench.run(job())
    second = bench.submit(job(), ref)
    assert native_id(second) != native_id(ref)

    seen = bench.look(ref)

    assert seen.handle["id"] == ref.handle["id"]
    wait_until(lambda: bench.cluster.state(second.handle["id"]) == "CANCELLED")
    assert bench.look(ref).state is A.RUNNING
    assert bench.cluster.started(ref.marker) == [ref.handle["id"]]


@on(*BOTH)
def test_of_two_jobs_under_one_marker_one_runs_its_command(bench):
    """Nobody observed them: the second starts when the first is over, finds the claim and ends at once."""
    proof = bench.cluster.shared / f"proof-{time.monotonic_ns()}"
    script = job(f"echo ran >>{proof}")
    ref = bench.submit(script)
    second = bench.submit(script, ref)
    bench.cluster.wait_state(second.handle["id"], "FAILED")

    seen = bench.ended(ref)

    assert (seen.outcome, seen.handle["id"]) == (JobState.COMPLETED, ref.handle["id"])
    assert bench.cluster.show(second.handle["id"])["ExitCode"] == f"{SECOND_COPY}:0"
    assert proof.read_text() == "ran\n"
