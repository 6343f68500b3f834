"""200 jobs through the whole stack, while Slurm's daemons and the broker's workers suffer at random."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import suppress

import pytest

from api_spec.ids import marker
from api_spec.states import FINAL
from tests.helpers import wait_until
from tests.real.slurm_kit import config, own_cluster
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.timeout(400), pytest.mark.xdist_group("slurm-chaos")]

JOBS = 200
AT_ONCE = 10
SUFFERS_S = 45.0
ENDS_WITHIN_S = 150.0
MESSAGE_TIMEOUT_S = 2
CREDENTIAL_S = 20  # longer than any pause: Slurm holds a job whose credential was void when it was launched
SETTLE_S = 4.0  # beyond the time-out: what a frozen controller was sent has arrived by then
WORKERS = ("worker", "worker-2")


class Chaos:
    """One misfortune at a time; ``seed`` repeats their order, though not what they hit."""

    def __init__(self, cluster, parts, seed):
        self.cluster, self.parts, self.random = cluster, parts, random.Random(seed)
        self.happened = Counter()

    def strike(self):
        misfortune = self.random.choice(
            [self.freeze_controller, self.kill_controller, self.kill_rest, self.freeze_rest, self.kill_worker]
        )
        self.happened[misfortune.__name__] += 1
        misfortune()

    def pause(self, longest_s):
        until = time.monotonic() + self.random.uniform(0.1, longest_s)
        wait_until(lambda: time.monotonic() > until)

    def freeze_controller(self):
        self.freeze("slurmctld", 4)

    def freeze_rest(self):
        self.freeze("slurmrestd", 3)

    def freeze(self, daemon, longest_s):
        self.cluster.freeze(daemon)
        self.pause(longest_s)
        self.cluster.thaw(daemon)

    def kill_controller(self):
        """What it had accepted within the last seconds may be lost."""
        self.kill("slurmctld")

    def kill_rest(self):
        self.kill("slurmrestd")

    def kill(self, daemon):
        self.cluster.kill(daemon)
        self.pause(1)
        self.cluster.start(daemon)

    def kill_worker(self):
        name = self.random.choice(WORKERS)
        self.parts.kill(name)
        self.pause(1)
        self.parts.start(name)


def job(number):
    return {
        "kind": "batch",
        "name": f"chaos-{number}",
        "command": ["true"],
        "resources": {"memory_per_node": "50MiB"},
        # A controller that was killed forgets what it had just accepted: such an attempt ends as Lost.
        "retry": {"max_attempts": 10, "on": ["Lost"]},
    }


def submit_all(client, count):
    ids = []
    for first in range(0, count, AT_ONCE):
        taken = client.submit([job(number) for number in range(first, first + AT_ONCE)])
        ids += [one["job"]["id"] for one in taken]
    return ids


def ended(parts, ids):
    return sum(record.state in FINAL for record in parts.store.jobs.read_many(ids))


def seed_of_today():
    return int(os.environ.get("BROKER_TEST_SEED", random.randrange(10**6)))


@pytest.mark.parametrize("kind", ["24.11"])
def test_whatever_dies_each_attempt_starts_one_job_and_every_job_completes(
    kind, tmp_path, record_property, capsys
):
    """By Slurm's own records: what its prolog wrote when a batch script was started."""
    seed = seed_of_today()
    with capsys.disabled():
        print(f"\nchaos with BROKER_TEST_SEED={seed}", flush=True)
    settings = {"lease_s": 4, "poll_s": 0.5, "sweep_s": 0.5}
    times = {"message_timeout_s": MESSAGE_TIMEOUT_S, "credential_s": CREDENTIAL_S}
    with own_cluster(kind, cpus=64, **times) as cluster:
        backend = config(cluster, settle_s=SETTLE_S, answer_s=10)
        with Parts(tmp_path, backend, **settings) as parts:
            parts.start("api", *WORKERS, "controller")
            chaos, began = Chaos(cluster, parts, seed), time.monotonic()
            ids = submit_all(parts.client(), JOBS)
            while time.monotonic() < began + SUFFERS_S and ended(parts, ids) < JOBS:
                chaos.pause(2)
                chaos.strike()
            wait_until(lambda: ended(parts, ids) == JOBS, ENDS_WITHIN_S, story(parts, ids, chaos))
            took_s = time.monotonic() - began

            slurms = assert_each_attempt_started_one_job(cluster, parts, ids)
            said = ", ".join(f"{name} {times}" for name, times in sorted(chaos.happened.items()))
            told = f"chaos on Slurm {cluster.version}, seed {seed}: {JOBS} jobs in {took_s:.0f} s"
            record_property("summary", f"{told}, {said}; {slurms}")


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


def story(parts, ids, chaos):
    def text():
        with suppress(Exception):
            records = parts.store.jobs.read_many(ids)
            left = [(one.id, one.state, one.reason, one.message) for one in records if one.state not in FINAL]
            return f"after {dict(chaos.happened)} {len(left)} of {len(ids)} jobs have not ended: {left[:5]}"
        return "the store does not answer"

    return Told(text)


class Told:
    """A text that is made when it is read."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text()
