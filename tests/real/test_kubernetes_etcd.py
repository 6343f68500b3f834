"""etcd is away for longer than the broker waits for an answer, under a broker of three processes."""

from __future__ import annotations

import pytest

from api_spec.states import FINAL
from tests.helpers import wait_until
from tests.real.kubernetes_kit import a_tenant
from tests.stack import Parts, job_until

pytestmark = pytest.mark.process

ANSWER_S, SETTLE_S = 2, 3
PATIENCE_S = 90.0


@pytest.fixture
def house(own_kubernetes, tmp_path):
    options = {"answer_s": ANSWER_S, "settle_s": SETTLE_S}
    with (
        a_tenant(own_kubernetes, tmp_path) as tenant,
        Parts(tmp_path, tenant.config(**options), lease_s=4, poll_s=0.3) as parts,
    ):
        parts.start("api", "worker", "controller")
        client = parts.client()
        wait_until(lambda: client.backend("k8s")["reachable"], PATIENCE_S, "the cluster is known")
        yield tenant, client
        own_kubernetes.calm()


def body(outcome):
    labels = {"outcome": outcome, "run": "300ms"}
    small = {"memory_per_node": "50MiB"}
    return {"kind": "batch", "name": "job", "image": "a:1", "labels": labels, "resources": small}


def submit(client, outcome):
    (taken,) = client.submit([body(outcome)])
    return taken["job"]["id"]


def is_reachable(client, wanted):
    wait_until(lambda: client.backend("k8s")["reachable"] is wanted, PATIENCE_S, f"reachable: {wanted}")


MISFORTUNES = {"freeze": "thaw", "kill": "start"}


@pytest.mark.parametrize("misfortune", MISFORTUNES)
def test_while_etcd_is_away_jobs_keep_their_states_and_nothing_is_sent_twice(
    house, own_kubernetes, misfortune
):
    tenant, client = house
    runs = submit(client, "hang")
    job_until(client, runs, lambda job: job["state"] == "RUNNING", PATIENCE_S)

    getattr(own_kubernetes, misfortune)("etcd")
    is_reachable(client, False)
    silent, later = client.get(runs), submit(client, "success")
    waits = job_until(client, later, lambda job: job["reason"], PATIENCE_S)
    getattr(own_kubernetes, MISFORTUNES[misfortune])("etcd")

    assert (silent["state"], silent["reason"]) == ("RUNNING", "BackendDown")
    assert waits["state"] in ("ACCEPTED", "SUBMITTING")
    is_reachable(client, True)
    end = job_until(client, later, lambda job: job["state"] in FINAL, PATIENCE_S)
    back = job_until(client, runs, lambda job: job["reason"] is None, PATIENCE_S)
    assert (end["state"], end["attempt"], back["state"], back["attempt"]) == ("COMPLETED", 1, "RUNNING", 1)
    names = {attempt["marker"] for job in (runs, later) for attempt in client.attempts(job)}
    assert {one["metadata"]["name"] for one in tenant.objects("jobs")} == names
    assert len(names) == 2
    client.cancel(runs)
    job_until(client, runs, lambda job: job["state"] == "CANCELLED", PATIENCE_S)
