"""200 jobs through the whole stack, while the API server and the broker's workers suffer at random."""

from __future__ import annotations

from collections import Counter

import pytest

from adapters.kubernetes.names import MARKER
from api_spec.ids import marker
from tests.real.chaos import JOBS, SETTINGS, WORKERS, Chaos, seed_of_today
from tests.real.kubernetes_kit import a_tenant
from tests.stack import Parts

pytestmark = pytest.mark.process

SETTLE_S = 5.0


def job(number):
    return {
        "kind": "batch",
        "name": f"chaos-{number}",
        "image": "registry.example/job:1",
        "labels": {"run": "200ms"},
        "resources": {"memory_per_node": "50MiB"},
    }


def test_whatever_dies_each_attempt_is_one_job_of_the_cluster(
    own_kubernetes, tmp_path, record_property, capsys
):
    """By the cluster's own objects, which stay until the broker cleans up."""
    seed = seed_of_today(capsys)
    with (
        a_tenant(own_kubernetes, tmp_path) as tenant,
        Parts(tmp_path, tenant.config(settle_s=SETTLE_S, answer_s=3), **SETTINGS) as parts,
    ):
        parts.start("api", *WORKERS, "controller")
        chaos = Chaos(own_kubernetes, parts, seed)
        chaos.freezes("apiserver", 4)
        chaos.kills("apiserver")

        ids, said = chaos.over(job)

        own_kubernetes.calm()
        again = assert_each_attempt_was_one_job(tenant, parts, ids)
        title = f"chaos on Kubernetes {own_kubernetes.version}, seed {seed}"
        record_property("summary", f"{title}: {said}; {again} pods twice")


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
