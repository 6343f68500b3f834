"""A job on several nodes of which only a part can start, on a real control plane: withdrawn, and tried again.

Nodes are fake; scheduler and Job controller, which make the part and take it away, are real.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from api_spec.jobs import JobSpec, Kind, Placement, Resources, Retry
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.settings import ConfiguredBackend
from tests.fakes import INSTANCE
from tests.helpers import wait_until
from tests.kit import ANA, adapter_of, make_kit, settings_for
from tests.real.kubernetes import fake_nodes
from tests.real.kubernetes_kit import Tenant

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

LIMIT_S = 2.0
SLOW_S = 60.0
ONLY = "broker-test.example.org/only"


@pytest.fixture
def tenant(own_kubernetes, tmp_path):
    made = Tenant.on(own_kubernetes, tmp_path)
    yield made
    own_kubernetes.calm()
    own_kubernetes.remove_namespace(made.namespace)


@pytest.fixture
def two_nodes(tenant):
    """A job on two nodes has these, and one on one node takes one of them whole."""
    there = [fake_nodes.cpu_node(f"pair-{number}") for number in range(2)]
    for one in there:
        one["metadata"]["labels"] |= {ONLY: tenant.namespace}
    with tenant.cluster.more_fake_nodes(there):
        yield


@pytest.fixture
def kit(redis_server, tmp_path, tenant, two_nodes):
    with ExitStack() as stack:
        options = tenant.options(partial_start_s=LIMIT_S)
        config = ConfiguredBackend(
            name="k8s", type="kubernetes", instance=INSTANCE, data_dir="", options=options
        )
        kit = make_kit(settings_for(redis_server, tmp_path, config, poll_s=0.2, lease_s=10.0))
        stack.callback(kit.store.close)
        stack.callback(adapter_of(kit, "k8s").close)
        yield kit


def job(tenant, nodes, outcome="hang", **changes):
    return JobSpec(
        kind=Kind.BATCH,
        name="ring",
        project="vision",
        image="a:1",
        command=("work",),
        labels={"outcome": outcome, "run": "8s"},  # longer than the part may wait for the rest
        resources=Resources(nodes=nodes, cpus_per_task=60, memory_per_node_mib=100),
        placement=Placement(kubernetes={"node_labels": {ONLY: tenant.namespace}}),
        **changes,
    )


def attempts(kit, job_id):
    return kit.broker.attempts(job_id, ANA)


def test_it_is_withdrawn_and_its_nodes_are_free(kit, tenant):
    one = kit.submit(job(tenant, 1))
    kit.reaches(one, JobState.RUNNING)
    ring = kit.submit(job(tenant, 2))

    seen = kit.settle(lambda: waits(kit, ring), SLOW_S, "a part has started, which is said")
    end = kit.ended(ring, SLOW_S)

    assert "1 of 2 pods have started" in seen
    assert (end.state, end.reason) == (JobState.FAILED, Reason.LAUNCH_FAILED)
    assert end.message.startswith("withdrawn after 2 s, so that its nodes are free: 1 of 2 pods have started")
    assert "Insufficient cpu" in end.message
    assert len(tenant.live_pods()) == 1, "only the first job's is left"
    assert kit.get(one).state is JobState.RUNNING


def waits(kit, job_id):
    found = kit.get(job_id).message or ""
    return found if "of 2 pods have started" in found else None


def test_by_its_retry_it_is_tried_again_and_never_runs_twice(kit, tenant):
    """The second attempt begins when no pod of the first is left, and completes when there is room."""
    one = kit.submit(job(tenant, 1))
    kit.reaches(one, JobState.RUNNING)
    retry = Retry(max_attempts=20, on=(Reason.LAUNCH_FAILED.value,))
    ring = kit.submit(job(tenant, 2, "success", retry=retry))
    alive = []

    def tried_again():
        markers = {pod["metadata"]["labels"]["workload-broker/marker"] for pod in ring_pods(tenant, ring)}
        alive.append(len(markers))
        return len(attempts(kit, ring)) >= 2

    kit.settle(tried_again, SLOW_S, "there is a second attempt")
    kit.broker.cancel(one, ANA)
    end = kit.ended(ring, SLOW_S)

    first = attempts(kit, ring)[0]
    assert end.state is JobState.COMPLETED
    assert (first.state, first.reason) == (AttemptState.ENDED, Reason.LAUNCH_FAILED)
    assert max(alive) == 1
    wait_until(lambda: not tenant.live_pods(), 30, "no pod is left")


def ring_pods(tenant, job_id):
    return [
        pod
        for pod in tenant.objects("pods")
        if job_id.lower() in pod["metadata"]["name"] and pod["status"].get("phase") in ("Pending", "Running")
    ]
