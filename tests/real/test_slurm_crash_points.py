"""The named points on a real cluster: the broker dies at each, or Slurm's controller does, or hangs.

By Slurm's own records, what its prolog wrote, each attempt is then one job that was started once.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from api_spec.jobs import Resources, Retry
from api_spec.states import FINAL, JobState
from broker.lifecycle.points import POINTS
from tests.builders import spec
from tests.crash.scenarios import PASSED_BY
from tests.crash.table import Case, cases, run_table
from tests.fakes import INSTANCE
from tests.helpers import wait_until
from tests.kit import ANA, at, backend, kit_with
from tests.real.slurm_kit import options_of, own_cluster, release_what_slurm_holds

pytestmark = pytest.mark.process

MESSAGE_TIMEOUT_S = 2
SETTLE_S = 4.0
OVER_WITHIN_S = 90.0  # a node that a controller forgot is looked at every half minute
HANGS_S = 1.5 * MESSAGE_TIMEOUT_S
GONE_S = 1.0


on_each_release = pytest.mark.parametrize(
    "kind",
    [pytest.param(one, marks=pytest.mark.xdist_group(f"slurm-crash-{one}")) for one in ("22.05", "24.11")],
)


def backend_on(cluster, **changes):
    return backend("slurm", "slurm", options_of(cluster, settle_s=SETTLE_S, **changes))


# ---- the broker dies -------------------------------------------------------------------------------------


class SlurmGround:
    slack_s = 60.0  # Slurm looks for work every few seconds, and two cores have it all

    def __init__(self, cluster, folder):
        self.settings = {"instance": INSTANCE, "poll_s": 0.3}
        self._cluster, self._ledger = cluster, folder / "ledger"
        self._backend = backend_on(cluster, answer_s=10)

    def begin(self, case: Case):
        return (self._backend,)

    def environment(self, case):
        return {"LEDGER": str(self._ledger)}

    def starts(self, case, job_id, marker):
        return sum(start.step == "batch" for start in self._cluster.starts(marker))

    def forget(self, case, marker):
        raise NotImplementedError("Slurm does not forget")


# The second one may wait for the first at Slurm, and be taken back from there: it starts once all the same.
RUN = [replace(case, scenario_name="native") for case in cases(without=set(PASSED_BY))]
CANCEL = cases(without=set(POINTS) - {"cancel_returned"})


@on_each_release
def test_wherever_the_broker_dies_each_attempt_is_one_job(kind, redis_server, tmp_path, record_property):
    with own_cluster(kind, cpus=64, message_timeout_s=MESSAGE_TIMEOUT_S) as cluster:
        wanted = [case for case in RUN + CANCEL if kind == "22.05" or case.mode == "kill"]  # a minute less
        results = run_table(SlurmGround(cluster, tmp_path), redis_server, tmp_path, wanted)

        assert {str(one.case): one.faults for one in results if one.faults} == {}
        told = f"{len(results)} cases at {len({one.case.point for one in results})} points"
        record_property("summary", f"crash table on Slurm {cluster.version}: {told}")


# ---- Slurm's controller dies, or hangs -------------------------------------------------------------------


def hangs(cluster):
    cluster.freeze("slurmctld")
    return HANGS_S, cluster.thaw


def is_killed(cluster):
    cluster.kill("slurmctld")
    return GONE_S, cluster.start


DURING_A_SUBMIT = (
    "drain_begun",
    "drain_entered",
    "claimed",
    "run_checked",
    "intent_written",
    "submit_returned",
    "handle_written",
    "step_done",
    "drain_left",
)
# What a killed controller had accepted within the last seconds it may have forgotten.
JOB = spec(
    command=("sleep", "1"),
    resources=Resources(memory_per_node_mib=50),
    retry=Retry(max_attempts=10, on=("Lost",)),
)


@on_each_release
def test_wherever_the_controller_dies_or_hangs_each_attempt_is_one_job(
    kind, redis_server, tmp_path, record_property
):
    times = {"message_timeout_s": MESSAGE_TIMEOUT_S, "credential_s": 20}
    with (
        own_cluster(kind, cpus=64, **times) as cluster,
        kit_with(
            redis_server, tmp_path, backend_on(cluster, answer_s=2 * MESSAGE_TIMEOUT_S), poll_s=0.3
        ) as kit,
    ):
        struck = {
            (point, misfortune.__name__): one_job_struck(kit, cluster, point, misfortune)
            for point in DURING_A_SUBMIT
            for misfortune in (hangs, is_killed)
        }

        def over():
            kit.work()
            if all(kit.get(job_id).state in FINAL for job_id in struck.values()):
                return True
            release_what_slurm_holds(cluster)
            return False

        wait_until(over, OVER_WITHIN_S, "all jobs are over", 0.2)

        lost = sum(attempts_lost(kit, cluster, *one) for one in struck.items())
        told = (
            f"{len(struck)} deaths and hangs at {len(DURING_A_SUBMIT)} points, {lost} attempts lost by Slurm"
        )
        record_property("summary", f"controller of Slurm {cluster.version}: {told}")


def one_job_struck(kit, cluster, point, misfortune):
    """While the daemon is away the broker goes on with what it was about to do."""
    timers = []

    def strike():
        seconds, mend = misfortune(cluster)
        timers.append(threading.Timer(seconds, mend, ["slurmctld"]))
        timers[0].start()

    at(point, strike)
    job_id = kit.submit(JOB)
    kit.settle(lambda: timers, OVER_WITHIN_S, f"{point} is passed")
    timers[0].join()
    return job_id


def attempts_lost(kit, cluster, case, job_id):
    job = kit.get(job_id)
    told = [(one.reason, one.message, one.exit_code) for one in kit.broker.attempts(job_id, ANA)]
    assert job.state is JobState.COMPLETED, (case, job.reason, told)
    for number in range(1, job.attempt + 1):
        started = cluster.started(kit.broker.context.marker(job_id, number))
        assert len(started) == 1 or (not started and number < job.attempt), (case, number, started)
    return job.attempt - 1
