"""Services on a real control plane with fake nodes: why replicas lack, who scales them, where pods stand, as
whom they are made.

KEDA and metrics adapters are not there: what the API server says of them is, with a definition of KEDA's kind
without a schema, and an APIService that nobody stands behind.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.errors import Busy
from api_spec.jobs import Measured, Placement, Replicas, Resources, ScaleOn
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from broker.yaml_files import read_documents
from tests.contract.places import new_ref
from tests.fakes import ROOT
from tests.helpers import wait_until
from tests.published import definition
from tests.real.kubernetes.api import ApiError
from tests.real.kubernetes_bench import Bench, a_bench
from tests.real.kubernetes_jobs import job, service
from tests.real.kubernetes_kit import ACCOUNT, HOME, create

pytestmark = pytest.mark.process

A = AttemptState
RBAC = "rbac.authorization.k8s.io"
DEPLOY = ROOT / "deploy" / "kubernetes"
RACK, ZONE = "topology.kubernetes.io/rack", "topology.kubernetes.io/zone"
PATIENCE_S = 30.0


class ServingBench(Bench):
    """With an administrator's hands."""

    def one(self, kind, ref):
        found = self.tenant.objects(kind, ref.marker)
        return found[0] if len(found) == 1 else None

    def make(self, path, document):
        """For the test alone."""
        self.api.ask("POST", path, document)
        self.stack.callback(self.api.delete, f"{path}/{document['metadata']['name']}")

    def bind(self, role, subject, namespace=None):
        name = f"{role}-{subject['name']}".replace(":", "-")
        body = {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }
        self.api.create(body)

    def apply(self, file):
        for document in read_documents((DEPLOY / file).read_text(), file):
            create(self.cluster, document.data)


OURSELVES = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": HOME}


@pytest.fixture
def bench(own_kubernetes, tmp_path):
    with a_bench(own_kubernetes, tmp_path, kind=ServingBench) as bench:
        yield bench


def numbers(seen):
    return seen.service.wanted, seen.service.updated, seen.service.ready


# ---- why fewer are ready than wanted ---------------------------------------------------------------------

NOT_READY = {
    "an image that is missing": (service("image-error"), Reason.IMAGE_PULL, "Back-off pulling image"),
    "a Secret that is missing": (service("config-error"), Reason.INVALID_SPEC, 'secret "missing" not found'),
    "a crash loop": (service("crash-loop"), Reason.STARTING, "back-off 40s restarting failed container"),
    "a probe that fails": (
        service("not-ready"),
        Reason.STARTING,
        "a replica runs and does not answer its health check yet",
    ),
    "no node": (
        service(placement=Placement(kubernetes={"node_labels": {"broker-test.example.org/only": "nowhere"}})),
        Reason.CAPACITY,
        "didn't match Pod's node affinity/selector",
    ),
}


@pytest.mark.parametrize("case", NOT_READY)
def test_a_service_says_why_its_replicas_are_not_ready(bench, case):
    spec, reason, words = NOT_READY[case]

    ref = bench.submit(spec)

    seen = bench.until(ref, lambda seen: words in (seen.service.message or ""))
    assert (seen.reason, numbers(seen)) == (reason, (1, 1, 0))
    assert seen.service.endpoint == f"http://{ref.marker}.{bench.namespace}.svc.cluster.local:8000"


def test_a_service_that_runs_says_why_it_has_not_all_its_replicas(bench):
    """It stays RUNNING: one replica answers."""
    bench.tenant.limit({"pods": "1"})

    ref = bench.submit(service(least=2))

    bench.until(ref, lambda seen: "exceeded quota" in (seen.service.message or ""))
    ready = bench.until(ref, lambda seen: seen.service.ready == 1)
    assert (ready.service.wanted, ready.state) == (2, A.RUNNING)
    assert "exceeded quota" in ready.service.message


# ---- who scales ------------------------------------------------------------------------------------------

BY_QUEUE = ScaleOn(metric="queue_length", target=5, measured=Measured.EXTERNAL, selector=(("queue", "chat"),))
METRICS = {
    "percent": ScaleOn(metric="cpu", target=70),
    "replicas": ScaleOn(metric="vllm:num_requests_waiting", target=2.5),
    "external": BY_QUEUE,
}
# As the API server has them afterwards: a member that it does not know would be gone.
STORED = {
    "percent": {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
    },
    "replicas": {
        "type": "Pods",
        "pods": {
            "metric": {"name": "vllm:num_requests_waiting"},
            "target": {"type": "AverageValue", "averageValue": "2500m"},
        },
    },
    "external": {
        "type": "External",
        "external": {
            "metric": {"name": "queue_length", "selector": {"matchLabels": {"queue": "chat"}}},
            "target": {"type": "AverageValue", "averageValue": "5"},
        },
    },
}


@pytest.mark.parametrize("case", METRICS)
def test_the_api_server_keeps_all_of_an_autoscaler_of_every_sort(bench, case):
    ref = bench.submit(service(scale_on=METRICS[case], least=2))

    made = bench.one("horizontalpodautoscalers", ref)["spec"]
    assert (made["minReplicas"], made["maxReplicas"], made["metrics"]) == (2, 4, [STORED[case]])
    assert made["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": ref.marker}
    bench.until(ref, lambda seen: seen.service.wanted == 2)


def test_an_autoscaler_that_gets_no_metrics_is_told_though_all_replicas_are_ready(bench):
    ref = bench.submit(service(scale_on=METRICS["percent"], least=1))

    seen = bench.until(ref, lambda seen: seen.service.message and seen.service.ready == 1)

    assert (seen.state, seen.service.wanted) == (A.RUNNING, 1)
    assert seen.service.message.startswith("its autoscaler changes nothing: ")
    assert "metrics" in seen.service.message


def test_new_limits_reach_the_autoscaler_and_not_the_number_of_replicas(bench):
    spec = service(scale_on=METRICS["percent"], least=2)
    ref = bench.submit(spec)
    bench.until(ref, lambda seen: seen.service.ready == 2)

    bench.api.patch(
        f"/apis/apps/v1/namespaces/{bench.namespace}/deployments/{ref.marker}", {"spec": {"replicas": 3}}
    )
    serve(bench, "metrics.k8s.io", "v1beta1")
    wider = replace(spec, service=replace(spec.service, replicas=Replicas(min=1, max=6)))
    bench.adapter.update(replace(ref, revision=2), wider)

    made = bench.one("horizontalpodautoscalers", ref)
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (1, 6)
    assert bench.until(ref, lambda seen: seen.service.revision == 2).service.wanted == 3


def api_service(group, version):
    """Of an adapter that nobody has installed."""
    spec = {
        "group": group,
        "version": version,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "service": {"name": "nobody", "namespace": "default"},
        "insecureSkipTLSVerify": True,
    }
    name = {"name": f"{version}.{group}"}
    return {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": spec}


def serve(bench, group, version):
    """The API server tells of it a little later."""
    bench.make("/apis/apiregistration.k8s.io/v1/apiservices", api_service(group, version))
    wait_until(lambda: group in bench.adapter.inventory().details["apis"], PATIENCE_S, f"{group} is seen")


@pytest.mark.parametrize(
    ("case", "group", "version"),
    [("replicas", "custom.metrics.k8s.io", "v1beta2"), ("external", "external.metrics.k8s.io", "v1beta1")],
)
def test_a_metric_is_refused_until_somebody_serves_it(bench, case, group, version):
    wanted = service(scale_on=METRICS[case])

    def refused():
        found = bench.adapter.refusals(wanted, bench.adapter.inventory())
        return [one.message for one in found if group in one.message]

    assert len(refused()) == 1
    serve(bench, group, version)
    assert not refused()


def keda(bench):
    """Its kind as it is published, and the right to make such."""
    bench.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition("scaledobjects"))
    bench.apply("keda.yaml")
    bench.bind("workload-broker-keda", OURSELVES)


def is_served(bench, path):
    """At first it is not, and then its storage is being made."""
    try:
        return bench.api.exists(path)
    except ApiError:
        return False


def test_a_service_that_may_have_no_replica_waits_for_keda(bench):
    bench.adapter = bench.adapter_of(prometheus="http://prometheus.monitoring:9090")
    wanted = service(scale_on=BY_QUEUE, least=0)
    path = f"/apis/keda.sh/v1alpha1/namespaces/{bench.namespace}/scaledobjects"

    def refused():
        return [one.message for one in bench.adapter.refusals(wanted, bench.adapter.inventory())]

    assert refused() == ["scales to no replica; the cluster does not serve keda.sh, which KEDA would bring"]
    keda(bench)
    wait_until(lambda: not refused(), PATIENCE_S, "KEDA is seen")
    wait_until(lambda: is_served(bench, path), PATIENCE_S, "its kind is served")
    ref = bench.submit(wanted)
    [made] = bench.api.items(path)

    assert (made["metadata"]["name"], made["spec"]["minReplicaCount"]) == (ref.marker, 0)
    assert made["metadata"]["ownerReferences"][0]["uid"] == ref.handle["uid"]
    assert not bench.tenant.objects("horizontalpodautoscalers", ref.marker)

    serve(bench, "metrics.k8s.io", "v1beta1")
    bench.adapter.update(replace(ref, revision=2), service(scale_on=METRICS["percent"]))

    assert not bench.api.items(path), "two autoscalers of one Deployment would fight over it"
    assert bench.one("horizontalpodautoscalers", ref)

    asleep = bench.submit(wanted)
    assert len(bench.api.items(path)) == 1
    bench.adapter.cancel(asleep)
    assert not bench.api.items(path), "it would bring back what was cancelled"


def test_a_service_without_a_replica_says_so(bench):
    """As KEDA leaves it."""
    ref = bench.submit(service())
    bench.until(ref, lambda seen: seen.service.ready == 1)

    path = f"/apis/apps/v1/namespaces/{bench.namespace}/deployments/{ref.marker}"
    bench.api.patch(path, {"spec": {"replicas": 0}})

    seen = bench.until(ref, lambda seen: seen.message == "no replica is wanted now")
    assert (numbers(seen), seen.service.message) == ((0, 0, 0), None)


# ---- where pods stand ------------------------------------------------------------------------------------


def nodes_of(bench, ref):
    return [one["spec"].get("nodeName") for one in bench.tenant.objects("pods", ref.marker)]


def on_whole_nodes(count, **native):
    resources = Resources(nodes=count, gpus_per_node=8)
    return job("hang", resources=resources, placement=Placement(kubernetes=native))


def test_nodes_of_a_job_are_of_one_rack(bench):
    """A rack has two: the third waits rather than go elsewhere, where there is room."""
    bench.adapter = bench.adapter_of(rack_label=RACK)

    ref = bench.submit(on_whole_nodes(3, same_rack="required"))

    seen = bench.until(ref, lambda seen: "pod affinity" in (seen.message or ""))
    assert seen.reason is Reason.CAPACITY
    racks = {
        bench.api.get(f"/api/v1/nodes/{name}")["metadata"]["labels"][RACK]
        for name in nodes_of(bench, ref)
        if name
    }
    assert (len([name for name in nodes_of(bench, ref) if name]), len(racks)) == (2, 1)


def test_a_rack_that_is_preferred_keeps_no_pod_waiting(bench):
    bench.adapter = bench.adapter_of(rack_label=RACK)

    ref = bench.submit(on_whole_nodes(3, same_rack="preferred"))

    bench.until_state(ref, A.RUNNING)
    assert len(set(nodes_of(bench, ref))) == 3


def test_replicas_are_spread_over_zones(bench):
    """Three nodes in one zone and one in the other: by nodes alone it would be three to one."""
    zones = {"spread-0": "a", "spread-1": "a", "spread-2": "a", "spread-3": "b"}
    native = {"spread": {"zone": "required"}, "node_labels": bench.tenant.only}
    with bench.tenant.own_nodes({name: {ZONE: zone} for name, zone in zones.items()}):
        ref = bench.submit(service(least=4, placement=Placement(kubernetes=native)))
        bench.until(ref, lambda seen: seen.service.ready == 4)
        placed = [zones[name] for name in nodes_of(bench, ref)]
        bench.adapter.cancel(ref)
        wait_until(lambda: not bench.tenant.live_pods(), PATIENCE_S, "all are gone")

    assert sorted(placed) == ["a", "a", "b", "b"]


# ---- as whom ---------------------------------------------------------------------------------------------


def test_what_is_written_is_written_as_the_owner(bench):
    """The broker itself may only read there; who is not listed in its role is nobody that it may be."""
    group = {"kind": "Group", "apiGroup": RBAC, "name": "ml:vision"}
    bench.apply("impersonation.yaml")
    bench.bind("workload-broker", group)
    bench.api.delete(f"/apis/{RBAC}/v1/namespaces/{bench.namespace}/rolebindings/{ACCOUNT}")
    bench.bind("workload-broker-reader", OURSELVES)
    given = {"table": {"ana": "ml:ana", "eve": "ml:eve"}, "groups": ["ml:{project}"]}
    bench.adapter = bench.adapter_of(impersonate=given)
    spec = service(most=1)

    wait_until(lambda: may_submit(bench, spec), PATIENCE_S, "the rights are known everywhere")
    ref = bench.submit(spec, owner="ana", project="vision")
    bench.until(ref, lambda seen: seen.service.ready == 1)
    with pytest.raises(Busy, match='ml:eve may not: users "ml:eve" is forbidden'):
        bench.submit(spec, owner="eve", project="vision")
    bench.adapter.update(replace(ref, revision=2), replace(spec, environment={"V": "2"}))
    bench.adapter.cancel(ref)
    bench.until_state(ref, A.ENDED)
    bench.adapter.cleanup(ref)

    assert ref.handle["user"] == "ml:ana"
    wait_until(lambda: not bench.tenant.objects("deployments", ref.marker), PATIENCE_S, "it is removed")
    told = [(one.well, one.message) for one in bench.adapter.check() if one.subject == "identity"]
    assert (True, "it may write as ml:ana") in told
    assert (False, "the broker may not act as user ml:eve") in told


def may_submit(bench, spec):
    ref = new_ref(spec, owner="ana", project="vision")
    try:
        bench.adapter.submit(ref, spec)
    except Busy:
        return False
    bench.adapter.cancel(ref)
    return True
