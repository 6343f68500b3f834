"""200 jobs through the whole stack, while the API server and the broker's workers suffer at random."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from adapters.kubernetes.names import MARKER
from api_spec.ids import marker
from api_spec.states import FINAL
from tests.helpers import wait_until
from tests.real.kubernetes_kit import Tenant
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.timeout(400)]

JOBS = 200
AT_ONCE = 10
SUFFERS_S = 45.0
ENDS_WITHIN_S = 150.0
SETTLE_S = 5.0
WORKERS = ("worker", "worker-2")


class Chaos:
    """One misfortune at a time; ``seed`` repeats their order, though not what they hit."""

    def __init__(self, cluster, parts, seed):
        self.cluster, self.parts, self.random = cluster, parts, random.Random(seed)
        self.happened = Counter()

    def strike(self):
        misfortune = self.random.choice([self.kill_api_server, self.freeze_api_server, self.kill_worker])
        self.happened[misfortune.__name__] += 1
        misfortune()

    def pause(self, longest_s):
        until = time.monotonic() + self.random.uniform(0.1, longest_s)
        wait_until(lambda: time.monotonic() > until)

    def kill_api_server(self):
        self.cluster.kill("apiserver")
        self.pause(1)
        self.cluster.start("apiserver")

    def freeze_api_server(self):
        self.cluster.freeze("apiserver")
        self.pause(4)
        self.cluster.thaw("apiserver")

    def kill_worker(self):
        name = self.random.choice(WORKERS)
        self.parts.kill(name)
        self.pause(1)
        self.parts.start(name)


def job(number):
    return {
        "kind": "batch",
        "name": f"chaos-{number}",
        "image": "registry.example/job:1",
        "labels": {"run": "200ms"},
        "resources": {"memory_per_node": "50MiB"},
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


def test_whatever_dies_each_attempt_is_one_job_of_the_cluster(
    own_kubernetes, tmp_path, record_property, capsys
):
    """By the cluster's own objects, which stay until the broker cleans up."""
    seed = seed_of_today()
    with capsys.disabled():
        print(f"\nchaos with BROKER_TEST_SEED={seed}", flush=True)
    tenant = Tenant.on(own_kubernetes, tmp_path)
    backend = tenant.config(settle_s=SETTLE_S, answer_s=3)
    with Parts(tmp_path, backend, lease_s=4, poll_s=0.5, sweep_s=0.5) as parts:
        parts.start("api", *WORKERS, "controller")
        chaos, began = Chaos(own_kubernetes, parts, seed), time.monotonic()
        ids = submit_all(parts.client(), JOBS)
        while time.monotonic() < began + SUFFERS_S and ended(parts, ids) < JOBS:
            chaos.pause(2)
            chaos.strike()
        wait_until(lambda: ended(parts, ids) == JOBS, ENDS_WITHIN_S, f"{chaos.happened}; all end")
        took_s = time.monotonic() - began
        own_kubernetes.calm()

        again = assert_each_attempt_was_one_job(tenant, parts, ids)
        said = ", ".join(f"{name} {times}" for name, times in sorted(chaos.happened.items()))
        title = f"chaos on Kubernetes {own_kubernetes.version}, seed {seed}"
        record_property("summary", f"{title}: {JOBS} jobs in {took_s:.0f} s, {said}; {again} pods twice")


def assert_each_attempt_was_one_job(tenant, parts, ids):
    """Returns of how many Jobs the Job controller itself made a second pod: the answer to its own request was
    lost with the API server, and it asked again."""
    records = parts.store.jobs.read_many(ids)
    assert Counter((record.state, record.attempt) for record in records) == {("COMPLETED", 1): JOBS}
    expected = {marker(parts.settings.instance, record.id, 1) for record in records}
    jobs = tenant.objects("jobs")
    assert {one["metadata"]["name"] for one in jobs} == expected
    assert len(jobs) == JOBS
    pods = Counter(one["metadata"]["labels"][MARKER] for one in tenant.objects("pods"))
    assert set(pods) == expected
    return sum(count > 1 for count in pods.values())
