"""What pods use, where a cluster serves metrics, from a scripted API server."""

from __future__ import annotations

import pytest

from adapters.errors import Busy
from adapters.kubernetes import metrics, names
from api_spec.jobs import Kind
from tests.builders import spec
from tests.contract.places import new_ref
from tests.fakes import INSTANCE
from tests.unit.kubernetes_stub import MARKER, NAMESPACE, handle_of, listed, status

METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
REF = new_ref(spec(image="a:1", kind=Kind.BATCH), marker=MARKER, handle=handle_of())


def measured(*usages, marker=MARKER):
    containers = [{"name": f"c{at}", "usage": one} for at, one in enumerate(usages)]
    return {"metadata": {"name": "p", "labels": {names.MARKER: marker}}, "containers": containers}


def test_all_pods_and_containers_of_an_attempt_are_one_sum(server):
    first = measured({"cpu": "1500m", "memory": "1Gi"}, {"cpu": "250000000n", "memory": "512Ki"})
    server.says("GET", METRICS, listed(first, measured({"cpu": "2", "memory": "1048576"})))

    found = server.adapter().measure([REF])[MARKER]

    assert (found.peak_cpus, found.peak_memory_mib) == (3.75, 1025.5)
    assert found.cpu_s is found.energy_j is None
    assert server.asked[0][2]["labelSelector"] == names.selector(INSTANCE)


def test_what_is_not_ours_or_not_asked_for_is_left_out(server):
    server.says("GET", METRICS, listed(measured({"cpu": "1"}, marker="wb-other-x-1"), {"metadata": None}))

    assert server.adapter().measure([REF]) == {}


@pytest.mark.parametrize("code", [403, 404], ids=["no right", "not served"])
def test_where_nobody_measures_nothing_is_known(server, code):
    server.says("GET", METRICS, status(code, "no", "Forbidden" if code == 403 else "NotFound"))

    assert server.adapter().measure([REF]) == {}


def test_a_server_of_metrics_that_is_down_is_no_zero(server):
    server.says("GET", METRICS, status(503, "the server is currently unable to handle the request"))

    with pytest.raises(Busy):
        server.adapter().measure([REF])


def test_odd_objects_break_nothing():
    odd = [{}, {"containers": "no"}, {"containers": [None, {"usage": 7}, {"usage": {"cpu": []}}]}]

    assert metrics.usage(odd) == metrics.usage([])
