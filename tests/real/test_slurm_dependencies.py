"""Dependants in Slurm's own queue: what the broker makes of them, and what Slurm means by its words."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from adapters.errors import Rejected
from api_spec.jobs import Dependency, Kind, Retry, When
from api_spec.reasons import Reason
from api_spec.states import JobState
from tests.helpers import wait_until
from tests.kit import ANA, backend, kit_with
from tests.real.slurm_kit import BOTH, SETTLE_S, bench_on, job, native_id, on, options_of

pytestmark = pytest.mark.process
S = JobState
PATIENCE_S = 60.0


@pytest.fixture
def house(cluster, redis_server, tmp_path):
    """A broker in this process that has the cluster for its one backend."""
    hpc = backend("hpc", "slurm", options_of(cluster), data_dir=str(tmp_path))
    with kit_with(redis_server, tmp_path, hpc, poll_s=0.3, lease_s=10.0) as kit:
        began = time.time()
        wait_until(lambda: time.time() > began + SETTLE_S)
        yield SimpleNamespace(kit=kit, cluster=cluster)


def gate_of(house, name):
    """A script that ends with the code that is written into the file, and the file."""
    gate = house.cluster.shared / f"{name}-{time.time_ns()}"
    return f'while ! [ -s "{gate}" ]; do sleep 0.2; done; exit $(cat "{gate}")', gate


def first_of(house):
    script, gate = gate_of(house, "gate")
    first = house.kit.submit(job(script))
    house.kit.reaches(first, S.RUNNING, PATIENCE_S)
    return first, gate


def second_of(house, first, when=When.SUCCEEDED, **changes):
    return house.kit.submit(
        job("exit 0", kind=Kind.BATCH, depends_on=(Dependency(job=first, when=when),), **changes)
    )


def waits_there(house, job_id):
    house.kit.reaches(job_id, S.QUEUED, PATIENCE_S)
    wait_until(lambda: in_the_queue(house, job_id) == ["PENDING Dependency"], PATIENCE_S)
    return job_id


def in_the_queue(house, job_id, number=1):
    """State and reason of each live job of an attempt, as Slurm itself says them."""
    name = house.kit.broker.attempts(job_id, ANA)[number - 1].marker
    listed = house.cluster.run("squeue", "-h", "-n", name, "-o", "%T %r")
    return listed.splitlines()


def starts(house, job_id):
    attempts = house.kit.broker.attempts(job_id, ANA)
    return [sum(one.step == "batch" for one in house.cluster.starts(at.marker)) for at in attempts]


def ended(house, job_id):
    return house.kit.ended(job_id, PATIENCE_S)


# ---- as when the broker holds it -------------------------------------------------------------------------


@on(*BOTH)
def test_it_waits_in_slurms_queue_and_starts_when_the_other_one_has_succeeded(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))
    told = f"waits for {first} to have succeeded; hpc itself holds it back until then"
    house.kit.settle(lambda: house.kit.get(second).message == told, PATIENCE_S)
    assert house.kit.get(second).reason is Reason.DEPENDENCY_NOT_MET

    gate.write_text("0")

    assert ended(house, second).state is S.COMPLETED
    assert house.kit.get(first).state is S.COMPLETED
    assert starts(house, second) == [1]


@on(*BOTH)
def test_slurm_starts_it_while_the_broker_is_away(house):
    """What the broker holds itself waits until the broker is back."""
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))

    gate.write_text("0")
    wait_until(lambda: starts(house, second) == [1], PATIENCE_S, "nobody does anything, and it starts")

    assert ended(house, second).state is S.COMPLETED


@on(*BOTH)
def test_a_chain_fails_as_a_whole_and_leaves_nothing_in_the_queue(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))
    third = waits_there(house, second_of(house, second))

    gate.write_text("3")

    for job_id, other in ((second, first), (third, second)):
        seen = ended(house, job_id)
        assert (seen.state, seen.reason, seen.ended_by) == (S.FAILED, Reason.DEPENDENCY_FAILED, "broker")
        assert seen.message == f"waited for job {other} to have succeeded, which can no longer happen"
        assert in_the_queue(house, job_id) == []
        assert starts(house, job_id) == [0]


@on(*BOTH)
@pytest.mark.parametrize("when, expected", [(When.SUCCEEDED, S.FAILED), (When.ENDED, S.COMPLETED)])
def test_a_cancelled_predecessor_has_ended_and_not_succeeded(house, when, expected):
    first, _ = first_of(house)
    second = waits_there(house, second_of(house, first, when))

    house.kit.broker.cancel(first, ANA)

    assert ended(house, second).state is expected
    assert in_the_queue(house, second) == []


@on(*BOTH)
def test_a_dependant_that_somebody_cancels_at_slurm_was_cancelled(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))

    house.cluster.run("scancel", "-n", house.kit.broker.attempts(second, ANA)[0].marker)

    seen = ended(house, second)
    assert (seen.state, seen.reason) == (S.CANCELLED, Reason.CANCELLED)
    gate.write_text("0")
    ended(house, first)


@on(*BOTH)
def test_one_that_is_held_at_slurm_is_fetched_when_it_can_never_start(house):
    """Slurm does not look at the dependency of a held job: it would stay there for ever."""
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))
    house.kit.broker.hold(second, ANA)
    house.kit.settle(lambda: house.kit.get(second).reason is Reason.HELD, PATIENCE_S)

    gate.write_text("3")

    seen = ended(house, second)
    assert (seen.state, seen.reason) == (S.FAILED, Reason.DEPENDENCY_FAILED)
    assert in_the_queue(house, second) == []
    assert starts(house, second) == [0]


@on(*BOTH)
def test_a_controller_that_is_restarted_still_knows_what_waits(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))

    house.cluster.stop("slurmctld")
    house.cluster.start("slurmctld")
    wait_until(lambda: in_the_queue(house, second) == ["PENDING Dependency"], PATIENCE_S)
    assert starts(house, second) == [0]
    gate.write_text("0")

    assert ended(house, second).state is S.COMPLETED
    assert starts(house, second) == [1]


@on(*BOTH)
def test_a_controller_that_is_killed_starts_what_waited_once(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first))
    saved(house, second)

    house.cluster.kill("slurmctld")
    house.cluster.start("slurmctld")
    gate.write_text("0")

    assert ended(house, second).state is S.COMPLETED
    assert starts(house, second) == [1]


@on(*BOTH)
def test_a_dependant_that_a_killed_controller_has_lost_is_tried_again_and_not_too_early(house):
    """Killed before it had saved its state, it knows the predecessor and not the dependant."""
    first, gate = first_of(house)
    state = saved(house, first)
    before = state.read_bytes()
    second = waits_there(house, second_of(house, first, retry=Retry(max_attempts=2, on=("Lost",))))

    house.cluster.kill("slurmctld")
    state.write_bytes(before)
    house.cluster.start("slurmctld")
    house.kit.settle(lambda: house.kit.get(second).state is S.ACCEPTED, PATIENCE_S)
    assert house.kit.get(second).reason is Reason.DEPENDENCY_NOT_MET
    assert house.kit.get(first).state is S.RUNNING
    gate.write_text("0")

    assert ended(house, second).state is S.COMPLETED
    assert starts(house, second) == [0, 1]


def saved(house, job_id):
    """The controller's own file, with this job in it as it is now."""
    state, began = house.cluster.layout.directory / "state" / "job_state", time.time()
    number = house.kit.store.jobs.parts(job_id).attempts[0].handle["id"]
    house.cluster.run("scontrol", "update", f"jobid={number}", "comment=to be saved")  # it saves what changes
    wait_until(lambda: state.stat().st_mtime > began, PATIENCE_S, "the controller has saved it")
    return state


@on(*BOTH)
def test_a_requeued_predecessor_has_not_ended(house):
    first, gate = first_of(house)
    second = waits_there(house, second_of(house, first, When.ENDED))
    attempt = house.kit.store.jobs.parts(first).attempts[0]
    wait_until(lambda: starts(house, first) == [1], PATIENCE_S)

    house.cluster.run("scontrol", "requeue", str(attempt.handle["id"]))
    wait_until(lambda: starts(house, first) == [2], PATIENCE_S, "it runs again")

    assert starts(house, second) == [0]
    gate.write_text("0")
    assert ended(house, second).state is S.COMPLETED


# ---- why not otherwise -----------------------------------------------------------------------------------


@on(*BOTH)
@pytest.mark.parametrize("word", ["after", "afternotok"])
def test_slurm_takes_a_cancelled_job_for_one_that_has_started_or_failed(cluster, word):
    """For the broker it has done neither, so those two are never left to Slurm."""
    with bench_on(cluster) as bench:
        first = bench.submit(job(hold=True))
        second = bench.submit(job("exit 0", options={"dependency": f"{word}:{native_id(first)}"}))
        bench.waits(second, "Dependency")

        bench.adapter.cancel(first)

        assert bench.ended(second).outcome is JobState.COMPLETED


@on(*BOTH)
def test_to_slurm_a_job_that_it_does_not_know_is_no_reason_to_wait_or_a_fault(cluster):
    """That is why the id of a predecessor is looked at before and after."""
    with bench_on(cluster) as bench:
        unknown = job("exit 0", options={"dependency": "afterok:4000000"})
        if cluster.version.startswith("22"):
            assert bench.ended(bench.submit(unknown)).outcome is JobState.COMPLETED
        else:
            with pytest.raises(Rejected, match="dependency problem"):
                bench.submit(unknown)
