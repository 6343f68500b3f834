"""Logs that outlive their pods, from a real API server, and on a real node from a real kubelet."""

from __future__ import annotations

import time

import pytest

from adapters.base import LogQuery
from api_spec.errors import BackendUnavailable
from api_spec.jobs import Array, JobSpec, Kind, Placement, Replicas, Resources, Service, Volume
from api_spec.states import JobState
from broker.lifecycle import kept_logs
from broker.lifecycle.log_ends import unpack
from tests.helpers import wait_until
from tests.kit import ANA, backend, kit_with
from tests.real.kubernetes.fake_nodes import LOG_LINE
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes_bench import tenant
from tests.real.kubernetes_jobs import job
from tests.real.kubernetes_kit import a_tenant

__all__ = ["tenant"]  # a fixture

pytestmark = pytest.mark.process

SLOW_S = 60.0


def kit_on(tenant, redis_url, folder):
    config = backend("k8s", "kubernetes", tenant.options())
    return kit_with(redis_url, folder, config, poll_s=0.2, lease_s=10.0)


@pytest.fixture
def kit(redis_server, tmp_path, tenant):
    with kit_on(tenant, redis_server, tmp_path) as kit:
        yield kit


@pytest.fixture
def node(kubernetes_node, tmp_path):
    with a_tenant(kubernetes_node, tmp_path) as tenant:
        yield tenant


@pytest.fixture
def node_kit(redis_server, tmp_path, node):
    with kit_on(node, redis_server, tmp_path) as kit:
        yield kit


def read(kit, job_id, **query):
    return kit.broker.log(job_id, ANA, LogQuery(**query))


def kept(kit, job_id):
    return kit.broker.context.blobs.get(kept_logs.name_of(job_id, 1))


def is_gone(tenant, job_id):
    return not any(job_id.lower() in pod["metadata"]["name"] for pod in tenant.objects("pods"))


# ---- fake nodes: a log that never changes, and pods that are gone at once ---------------------------------


def test_the_log_of_a_cancelled_job_is_there_when_its_pods_are_gone(kit, tenant):
    job_id = kit.submit(job("hang"))
    kit.reaches(job_id, JobState.RUNNING)
    before = read(kit, job_id)
    kit.broker.cancel(job_id, ANA)
    kit.ended(job_id, SLOW_S)
    kit.settle(lambda: is_gone(tenant, job_id), SLOW_S)

    page = read(kit, job_id)

    assert LOG_LINE.encode() in before.data
    assert page.data == before.data
    assert page.complete and "all of it was kept" in page.note
    assert read(kit, job_id, cursor=before.cursor).data == b""


def test_the_log_of_a_job_that_somebody_deletes_was_kept_when_it_ended(kit, tenant):
    job_id = kit.submit(job())
    kit.ended(job_id, SLOW_S)
    kit.settle(lambda: kept(kit, job_id), SLOW_S)
    before = read(kit, job_id)
    (made,) = (one for one in tenant.objects("jobs") if job_id.lower() in one["metadata"]["name"])
    path = f"/apis/batch/v1/namespaces/{tenant.namespace}/jobs/{made['metadata']['name']}"
    tenant.cluster.api.delete(path)
    kit.settle(lambda: is_gone(tenant, job_id), SLOW_S)

    page = read(kit, job_id)

    assert (before.note, page.data, page.complete) == (None, before.data, True)
    assert "all of it was kept" in page.note


def test_what_was_not_kept_is_a_sentence(kit, tenant):
    job_id = kit.submit(job("hang"))
    kit.reaches(job_id, JobState.RUNNING)
    kit.broker.cancel(job_id, ANA)
    kit.ended(job_id, SLOW_S)
    kit.settle(lambda: is_gone(tenant, job_id), SLOW_S)
    kit.broker.context.blobs.drop(job_id)

    with pytest.raises(
        BackendUnavailable, match="its pod is gone, and the log with it; nothing of it was kept"
    ):
        read(kit, job_id)


def test_of_an_array_every_task_has_its_share_and_no_pass_waits_for_it(kit, record_property):
    """The end is written before a log is read."""
    count = 200
    tiny = Resources(cpus_per_task=1, memory_per_node_mib=10)
    job_id = kit.submit(job(array=Array(indices=f"0-{count - 1}"), resources=tiny))

    def work_but_keep_nothing():
        kit.broker.tick()
        while kit.hints:
            if not (hint := kit.hints.pop(0)).startswith("keep:"):
                kit.broker.perform(hint)
        return kit.get(job_id).state is JobState.COMPLETED

    wait_until(work_but_keep_nothing, 120, "the array has completed")
    before = kept(kit, job_id)
    began = time.monotonic()
    kit.broker.perform("keep:k8s")
    took_s = time.monotonic() - began

    found = unpack(kept(kit, job_id))
    record_property("summary", f"Kubernetes: {count} logs of an array kept in {took_s:.1f} s")
    assert before is None
    assert len(found.ends) == count
    assert found.missed is None
    assert {one.index for one in found.ends} == set(range(count))


# ---- a real node ------------------------------------------------------------------------------------------

# It stays longer than the broker waits between two looks at one that is told to go.
SAYS_MORE_WHEN_IT_IS_TOLD_TO_GO = """
trap 'echo last words; sleep 6; exit 0' TERM
echo first words
while :; do sleep 0.1; done
"""
ENDS_ONCE = """
if [ -e /again/it ]; then echo second; exec httpd -f -p 8000 -h /etc; fi
echo first; touch /again/it; exit 1
"""


def on_node(*command, **changes):
    members = {"kind": Kind.BATCH, "name": "job", **changes}
    native = Placement(kubernetes={"grace_s": 10})
    resources = Resources(memory_per_node_mib=64)
    return JobSpec(
        project="vision", image=BUSYBOX, command=command, placement=native, resources=resources, **members
    )


def test_what_a_pod_says_seconds_before_it_is_gone_is_kept(node_kit, node):
    """Read once before the cancel, and again while the pod is told to go."""
    job_id = node_kit.submit(on_node("sh", "-c", SAYS_MORE_WHEN_IT_IS_TOLD_TO_GO))
    node_kit.reaches(job_id, JobState.RUNNING)
    node_kit.settle(lambda: read(node_kit, job_id).data == b"first words\n", SLOW_S)
    before = read(node_kit, job_id)

    node_kit.broker.cancel(job_id, ANA)
    node_kit.ended(job_id, SLOW_S)
    node_kit.settle(lambda: is_gone(node, job_id), SLOW_S)

    after = read(node_kit, job_id, cursor=before.cursor)
    assert read(node_kit, job_id).data == b"first words\nlast words\n"
    assert after.data == b"last words\n"
    assert after.complete


def test_a_replica_that_was_started_again_shows_what_it_said_before(node_kit):
    service = Service(port=8000, replicas=Replicas(min=1, max=1))
    volume = Volume(source="emptydir:1MiB", mount_path="/again")
    spec = on_node("sh", "-c", ENDS_ONCE, kind=Kind.INFERENCE, service=service, volumes=(volume,))
    job_id = node_kit.submit(spec)

    node_kit.settle(lambda: b"first\n" in read(node_kit, job_id).data, SLOW_S)
    page = node_kit.settle(lambda: started_again(node_kit, job_id), SLOW_S)

    assert page.data.startswith(b"first\n")
    assert "its container was started again" in page.note
    node_kit.broker.cancel(job_id, ANA)
    node_kit.ended(job_id, SLOW_S)


def started_again(kit, job_id):
    page = read(kit, job_id)
    return page if page.note and page.data.count(b"\n") >= 2 else None
