"""Through API, worker, controller and Redis to a real cluster, and back."""

from __future__ import annotations

from contextlib import ExitStack, closing
from types import SimpleNamespace

import pytest

from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import JobSpec, Kind, Resources, Volume
from api_spec.reasons import Reason
from api_spec.schemas import load_spec
from api_spec.states import FINAL
from broker.blobs import Directory
from broker.lifecycle import kept_logs
from tests.helpers import wait_until
from tests.real.kubernetes_kit import a_tenant
from tests.stack import Parts, job_until

pytestmark = pytest.mark.process
PATIENCE_S = 60.0
IMAGE = "registry.example/job:1"


@pytest.fixture(scope="module")
def house(kubernetes, tmp_path_factory):
    """A broker of three processes that knows the cluster as ``k8s``, with the rights that we ask for."""
    folder = tmp_path_factory.mktemp("house")
    with (
        a_tenant(kubernetes, folder) as tenant,
        tenant.wire() as wire,
        Parts(folder, tenant.config(wire.url), lease_s=5, poll_s=0.3) as parts,
    ):
        parts.start("api", "worker", "controller")
        house = SimpleNamespace(tenant=tenant, parts=parts, client=parts.client(), wire=wire)
        wait_until(lambda: house.client.backend("k8s")["reachable"], PATIENCE_S, "the cluster is known")
        yield house


def body(outcome="success", **changes):
    job = {"kind": "batch", "name": "job", "image": IMAGE, "labels": {"outcome": outcome, "run": "500ms"}}
    return {**job, "resources": {"memory_per_node": "50MiB"}, **changes}


def submit(house, outcome="success", **changes):
    (taken,) = house.client.submit([body(outcome, **changes)])
    return taken["job"]["id"]


def until(house, job_id, condition):
    return job_until(house.client, job_id, condition, PATIENCE_S)


def ended(house, job_id):
    return until(house, job_id, lambda job: job["state"] in FINAL)


def service(house, **changes):
    served = {"port": 8000, "replicas": {"min": 1, "max": 3}}
    return submit(house, kind="inference", labels={}, service=served, **changes)


def test_a_job_completes_in_one_pod(house):
    job_id = submit(house)

    job = ended(house, job_id)

    assert (job["state"], job["reason"], job["exit_code"]) == ("COMPLETED", "Completed", 0)
    [attempt] = house.client.attempts(job_id)
    [made] = house.tenant.objects("jobs", attempt["marker"])
    [pod] = house.tenant.objects("pods", attempt["marker"])
    assert attempt["native_id"] == f"{house.tenant.namespace}/{attempt['marker']}"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]


def test_a_job_fails_as_its_container_did(house):
    job = ended(house, submit(house, "fail", labels={"outcome": "fail", "exit": "42", "run": "100ms"}))

    assert (job["state"], job["reason"], job["exit_code"]) == ("FAILED", "NonZeroExit", 42)


def test_a_retry_is_another_job_of_the_cluster(house):
    labels = {"outcome": "fail", "exit": "1", "run": "100ms"}
    job_id = submit(house, labels=labels, retry={"max_attempts": 2, "on": ["NonZeroExit"]})

    job = ended(house, job_id)

    names = {attempt["marker"] for attempt in house.client.attempts(job_id)}
    assert (job["state"], job["attempt"], len(names)) == ("FAILED", 2, 2)
    assert all(len(house.tenant.objects("pods", name)) == 1 for name in names)


def test_what_waits_says_why_in_the_schedulers_words(house):
    """Each fits a node; all of them together are twice what the nodes without GPUs have."""
    ids = [submit(house, "hang", resources={"cpus_per_task": 32}) for _ in range(8)]

    def waits():
        jobs = [house.client.get(job_id) for job_id in ids]
        return [job for job in jobs if job["reason"] == "Capacity" and job["message"]]

    waiting = wait_until(lambda: len(waits()) == 4 and waits(), PATIENCE_S, "four wait, and say why")
    assert all("Insufficient cpu" in job["message"] for job in waiting)
    assert {job["state"] for job in waiting} == {"QUEUED"}
    for job_id in ids:
        house.client.cancel(job_id)
    assert {ended(house, job_id)["state"] for job_id in ids} == {"CANCELLED"}


def test_a_service_is_ready_scaled_updated_and_cancelled(house):
    job_id = service(house)
    ready = until(house, job_id, lambda job: job["state"] == "RUNNING")
    assert ready["service"]["endpoint"].endswith(":8000")

    house.client.scale(job_id, 3)
    until(house, job_id, lambda job: job["service"]["ready"] == 3)
    house.client.update(job_id, {"environment": {"REVISION": "2"}})
    until(house, job_id, lambda job: job["service"]["revision"] == 2 and job["service"]["updated"] == 3)
    until(house, job_id, lambda job: job["service"]["ready"] == 3)

    house.client.cancel(job_id)
    assert ended(house, job_id)["state"] == "CANCELLED"
    # A pod that has ended is there until the kubelet has taken it away.
    marker = house.client.attempts(job_id)[0]["marker"]
    assert not [name for name in house.tenant.live_pods() if name.startswith(marker)]


def test_nothing_fits_is_said_at_once_and_says_what_the_cluster_has(house):
    from broker.client import Refused

    with pytest.raises(Refused) as caught:
        submit(house, resources={"cpus_per_task": 4000})

    assert "the largest node has" in str(caught.value.problem)


def test_what_the_quota_of_a_project_never_allows_is_said_before_it_is_sent(kubernetes, tmp_path):
    """By the adapter, as the broker asks it: a quota in the namespace of the other tests would meet them."""
    wanted = JobSpec(
        kind=Kind.TRAINING,
        name="train",
        image=IMAGE,
        resources=Resources(gpus_per_node=4),
        volumes=(Volume(source="pvc:data", mount_path="/data"),),
    )

    with a_tenant(kubernetes, tmp_path) as tenant, closing(KubernetesAdapter(tenant.config())) as adapter:
        tenant.limit({"requests.nvidia.com/gpu": "2"})
        told = [one.message for one in adapter.refusals(wanted, adapter.inventory())]

    space = tenant.namespace
    assert told == [
        f"asks for 4 of requests.nvidia.com/gpu; the quota small of {space} allows 2",
        f"mounts the claim data, which {space} does not have",
    ]


def test_a_worker_that_is_killed_starts_nothing_twice(house):
    ids = [submit(house, name=f"job-{number}") for number in range(10)]
    house.parts.kill("worker")
    house.parts.start("worker")

    assert {ended(house, job_id)["state"] for job_id in ids} == {"COMPLETED"}
    for job_id in ids:
        [attempt] = house.client.attempts(job_id)
        assert len(house.tenant.objects("pods", attempt["marker"])) == 1


def test_a_job_costs_fewer_than_eight_requests_until_its_log_is_kept(house, record_property):
    """Passes, and what the cluster is asked of itself meanwhile, included."""
    before, count = house.wire.count, 40
    taken = house.client.submit([body(name=f"job-{number}") for number in range(count)])
    ids = [one["job"]["id"] for one in taken]
    for job_id in ids:
        ended(house, job_id)
    blobs = Directory(house.parts.settings.blobs_at)
    wait_until(lambda: all(blobs.get(kept_logs.name_of(one, 1)) for one in ids), PATIENCE_S, "all are kept")

    each = (house.wire.count - before) / count
    record_property("summary", f"Kubernetes: {each:.1f} requests a job from accept to its kept log")
    assert each < 8


def test_what_an_autoscaler_may_bring_is_waited_for(own_kubernetes, tmp_path):
    """The test is the autoscaler.  Where nobody has named the nodes, such a job is refused."""
    with a_tenant(own_kubernetes, tmp_path) as tenant, ExitStack() as stack:
        group = {"labels": tenant.only, "resources": {"cpu": "32", "memory": "256Gi"}, "most": 2}
        wants = {"placement": {"kubernetes": {"node_labels": tenant.only}}, "labels": {"run": "200ms"}}
        wanted = load_spec(body(project="vision", **wants))
        with closing(KubernetesAdapter(tenant.config())) as adapter:
            assert [one.code for one in adapter.refusals(wanted, adapter.inventory())] == [Reason.NEVER_FITS]
        backend = tenant.config(node_groups=[group])
        parts = stack.enter_context(Parts(tmp_path, backend, lease_s=5, poll_s=0.3))
        parts.start("api", "worker", "controller")
        house = SimpleNamespace(client=parts.client())
        wait_until(lambda: house.client.backend("k8s")["reachable"], PATIENCE_S, "the cluster is known")
        job_id = submit(house, **wants)

        waits = until(house, job_id, lambda job: job["reason"] == "Capacity" and job["message"])
        assert waits["state"] == "QUEUED"
        stack.enter_context(tenant.own_nodes({"brought-0": {}}))

        assert ended(house, job_id)["state"] == "COMPLETED"
