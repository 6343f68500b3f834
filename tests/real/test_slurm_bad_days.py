"""What goes wrong with jobs on a real cluster: state, reason and message are right, nothing starts twice."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from adapters.base import LogQuery
from adapters.errors import Rejected
from api_spec.jobs import Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.real.slurm.fixtures import WITH_ACCOUNTING
from tests.real.slurm_kit import BOTH, bench_on, job, native_id, on, own_cluster

pytestmark = pytest.mark.process
ANSWERS_WITHIN_S = 5.0


def told(seen):
    return seen.outcome, seen.reason, seen.message


# ---- nodes -------------------------------------------------------------------------------------------


@on(*BOTH)
def test_a_node_that_fails_ends_a_job_that_the_broker_would_retry(bench):
    """It is submitted with requeue off: the broker decides where the next attempt goes."""
    ref = bench.run(job(retry_on=["NodeLost"]))
    (node,) = bench.look(ref).nodes

    bench.cluster.fail_node(node)

    seen = bench.ended(ref)
    assert told(seen) == (JobState.FAILED, Reason.NODE_LOST, f"the node {node} failed")
    assert bench.starts(ref) == 1


@on(*BOTH)
def test_a_node_that_fails_lets_slurm_start_any_other_job_again(bench):
    ref = bench.run(job())
    (node,) = bench.look(ref).nodes

    bench.cluster.fail_node(node)

    bench.until(ref, lambda seen: seen.state is AttemptState.RUNNING and seen.restarts == 1)
    wait_until(lambda: bench.starts(ref) == 2, why="the second start is on record")
    assert bench.cluster.started(ref.marker) == [int(native_id(ref))], "one job, started again"


@on(*BOTH)
def test_a_job_that_was_requeued_says_so_while_it_waits(bench):
    ref = bench.run(job())

    bench.cluster.run("scontrol", "requeue", native_id(ref))

    seen = bench.waits(ref, "BeginTime")
    assert (seen.restarts, seen.reason) == (1, Reason.STARTING)
    assert seen.message == "Slurm has requeued it and lets it wait a while before it starts again"
    assert seen.started_at is None


@on(*BOTH)
def test_a_requeued_job_goes_on_in_its_log(bench):
    """Slurm appends, and the reader says whose lines it shows."""
    ref = bench.run(job('echo "start ${SLURM_RESTART_COUNT:-0}"; sleep 1000', retry_on=["NonZeroExit"]))
    wait_until(lambda: log_of(bench, ref) == b"start 0\n", why="the first has said so")

    bench.cluster.run("scontrol", "requeue", native_id(ref))
    bench.until(ref, lambda seen: seen.state is AttemptState.RUNNING and seen.restarts == 1)

    wait_until(lambda: log_of(bench, ref) == b"start 0\nstart 1\n", why="so has the second, behind it")


def log_of(bench, ref):
    return bench.adapter.logs(ref, LogQuery()).data


@pytest.mark.parametrize("kind", BOTH)
def test_a_job_whose_prolog_fails_is_held_by_slurm_and_says_why(kind):
    """The node is drained, and the job waits for somebody to release it, though nobody has held it."""
    with own_cluster(kind, nodes=1, extra={"Prolog": "/bin/false"}) as cluster, bench_on(cluster) as bench:
        ref = bench.submit(job("true"))

        seen = bench.until(
            ref, lambda seen: "could not launch" in (seen.message or "") or told_so(bench, ref)
        )
        (why, *_) = bench.adapter.explain_pending(ref)

        assert seen.state is AttemptState.QUEUED
        assert (why.code, why.message) == (
            Reason.HELD,
            "Slurm could not launch it, and holds it until somebody releases it",
        )
        assert bench.starts(ref) == 0


def told_so(bench, ref):
    return any("could not launch" in one.message for one in bench.adapter.explain_pending(ref))


@on(*BOTH)
def test_a_drained_node_lets_its_job_end_and_another_wait(bench):
    """v0.0.38 answers the second submission with a job's id beside an error, and the adapter cancelled it."""
    ref = bench.run(job("sleep 1"))
    (node,) = bench.look(ref).nodes

    bench.cluster.drain_node(node)
    later = bench.submit(job(resources=Resources(nodes=4, memory_per_node_mib=100)))

    assert bench.ended(ref).outcome is JobState.COMPLETED
    seen = bench.until(later, lambda seen: "DRAINED" in f"{seen.message}" or names_the_node(seen))
    assert (seen.state, seen.reason) == (AttemptState.QUEUED, Reason.CAPACITY)


@on(*BOTH)
def test_what_a_job_has_is_free_no_longer(bench):
    """Free GPUs are what Slurm has not allocated, whatever the job does with them."""

    def free():
        shapes = bench.adapter.load().shapes
        return sum(one.free_gpus for one in shapes), sum(one.free_cpus for one in shapes)

    gpus, cpus = free()
    ref = bench.run(job(resources=Resources(gpus_per_node=3, cpus_per_task=2, memory_per_node_mib=100)))

    assert free() == (gpus - 3, cpus - 2)
    bench.adapter.cancel(ref)
    wait_until(lambda: free() == (gpus, cpus), 30, "they are free again")


NOT_OURS = {
    "an account of others": (
        {"account": "nobodys"},
        "asks for the account nobodys; {user} has speech, vision",
    ),
    "a QOS that there is not": ({"qos": "golden"}, "asks for the qos golden"),
}


@on("22.05-accounting", "24.11-accounting")
@pytest.mark.parametrize("case", NOT_OURS)
def test_what_the_database_does_not_allow_is_told_before(bench, case):
    options, told = NOT_OURS[case]
    spec = job("true", options=options)

    found = bench.adapter.refusals(spec, bench.adapter.inventory(), "ana")

    assert any(one.message.startswith(told.format(user=bench.cluster.user)) for one in found), found
    with pytest.raises(Rejected):
        bench.submit(spec)


@on(*BOTH)
def test_a_reservation_is_used_by_whom_it_is_for(bench):
    """One node is kept for somebody else, one for us; and each is seen before anything is sent."""
    made = {"ours": ("n1", bench.cluster.user), "theirs": ("n2", "root")}
    for name, (node, user) in made.items():
        how = f"starttime=now duration=30 nodes={node} users={user} flags=ignore_jobs".split()
        bench.cluster.run("scontrol", "create", "reservation", f"reservationname={name}", *how)
    try:
        inventory = bench.adapter.inventory()
        wanted = {name: job("true", options={"reservation": name}) for name in made}
        refused = {name: bench.adapter.refusals(one, inventory, "ana") for name, one in wanted.items()}

        seen = bench.ended(bench.submit(wanted["ours"]))
    finally:
        for name in made:
            bench.cluster.run("scontrol", "delete", f"reservationname={name}")

    assert (seen.outcome, seen.nodes) == (JobState.COMPLETED, ("n1",))
    assert refused["ours"] == []
    assert [one.code for one in refused["theirs"]] == [Reason.NOT_ALLOWED]


def names_the_node(seen):
    """In which of two ways Slurm says it depends on which part of it looked at the job last."""
    return (seen.native_reason or "").startswith("ReqNodeNotAvail")


@on(*BOTH)
def test_as_many_nodes_as_a_job_may_name_do_not_stop_the_controller(bench):
    """It writes every name out before it looks for them; with a hundred times as many it never came back."""
    began = time.monotonic()
    with pytest.raises(Rejected, match="node"):
        bench.submit(job("true", options={"exclude": "m[1-100][1-100]"}))

    assert time.monotonic() - began < ANSWERS_WITHIN_S
    assert bench.ended(bench.submit(job("true"))).outcome is JobState.COMPLETED


# ---- people ------------------------------------------------------------------------------------------


@on("22.05")
def test_a_scancel_is_a_cancelled_job(bench):
    ref = bench.run(job())

    bench.cluster.run("scancel", native_id(ref))

    assert told(bench.ended(ref)) == (JobState.CANCELLED, Reason.CANCELLED, None)


@on(*WITH_ACCOUNTING)
def test_the_database_says_who_cancelled(bench):
    ref = bench.run(job())

    bench.cluster.run("scancel", native_id(ref), user=bench.cluster.admin)

    message = f"cancelled at Slurm by {bench.cluster.admin}"
    assert told(bench.ended(ref)) == (JobState.CANCELLED, Reason.CANCELLED, message)


@on(*BOTH)
def test_an_administrators_hold_is_told(bench):
    ref = bench.submit(job(options={"begin": "2033-01-01T00:00:00Z"}))

    bench.cluster.run("scontrol", "hold", native_id(ref))

    seen = bench.waits(ref, "JobHeldAdmin")
    assert seen.reason is Reason.HELD
    (why,) = bench.adapter.explain_pending(ref)
    assert why.code is Reason.HELD
    assert "held by an administrator" in why.message


# ---- waiting -----------------------------------------------------------------------------------------


@on(*BOTH)
def test_a_job_that_waits_says_for_what_and_how_many_are_ahead(bench):
    running = bench.run(job(resources=EVERYTHING))
    first, second = bench.submit(job(resources=EVERYTHING)), bench.submit(job(resources=EVERYTHING))
    after = bench.submit(job(options={"dependency": f"afterany:{native_id(running)}"}))

    bench.waits(first, "Resources")
    bench.waits(second, "Priority")
    bench.waits(after, "Dependency")

    (turn,), (ahead,), (other,) = (bench.adapter.explain_pending(one) for one in (first, second, after))
    assert "it is the next of its partition and waits for free resources" in turn.message
    assert "1 job waits ahead of it in the partition train; its priority is " in ahead.message
    assert f"it waits for afterany:{native_id(running)}" in other.message


# ---- preemption --------------------------------------------------------------------------------------

EVERYTHING = Resources(nodes=4, cpus_per_task=8, memory_per_node_mib=100)


def low_and_high(cluster):
    """Native options: a QOS preempts with accounting, a partition without."""
    if cluster.layout.accounting:
        return {"qos": "low"}, {"qos": "high"}
    return {"partition": "train"}, {"partition": "debug"}


@on(*BOTH)
def test_a_preempted_job_waits_and_starts_again(bench):
    low, high = low_and_high(bench.cluster)
    victim = bench.run(job(resources=EVERYTHING, options=low))

    urgent = bench.submit(job("true", resources=EVERYTHING, options=high))

    seen = bench.until(victim, lambda seen: seen.state is AttemptState.QUEUED)
    assert seen.restarts == 1
    assert bench.ended(urgent).outcome is JobState.COMPLETED
    bench.until(victim, lambda seen: seen.state is AttemptState.RUNNING)
    wait_until(lambda: bench.starts(victim) == 2)
    assert bench.cluster.started(victim.marker) == [int(native_id(victim))]


@on(*BOTH)
def test_a_preempted_job_that_the_broker_would_retry_ends(bench):
    low, high = low_and_high(bench.cluster)
    victim = bench.run(job(resources=EVERYTHING, options=low, retry_on=["Preempted"]))

    urgent = bench.submit(job("true", resources=EVERYTHING, options=high))

    seen = bench.ended(victim)
    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.PREEMPTED)
    assert bench.ended(urgent).outcome is JobState.COMPLETED
    assert bench.starts(victim) == 1


# ---- what never runs ---------------------------------------------------------------------------------


@on(*BOTH)
def test_a_dependency_that_can_never_be_met_ends_the_job(bench):
    first = bench.submit(job("exit 3"))
    after = {"dependency": f"afterok:{native_id(first)}"}

    second = bench.submit(job(options=after))

    seen = bench.ended(second)
    assert told(seen) == (
        JobState.CANCELLED,
        Reason.DEPENDENCY_FAILED,
        "Slurm cancelled it: a dependency can never be met",
    )
    assert bench.starts(second) == 0


@on(*BOTH)
def test_a_job_whose_directory_is_not_there_was_not_started(cluster):
    """A file is in the way of its directory, so that nobody can make it."""
    blocked = cluster.shared / f"blocked-{time.monotonic_ns()}"
    blocked.touch()
    with bench_on(cluster, directory=f"{blocked}/jobs") as bench:
        ref = bench.submit(job())

        seen = bench.ended(ref)

    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.LAUNCH_FAILED, None)
    assert seen.message == (
        "Slurm could not open its output files: does the directory exist, and may the user write to it?"
    )


# ---- limits ------------------------------------------------------------------------------------------

EATER = "exec python3 -c 'import time; eaten = bytearray(400 << 20); time.sleep(100)'"
alone = pytest.mark.xdist_group("slurm-slow")
ON_A_WARNING = "trap 'exit 7' USR1; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def slow_ones():
    """Slurm looks at time limits every 30 s: on both clusters jobs run into theirs at the same time."""
    with ExitStack() as stack:
        yield {kind: slow_jobs(kind, stack) for kind in WITH_ACCOUNTING}


def slow_jobs(kind, stack):
    extra = {"JobAcctGatherParams": "OverMemoryKill"}
    bench = stack.enter_context(bench_on(stack.enter_context(own_cluster(kind, extra=extra))))
    late = bench.run(job(time_limit_s=3600))
    told = f"jobid={native_id(late)}"
    bench.cluster.run("scontrol", "update", told, "TimeLimit=1")
    bench.cluster.run("scontrol", "update", told, "EndTime=now")
    two = Resources(tasks_per_node=2, memory_per_node_mib=100)  # v0.0.38 can warn steps alone
    command = ("sh", "-c", ON_A_WARNING)
    warned = job(
        None, command=command, resources=two, time_limit_s=60, options={"signal": "USR1@60", "requeue": False}
    )
    eater = bench.submit(job(EATER, memory_mib=100))
    return SimpleNamespace(bench=bench, late=late, warned=bench.run(warned), eater=eater)


@pytest.fixture(params=WITH_ACCOUNTING)
def slow(request, slow_ones):
    return slow_ones[request.param]


@alone
def test_a_job_that_takes_too_much_memory_is_told_so_without_cgroups(slow):
    """Slurm calls it FAILED by signal 9; only the peak in the database tells it from any other kill."""
    seen = slow.bench.ended(slow.eater)

    assert (seen.outcome, seen.reason, seen.signal) == (JobState.FAILED, Reason.OUT_OF_MEMORY, 9)
    assert "of its 100 MiB" in seen.message


@alone
def test_a_job_is_warned_before_its_end(slow):
    seen = slow.bench.ended(slow.warned)

    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 7)


@alone
def test_a_job_that_runs_into_its_time_limit_says_so(slow):
    seen = slow.bench.ended(slow.late)

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.TIME_LIMIT)
