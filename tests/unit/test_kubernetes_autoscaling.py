"""Who scales a service on Kubernetes, by which metric, and what is refused because nobody there could."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapters.base import Inventory
from adapters.errors import Rejected
from adapters.kubernetes import autoscaling, canary, dependents, fits
from adapters.kubernetes.errors import Refused
from api_spec.jobs import Kind, Measured, Placement, Replicas, ScaleOn, Service
from api_spec.reasons import Reason
from tests.builders import spec
from tests.contract.places import new_ref
from tests.published import faults
from tests.unit.kubernetes_objects import MARKER
from tests.unit.kubernetes_plans import options, plan
from tests.unit.kubernetes_stub import DEPLOYMENTS, says, scripted

PROMETHEUS = "http://prometheus.monitoring:9090"
WITH_KEDA = options(prometheus=PROMETHEUS)
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": MARKER}
QUEUE = ScaleOn(
    metric="queue_length", target=5, measured=Measured.EXTERNAL, selector=(("a", 'b"\\'), ("queue", "chat"))
)


def scaled(scale_on, least=2):
    return Service(port=8000, replicas=Replicas(min=least, max=5), scale_on=scale_on)


def job(scale_on, least=2):
    return spec(kind=Kind.INFERENCE, image="a:1", command=(), service=scaled(scale_on, least))


def scalers(wanted, **changes):
    kinds = ("HorizontalPodAutoscaler", "ScaledObject")
    return [one for one in plan(wanted, **changes).dependents if one["kind"] in kinds]


# ---- goldens ---------------------------------------------------------------------------------------------

METRICS = {
    "percent": (
        ScaleOn(metric="cpu", target=70),
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
        },
    ),
    "of the replicas": (
        ScaleOn(metric="vllm:num_requests_waiting", target=2.5),
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "vllm:num_requests_waiting"},
                "target": {"type": "AverageValue", "averageValue": "2500m"},
            },
        },
    ),
    "external": (
        QUEUE,
        {
            "type": "External",
            "external": {
                "metric": {
                    "name": "queue_length",
                    "selector": {"matchLabels": {"queue": "chat", "a": 'b"\\'}},
                },
                "target": {"type": "AverageValue", "averageValue": "5"},
            },
        },
    ),
}


@pytest.mark.parametrize("case", METRICS)
def test_a_metric_as_kubernetes_own_autoscaler_has_it(case):
    scale_on, metric = METRICS[case]

    [made] = scalers(job(scale_on))

    assert made["apiVersion"] == "autoscaling/v2"
    assert made["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 2,
        "maxReplicas": 5,
        "metrics": [metric],
    }


def test_a_service_that_may_have_no_replica_is_kedas_and_nobody_elses():
    """Two autoscalers of one Deployment would fight over it."""
    [made] = scalers(job(QUEUE, least=0), options=WITH_KEDA)

    assert (made["apiVersion"], made["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert faults("scaledobjects", made) == [], "as KEDA publishes it"
    assert made["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicaCount": 0,
        "maxReplicaCount": 5,
        "triggers": [
            {
                "type": "prometheus",
                "metadata": {
                    "serverAddress": PROMETHEUS,
                    "query": 'sum(queue_length{a="b\\"\\\\",queue="chat"})',
                    "threshold": "5",
                },
            }
        ],
    }
    assert "replicas" not in plan(job(QUEUE, least=0), options=WITH_KEDA).root["spec"]


@pytest.mark.parametrize("target, text", [(5.0, "5"), (0.5, "500m"), (0.0001, "1m"), (1e12, "1000000000000")])
def test_a_target_is_never_rounded_to_nothing(target, text):
    assert autoscaling.quantity_of(target) == text


# ---- refused ---------------------------------------------------------------------------------------------


def refused(wanted, given):
    return [(one.field, one.message) for one in autoscaling.refusals(wanted.service, given)]


def test_what_can_never_wake_a_service_is_refused():
    [(field, message)] = refused(job(ScaleOn(metric="cpu", target=70), least=0), WITH_KEDA)

    assert field == "/service/replicas/min"
    assert "where there is none, nothing would ask for one" in message


def test_without_a_prometheus_nobody_scales_to_nothing():
    [(field, message)] = refused(job(QUEUE, least=0), options())

    assert (field, "option prometheus" in message) == ("/service/replicas/min", True)


def test_what_is_no_name_of_a_metric_is_no_query():
    scale_on = replace(QUEUE, metric="queue-length")

    [(field, _)] = refused(job(scale_on, least=0), WITH_KEDA)

    assert field == "/service/scale_on/metric"


OF_REPLICAS, EXTERNAL = METRICS["of the replicas"][0], METRICS["external"][0]
CPU = METRICS["percent"][0]
NOT_SERVED = {
    "custom": (job(OF_REPLICAS), {"apps"}, "custom.metrics.k8s.io, which a metrics adapter"),
    "external": (
        job(EXTERNAL),
        {"custom.metrics.k8s.io"},
        "external.metrics.k8s.io, which a metrics adapter",
    ),
    "keda": (job(QUEUE, least=0), {"external.metrics.k8s.io"}, "keda.sh, which KEDA"),
    "resources": (job(CPU), {"apps"}, "metrics.k8s.io, which metrics-server"),
    "nobody knows": (job(OF_REPLICAS), set(), "custom.metrics.k8s.io"),
}


@pytest.mark.parametrize("case", NOT_SERVED)
def test_an_api_that_is_not_there_is_named_with_what_would_bring_it(case):
    wanted, served, words = NOT_SERVED[case]
    inventory = Inventory(as_of=0, details={"apis": {one: ["v1"] for one in served}})

    found = [one for one in fits.refusals(wanted, inventory, WITH_KEDA, "k8s") if words in one.message]

    assert [one.code for one in found] == [Reason.UNSUPPORTED]


SERVED = {
    "custom": (OF_REPLICAS, 1, {"custom.metrics.k8s.io"}),
    "external": (EXTERNAL, 1, {"external.metrics.k8s.io"}),
    "keda": (QUEUE, 0, {"keda.sh"}),
    "resources": (CPU, 1, {"metrics.k8s.io"}),
    "resources, where nobody knows": (CPU, 1, set()),
    "nothing is asked for": (None, 1, {"apps"}),
}


@pytest.mark.parametrize("case", SERVED)
def test_what_is_served_is_used(case):
    scale_on, least, served = SERVED[case]

    assert not list(autoscaling.not_served(scaled(scale_on, least), {key: ["v1"] for key in served}))


# ---- a canary --------------------------------------------------------------------------------------------

CANARY = {
    "nothing that could": (
        {"apps"},
        "not known to serve any API that could: gateway.networking.k8s.io, serv",
    ),
    "a gateway": (
        {"gateway.networking.k8s.io"},
        "could by weights of Gateway API's HTTPRoute, and the broker",
    ),
    "Knative": ({"serving.knative.dev"}, "could by Knative's traffic, and the broker makes none yet"),
}


@pytest.mark.parametrize("case", CANARY)
def test_a_canary_is_refused_with_what_it_would_take(case):
    served, words = CANARY[case]
    wanted = replace(job(None), placement=Placement(kubernetes={"canary": 10}))
    inventory = Inventory(as_of=0, details={"apis": {one: ["v1"] for one in served}})

    [found] = canary.refusals(wanted, inventory, options(), "k8s")

    assert (found.code, found.field) == (Reason.UNSUPPORTED, "/placement/kubernetes/canary")
    assert words in found.message
    assert not list(canary.refusals(job(None), inventory, options(), "k8s"))


# ---- updates ---------------------------------------------------------------------------------------------


def test_an_update_that_the_cluster_cannot_honour_is_refused(tmp_path):
    """No inventory stands between an update and the cluster, which would take the object and do nothing."""
    with scripted(tmp_path) as server:
        server.says("GET", "/apis", says({"kind": "APIGroupList", "groups": [{"name": "apps"}]}))

        with pytest.raises(Rejected, match=r"does not serve custom\.metrics\.k8s\.io"):
            server.adapter().update(new_ref(job(OF_REPLICAS)), job(OF_REPLICAS))

        assert not server.count("GET", DEPLOYMENTS)


# ---- what a root object carries --------------------------------------------------------------------------


NAMESPACE = "ml-vision"


def carried(**changes):
    [made] = scalers(job(QUEUE, least=0), options=WITH_KEDA)
    assert made["metadata"]["namespace"] == NAMESPACE
    trigger = {**made["spec"]["triggers"][0]["metadata"], **changes}
    made["spec"]["triggers"][0]["metadata"] = trigger
    return json.dumps([made])


def test_what_the_broker_wrote_is_made():
    assert dependents.written_in(MARKER, NAMESPACE, carried(), WITH_KEDA)


@pytest.mark.parametrize(
    "changes", [{"serverAddress": "http://elsewhere.example"}, {"authModes": "bearer"}], ids=str
)
def test_an_edited_annotation_has_nobody_else_asked(changes):
    """Whoever may edit Deployments could else let KEDA, which reaches more, ask for them."""
    with pytest.raises(Refused, match="not what the broker wrote"):
        dependents.written_in(MARKER, NAMESPACE, carried(**changes), WITH_KEDA)


def test_kedas_objects_are_looked_for_only_where_some_are_made():
    """Elsewhere the broker has no right to."""
    assert [one.kind for one in dependents.removable(options())] == [
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
    ]
    assert "ScaledObject" in {one.kind for one in dependents.removable(WITH_KEDA)}
