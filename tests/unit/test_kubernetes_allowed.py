"""Nothing leaves for a cluster but what the tables name, whatever rendered it."""

from __future__ import annotations

import json

import pytest

from adapters.errors import Rejected
from adapters.kubernetes import allowed, names, pods
from api_spec.jobs import Array, Kind, Measured, Output, Replicas, Resources, ScaleOn, Service, Volume
from tests.builders import spec
from tests.unit.kubernetes_plans import options, plan

NAMESPACE = "ml-vision"
SERVICE = Service(port=8000, replicas=Replicas(min=1, max=3), scale_on=ScaleOn(metric="cpu", target=60.0))


def rendered(wanted=None):
    made = plan(wanted or spec(image="a:1", volumes=(Volume(source="pvc:data", mount_path="/data"),)))
    return json.loads(json.dumps(made.root)), made.namespace


def put(value, *path):
    """That value there, in a Job or its pod: what it was put into, and where it is."""

    def change(root):
        at = root
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change, "".join(f"/{key}" for key in path)


POD = ("spec", "template", "spec")
MAIN = (*POD, "containers", 0)
INNER = ("spec", "template", "metadata")

MORE = {
    "the host's network": put(True, *POD, "hostNetwork"),
    "the host's processes": put(True, *POD, "hostPID"),
    "a node's name": put("node-1", *POD, "nodeName"),
    "a path of the host": put({"hostPath": {"path": "/"}, "name": "x"}, *POD, "volumes", 0),
    "a token in a volume": put({"projected": {"sources": []}, "name": "x"}, *POD, "volumes", 0),
    "a path out of the claim": put("../other", *MAIN, "volumeMounts", 0, "subPath"),
    "another service account": put("admin", *POD, "serviceAccountName"),
    "a token": put(True, *POD, "automountServiceAccountToken"),
    "another scheduler": put("mine", *POD, "schedulerName"),
    "an unknown priority": put("system-node-critical", *POD, "priorityClassName"),
    "another runtime": put("privileged", *POD, "runtimeClassName"),
    "a second container": put([{"name": "main"}, {"name": "side"}], *POD, "containers"),
    "one before it": put([{"name": "main", "image": "a:1"}], *POD, "initContainers"),
    "root": put(0, *POD, "securityContext", "runAsUser"),
    "root after all": put(False, *POD, "securityContext", "runAsNonRoot"),
    "no seccomp": put("Unconfined", *POD, "securityContext", "seccompProfile", "type"),
    "sysctls": put([{"name": "a", "value": "b"}], *POD, "securityContext", "sysctls"),
    "a privilege": put(True, *MAIN, "securityContext", "privileged"),
    "a way to one": put(True, *MAIN, "securityContext", "allowPrivilegeEscalation"),
    "a capability": put(["SYS_ADMIN"], *MAIN, "securityContext", "capabilities", "add"),
    "a port of the host": put([{"containerPort": 80, "hostPort": 80}], *MAIN, "ports"),
    "a field of the node": put(
        [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}], *MAIN, "env"
    ),
    "pods of another namespace": put(
        {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}},
        *POD,
        "affinity",
    ),
    "another namespace": put("kube-system", "metadata", "namespace"),
    "a foreign label": put({"app": "mine"}, "metadata", "labels"),
    "a foreign label of the pod": put({"kubernetes.io/x": "y"}, *INNER, "labels"),
    "a foreign annotation": put({"example.org/x": "y"}, *INNER, "annotations"),
    "an owner": put([{"uid": "x"}], "metadata", "ownerReferences"),
    "a finalizer": put(["x"], "metadata", "finalizers"),
    "a controller of somebody else's": put("example.org/mine", "spec", "managedBy"),
    "pods of others": put({"matchLabels": {"app": "x"}}, "spec", "selector"),
}


@pytest.mark.parametrize("change, pointer", MORE.values(), ids=MORE)
def test_what_is_in_no_table_is_found(change, pointer):
    root, namespace = rendered()
    assert allowed.outside(root, namespace, options()) == []

    change(root)

    found = allowed.outside(root, namespace, options())
    assert found and all(one.startswith(pointer) for one in found)


@pytest.mark.parametrize(
    "wanted",
    [
        spec(image="a:1"),
        spec(image="a:1", script="#!/bin/sh\ntrue\n", command=(), labels={"team": "a b"}),
        spec(image="a:1", resources=Resources(nodes=4, gpus_per_node=8, gpu_type="h100")),
        spec(image="a:1", array=Array(indices="0-9"), outputs=(Output(name="m", path="m"),)),
        spec(image="a:1", kind=Kind.INFERENCE, service=SERVICE),
    ],
    ids=["a command", "a script", "several nodes", "an array", "a service"],
)
def test_what_the_broker_makes_is_in_the_tables(wanted):
    root, namespace = rendered(wanted)

    assert allowed.outside(root, namespace, options()) == []


BESIDE = {
    "Service": ({"type": "NodePort"}, {"externalIPs": ["192.0.2.1"]}, {"clusterIP": "10.0.0.1"}),
    "HorizontalPodAutoscaler": (
        {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "x"}},
        {"behavior": {}},
    ),
    "PodDisruptionBudget": ({"maxUnavailable": "100%"}, {"selector": {"matchLabels": {"app": "x"}}}),
    "ScaledObject": (
        {"triggers": [{"type": "cron", "metadata": {}}]},
        {"triggers": [{"type": "prometheus", "metadata": {"serverAddress": "http://elsewhere.example"}}]},
        {"advanced": {}},
    ),
    "ResourceClaimTemplate": ({"metadata": {"labels": {"app": "x"}}}, {"spec": {"resourceClassName": "x"}}),
}


def beside(kind):
    """What the broker makes beside its root object, of this kind."""
    queue = ScaleOn(metric="depth", target=5.0, measured=Measured.EXTERNAL)
    asleep = Service(port=8000, replicas=Replicas(min=0, max=3), scale_on=queue)
    service = spec(kind=Kind.INFERENCE, image="a:1", service=asleep if kind == "ScaledObject" else SERVICE)
    claims = spec(image="a:1", resources=Resources(gpus_per_node=1))
    given = options(prometheus="http://prometheus:9090", device_class="gpu.example.org")
    made = plan(claims if kind == "ResourceClaimTemplate" else service, options=given).dependents
    return next(json.loads(json.dumps(one)) for one in made if one["kind"] == kind), given


@pytest.mark.parametrize("kind", BESIDE)
def test_what_is_made_beside_has_nothing_more_either(kind):
    made, given = beside(kind)
    assert allowed.outside(made, NAMESPACE, given) == []

    for more in BESIDE[kind]:
        changed = {**made, "spec": {**made["spec"], **more}}
        assert len(allowed.outside(changed, NAMESPACE, given)) == 1, more


@pytest.mark.parametrize("kind", ["Secret", "Pod", "RoleBinding", None, ["Job"]], ids=str)
def test_no_object_of_another_kind_is_sent(kind):
    assert allowed.outside({"kind": kind, "metadata": {}, "spec": {}}, NAMESPACE, options()) == ["/kind"]


def test_nothing_is_rendered_that_is_not_in_the_tables(monkeypatch):
    """A fault of the renderer's, as a later change could bring one."""
    build = pods.template

    def faulty(*arguments):
        template = build(*arguments)
        template["spec"]["hostNetwork"] = True
        template["metadata"]["labels"] = {**template["metadata"]["labels"], "app": names.BROKER}
        return template

    monkeypatch.setattr(pods, "template", faulty)

    with pytest.raises(Rejected, match="/spec/template/metadata/labels, /spec/template/spec/hostNetwork"):
        plan(spec(image="a:1"))
