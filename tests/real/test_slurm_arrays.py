"""Arrays on a real cluster: a state for each task, the throttle, single tasks that end otherwise, and tasks
that the controller has forgotten."""

from __future__ import annotations

import pytest

from api_spec.jobs import Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.real.slurm_kit import BOTH, bench_on, job, native_id, own_cluster

pytestmark = pytest.mark.process

A = AttemptState
RELEASED = 'while ! [ -e "$GATE" ]; do sleep 0.1; done'


def both(test):
    return pytest.mark.parametrize("cluster", BOTH, indirect=True)(test)


def states(seen):
    return {index: task.state for index, task in seen.tasks.items()}


def batch_starts(bench, ref):
    return [start.job_id for start in bench.cluster.starts(ref.marker) if start.step == "batch"]


@both
def test_a_throttled_array_runs_so_many_tasks_at_once(bench, tmp_path_factory):
    gate = bench.cluster.shared / "gate-throttle"
    gate.unlink(missing_ok=True)
    ref = bench.submit(job(RELEASED, array="0-5", max_running=2, environment={"GATE": str(gate)}))

    seen = bench.until(ref, lambda seen: [*states(seen).values()].count(A.RUNNING) == 2)
    waiting = bench.until(ref, lambda seen: seen.native_reason == "JobArrayTaskLimit")
    gate.touch()
    end = bench.ended(ref)

    assert states(seen) == {0: A.RUNNING, 1: A.RUNNING} | dict.fromkeys(range(2, 6), A.QUEUED)
    assert waiting.state is A.RUNNING
    assert (end.outcome, set(states(end))) == (JobState.COMPLETED, set(range(6)))
    assert len(batch_starts(bench, ref)) == len(set(batch_starts(bench, ref))) == 6, "each task once"


@both
def test_each_task_ends_in_its_own_way(bench):
    script = """
case "$BROKER_TASK_INDEX" in
    1) exit 3 ;;
    5) kill -11 $$ ;;
esac"""
    ref = bench.submit(job(script, array="1,5,7"))

    seen = bench.ended(ref)

    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 3)
    assert seen.message == "2 of 3 tasks failed, first task 1"
    ends = {
        index: (one.outcome, one.reason, one.exit_code or one.signal) for index, one in seen.tasks.items()
    }
    assert ends == {
        1: (JobState.FAILED, Reason.NON_ZERO_EXIT, 3),
        5: (JobState.FAILED, Reason.SIGNALLED, 11),
        7: (JobState.COMPLETED, Reason.COMPLETED, None),
    }


@both
def test_tasks_that_somebody_cancels_end_alone(bench):
    """One that runs, and one that waits, of which Slurm keeps nothing."""
    two_at_once = Resources(cpus_per_task=8, nodes=2, memory_per_node_mib=100)
    ref = bench.submit(job(array="0-3", resources=two_at_once))
    bench.until(ref, lambda seen: states(seen)[1] is A.RUNNING)

    bench.cluster.run("scancel", f"{native_id(ref)}_3")
    bench.cluster.run("scancel", f"{native_id(ref)}_1")

    seen = bench.until(ref, lambda seen: states(seen)[1] is A.ENDED)
    assert (seen.state, states(seen)[0]) == (A.RUNNING, A.RUNNING)
    assert seen.tasks[1].outcome is JobState.CANCELLED
    bench.adapter.cancel(ref)
    end = bench.ended(ref)
    vanished = JobState.CANCELLED if bench.cluster.layout.accounting else JobState.FAILED
    assert end.outcome is JobState.CANCELLED
    assert end.tasks[3].outcome is vanished


def told_until(bench, ref, indices, condition):
    """As a worker does: asked for again until it is seen; what Slurm has nothing left of, and its answer."""
    gone = set()

    def so():
        gone.update(bench.adapter.cancel_tasks(ref, indices))
        return condition(bench.look(ref), gone)

    wait_until(so, 40, why=f"tasks {indices} are cancelled")
    return gone


@both
def test_single_tasks_are_cancelled_through_the_adapter(bench):
    """Those that run are seen to end; of those that wait Slurm keeps nothing, and says so if asked again."""
    two_at_once = Resources(cpus_per_task=8, nodes=2, memory_per_node_mib=100)
    ref = bench.submit(job(array="0-5", resources=two_at_once))
    bench.until(ref, lambda seen: states(seen)[1] is A.RUNNING)

    gone = told_until(
        bench, ref, (1, 4, 5), lambda seen, gone: {4, 5} <= gone and states(seen).get(1) is A.ENDED
    )

    seen = bench.until(ref, lambda seen: states(seen)[2] is A.RUNNING)
    assert gone == {4, 5}
    assert (seen.tasks[1].outcome, seen.tasks[1].reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert {4, 5}.isdisjoint(seen.tasks)
    bench.adapter.cancel(ref)
    bench.ended(ref)
    wait_until(lambda: len(set(batch_starts(bench, ref))) == 3, why="those that waited never started")


@both
def test_tasks_behind_the_end_of_a_list_that_is_cut_are_cancelled_as_the_others(bench):
    """Slurm cuts the list of those that wait after 64 characters; asked for one by its number, it tells."""
    kept = {index for index in range(80) if index % 7 in (0, 1, 3)}
    cancelled = tuple(sorted(set(range(80)) - kept))
    ref = bench.submit(job("true", array="0-79", hold=True))
    bench.until(ref, lambda seen: len(states(seen)) == 80)

    bench.adapter.cancel_tasks(ref, cancelled)
    gone = bench.adapter.cancel_tasks(ref, cancelled)

    [waiting] = bench.adapter.transport.job(int(native_id(ref)))
    assert waiting.waiting_tasks.endswith("...")
    assert gone == set(cancelled)
    bench.adapter.release(ref)
    bench.ended(ref)
    wait_until(lambda: len(batch_starts(bench, ref)) == len(kept))


@both
def test_a_task_that_is_not_the_arrays_or_has_ended_is_left_alone(bench):
    ref = bench.submit(job('[ "$BROKER_TASK_INDEX" = 0 ] || sleep 1000', array="0-1"))
    before = bench.until(ref, lambda seen: states(seen) == {0: A.ENDED, 1: A.RUNNING})

    assert set(bench.adapter.cancel_tasks(ref, (0, 7))) <= {7}

    seen = bench.look(ref)
    assert (states(seen), seen.tasks[0]) == ({0: A.ENDED, 1: A.RUNNING}, before.tasks[0])


@both
def test_an_array_that_waits_is_cancelled_as_one(bench):
    ref = bench.submit(job(array="0-9", hold=True))
    bench.until(ref, lambda seen: states(seen) == dict.fromkeys(range(10), A.QUEUED))

    bench.adapter.cancel(ref)

    seen = bench.ended(ref)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert {task.outcome for task in seen.tasks.values()} == {JobState.CANCELLED}
    assert set(seen.tasks) == set(range(10))
    assert batch_starts(bench, ref) == []


@both
def test_a_requeued_task_starts_again_alone(bench):
    ref = bench.submit(job(array="0-1"))
    bench.until(ref, lambda seen: set(states(seen).values()) == {A.RUNNING})
    wait_until(lambda: len(batch_starts(bench, ref)) == 2)

    bench.cluster.run("scontrol", "requeue", f"{native_id(ref)}_0")

    waiting = bench.until(ref, lambda seen: states(seen)[0] is A.QUEUED)
    assert (states(waiting)[1], waiting.restarts) == (A.RUNNING, 1)
    bench.until(ref, lambda seen: set(states(seen).values()) == {A.RUNNING})
    wait_until(lambda: len(batch_starts(bench, ref)) == 3)
    assert len(set(batch_starts(bench, ref))) == 2, "no other job"


@pytest.mark.parametrize("kind", BOTH[1:])
def test_tasks_that_the_controller_has_forgotten_are_known_to_the_database(kind):
    """A task is forgotten a while after its own end, while others still run or wait."""
    with own_cluster(kind, min_job_age_s=2) as cluster, bench_on(cluster) as bench:
        gate = cluster.shared / "gate"
        script = f'[ "$BROKER_TASK_INDEX" = 0 ] && exit 3; {RELEASED}'
        ref = bench.submit(job(script, array="0-2", environment={"GATE": str(gate)}))
        first = bench.until(ref, lambda seen: states(seen)[0] is A.ENDED)
        wait_until(lambda: len(cluster.run("squeue", "-hrt", "all", "-n", ref.marker).split("\n")) == 3, 40)

        while_others_run = bench.look(ref)
        gate.touch()
        wait_until(lambda: not cluster.run("squeue", "-ht", "all", "-n", ref.marker), 40)
        end = bench.ended(ref)

    assert first.tasks[0].reason is Reason.NON_ZERO_EXIT
    assert states(while_others_run) == {1: A.RUNNING, 2: A.RUNNING}, "the broker keeps what it has seen"
    assert (end.outcome, end.exit_code, set(end.tasks)) == (JobState.FAILED, 3, {0, 1, 2})
    assert end.message == "1 of 3 tasks failed, first task 0"
