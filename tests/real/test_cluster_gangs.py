"""A job on several nodes of which only a part can start, on a real control plane: withdrawn, and tried again.

Nodes are fake; scheduler and Job controller, which make the part and take it away, are real.
"""

from __future__ import annotations

import pytest

from adapters.kubernetes.names import MARKER
from api_spec.jobs import Placement, Resources, Retry
from api_spec.reasons import Reason
from api_spec.states import FINAL, AttemptState, JobState
from tests.helpers import wait_until
from tests.kit import ANA, backend, kit_with
from tests.real.kubernetes_bench import tenant
from tests.real.kubernetes_jobs import job

__all__ = ["tenant"]  # a fixture

pytestmark = pytest.mark.process

LIMIT_S = 2.0
SLOW_S = 60.0


@pytest.fixture
def two_nodes(tenant):
    """A job on two nodes has these, and one on one node takes one of them whole."""
    with tenant.own_nodes({"pair-0": {}, "pair-1": {}}):
        yield


@pytest.fixture
def kit(redis_server, tmp_path, tenant, two_nodes):
    config = backend("k8s", "kubernetes", tenant.options(partial_start_s=LIMIT_S))
    with kit_with(redis_server, tmp_path, config, poll_s=0.2, lease_s=10.0) as kit:
        yield kit


def on(tenant, nodes, outcome="hang", **changes):
    return job(
        outcome,
        # Longer than the part may wait for the rest, and so long in going that another attempt could come.
        labels={"run": "8s", "stop": "1s"},
        resources=Resources(nodes=nodes, cpus_per_task=60, memory_per_node_mib=100),
        placement=Placement(kubernetes={"node_labels": tenant.only}),
        **changes,
    )


def attempts(kit, job_id):
    return kit.broker.attempts(job_id, ANA)


def test_it_is_withdrawn_and_its_nodes_are_free(kit, tenant):
    one = kit.submit(on(tenant, 1))
    kit.reaches(one, JobState.RUNNING)
    ring = kit.submit(on(tenant, 2))

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
    one = kit.submit(on(tenant, 1))
    kit.reaches(one, JobState.RUNNING)
    retry = Retry(max_attempts=20, on=(Reason.LAUNCH_FAILED.value,))
    ring = kit.submit(on(tenant, 2, "success", retry=retry))
    alive = []

    def settle(condition, why):
        def so():
            alive.append(frozenset(attempts_with_pods(tenant, ring)))
            return condition()

        kit.settle(so, SLOW_S, why)

    settle(lambda: len(attempts(kit, ring)) >= 2, "there is a second attempt")
    kit.broker.cancel(one, ANA)
    settle(lambda: kit.get(ring).state in FINAL, "it ends")

    tried = attempts(kit, ring)
    assert kit.get(ring).state is JobState.COMPLETED
    assert (tried[0].state, tried[0].reason) == (AttemptState.ENDED, Reason.LAUNCH_FAILED)
    assert {tried[0].marker, tried[-1].marker} <= frozenset().union(*alive), "both were seen"
    assert max(map(len, alive)) == 1
    wait_until(lambda: not tenant.live_pods(), 30, "no pod is left")


def attempts_with_pods(tenant, job_id):
    """By their markers, in which the job's id is."""
    return {
        pod["metadata"]["labels"][MARKER]
        for pod in tenant.objects("pods")
        if job_id.lower() in pod["metadata"]["name"] and pod["status"].get("phase") in ("Pending", "Running")
    }
