"""200 jobs through the whole stack, while Slurm's daemons and the broker's workers suffer at random."""

from __future__ import annotations

from collections import Counter

import pytest

from api_spec.ids import marker
from tests.real.chaos import JOBS, SETTINGS, WORKERS, Chaos, seed_of_today
from tests.real.slurm_kit import config, own_cluster, release_what_slurm_holds
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("slurm-chaos")]

MESSAGE_TIMEOUT_S = 2
CREDENTIAL_S = 20  # longer than any pause: Slurm holds a job whose credential was void when it was launched
SETTLE_S = 4.0  # beyond the time-out: what a frozen controller was sent has arrived by then


def job(number):
    return {
        "kind": "batch",
        "name": f"chaos-{number}",
        "command": ["true"],
        "resources": {"memory_per_node": "50MiB"},
        # A controller that was killed forgets what it had just accepted: such an attempt ends as Lost.
        "retry": {"max_attempts": 10, "on": ["Lost"]},
    }


@pytest.mark.parametrize("kind", ["24.11"])
def test_whatever_dies_each_attempt_starts_one_job_and_every_job_completes(
    kind, tmp_path, record_property, capsys
):
    """By Slurm's own records: what its prolog wrote when a batch script was started."""
    seed = seed_of_today(capsys)
    times = {"message_timeout_s": MESSAGE_TIMEOUT_S, "credential_s": CREDENTIAL_S}
    with own_cluster(kind, cpus=64, **times) as cluster:
        backend = config(cluster, settle_s=SETTLE_S, answer_s=10)
        released = set()
        with Parts(tmp_path, backend, **SETTINGS) as parts:
            parts.start("api", *WORKERS, "controller")
            chaos = Chaos(cluster, parts, seed)
            chaos.freezes("slurmctld", 4)
            chaos.kills("slurmctld")  # what it had accepted within the last seconds may be lost
            chaos.freezes("slurmrestd", 3)
            chaos.kills("slurmrestd")
            chaos.mend = lambda: released.update(release_what_slurm_holds(cluster))

            ids, said = chaos.over(job)

            slurms = assert_each_attempt_started_one_job(cluster, parts, ids)
            title = f"chaos on Slurm {cluster.version}, seed {seed}"
            record_property("summary", f"{title}: {said}; {slurms}, {len(released)} released by hand")


def assert_each_attempt_started_one_job(cluster, parts, ids):
    """None of an attempt that ended as Lost, if the controller lost it before it started.

    Returns what Slurm itself did: attempts that it lost, and jobs that it started again after it was killed,
    since it had not saved that they ran.
    """
    records = parts.store.jobs.read_many(ids)
    assert Counter(record.state for record in records) == {"COMPLETED": JOBS}
    wrong, lost, again = {}, 0, 0
    for record in records:
        for number in range(1, record.attempt + 1):
            starts = cluster.starts(marker(parts.settings.instance, record.id, number))
            jobs = {start.job_id for start in starts}
            lost += number < record.attempt
            again += len(starts) > len(jobs)
            if len(jobs) > 1 or (number == record.attempt and not jobs):
                wrong[record.id, number] = starts
    assert not wrong
    return f"Slurm lost {lost} attempts and started {again} jobs again"
