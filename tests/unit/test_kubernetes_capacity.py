"""What a cluster has, what is free, and what of a job it cannot hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.kubernetes import capacity, refusals
from adapters.kubernetes.capacity import quantity
from api_spec.jobs import (
    Array,
    Fabric,
    Health,
    Kind,
    Output,
    Placement,
    Priority,
    Replicas,
    Resources,
    Retry,
    ScaleOn,
    SecretRef,
    Service,
    Volume,
)
from api_spec.reasons import Reason
from tests.builders import spec
from tests.unit.kubernetes_objects import GPU, node, nodes
from tests.unit.kubernetes_plans import options

H100 = {"nvidia.com/gpu.product": "H100"}
NAMES = ["ml-vision", "jobs"]


def inventory(*found, namespaces=NAMES):
    return capacity.inventory(nodes(*found), namespaces, as_of=1.0)


def pod(on=None, phase="Running", requests=None, limits=None):
    resources = {"requests": requests or {}, "limits": limits or {}}
    found = {"containers": [{"resources": resources}], **({"nodeName": on} if on else {})}
    return {"spec": found, "status": {"phase": phase}}


# ---- quantities ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, size",
    [
        ("100m", 0.1),
        ("2", 2),
        (2, 2),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1Ki", 1024),
        ("1k", 1000),
        ("16Gi", 16 * 2**30),
        ("1e3", 1000),
        ("1E", 1e18),
        ("500n", 5e-7),
        ("128974848", 128974848),
    ],
)
def test_a_quantity_is_read(text, size):
    assert quantity(text) == pytest.approx(size)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1e999", "inf", "nan", None, [], float("inf"), "1KiB"])
def test_what_is_no_quantity_is_nothing(text):
    assert quantity(text) == 0


# ---- nodes -----------------------------------------------------------------------------------------------


def changed(**spec_or_status):
    found = node()
    found["spec"] |= spec_or_status.get("spec", {})
    found["status"] |= spec_or_status.get("status", {})
    return found


def tainted(key, effect="NoSchedule", **more):
    return changed(spec={"taints": [{"key": key, "effect": effect, **more}]})


NO_PODS = {
    "cordoned": changed(spec={"unschedulable": True}),
    "not ready": changed(status={"conditions": [{"type": "Ready", "status": "Unknown"}]}),
    "nobody says": changed(status={"conditions": []}),
    "somebody else's": tainted("team", value="vision"),
    "being emptied": tainted("team", "NoExecute"),
}


@pytest.mark.parametrize("case", NO_PODS)
def test_a_node_that_takes_no_pods_now_has_nothing_free_and_is_not_gone(case):
    """It comes back; who only fits there waits for it."""
    found = nodes(NO_PODS[case])
    (free,) = capacity.load(found, [], GPU, 1.0).shapes

    assert (free.free_nodes, free.free_cpus, free.free_memory_mib) == (0, 0, 0)
    assert [one.cpus for one in capacity.inventory(found, [], 1.0).shapes] == [8]


STOOD = {
    "of GPUs": (tainted("nvidia.com/gpu", value="present"), {}),
    "that is no more than a wish": (tainted("team", "PreferNoSchedule"), {}),
    "by key": (tainted("team", value="vision"), {"key": "team"}),
    "by value": (tainted("team", value="vision"), {"key": "team", "operator": "Equal", "value": "vision"}),
    "any": (tainted("team", "NoExecute"), {}),
    "no value": (tainted("team"), {"key": "team", "operator": "Equal"}),
}


@pytest.mark.parametrize("case", STOOD)
def test_a_taint_that_pods_stand_beside_keeps_nothing_from_them(case):
    found, toleration = STOOD[case]

    assert capacity.node(found, options(tolerations=[toleration])).takes_pods


@pytest.mark.parametrize("toleration", [{"key": "team", "operator": "Equal", "value": "text"}, {"key": "x"}])
def test_a_toleration_of_something_else_is_none(toleration):
    found = tainted("team", value="vision")

    assert not capacity.node(found, options(tolerations=[toleration])).takes_pods


def test_a_driver_that_is_away_takes_no_gpus_from_what_a_node_has():
    """The kubelet says that none can be allocated, until the device plug-in is back."""
    one = changed(
        status={
            "capacity": {"cpu": "9", "memory": "17Gi", GPU: "8"},
            "allocatable": {"cpu": "8", "memory": "16Gi", GPU: "0"},
        }
    )
    (shape,), (free,) = inventory(one).shapes, load([one]).shapes

    assert (shape.cpus, shape.gpus, free.free_gpus) == (8, 8, 0)


def test_a_driver_that_is_away_for_long_leaves_the_label():
    """The kubelet forgets what a device plug-in had, after five minutes and at each start of its own."""
    labels = {**H100, "nvidia.com/gpu.count": "8"}
    away = node("away", labels, nvidia_com__gpu="0")
    sliced = node("sliced", labels, **{"nvidia_com__gpu": "0", "nvidia_com__mig-1g_10gb": "7"})

    assert [capacity.node(one, options()).gpus for one in (away, sliced)] == [8, 0]
    assert capacity.node(away, options()).healthy_gpus == 0


def test_an_odd_node_is_none():
    assert inventory({"metadata": None, "status": 7}).shapes == ()


GPUS = {
    "whole": ({"nvidia_com__gpu": "8"}, {"H100": 8, "h100": 8}, {}),
    "sliced with an engine": ({"nvidia_com__mig-1g_10gb_me": "1"}, {}, {"1g.10gb+me": 1}),
    "sliced": ({"nvidia_com__mig-1g_10gb": "7"}, {}, {"1g.10gb": 7, "small": 7}),
    "none": ({}, {}, {}),
}


@pytest.mark.parametrize("case", GPUS)
def test_gpus_and_slices_are_counted_by_the_names_that_jobs_use(case):
    has, whole, slices = GPUS[case]
    (one,) = nodes(
        node("a", H100, **has), gpu_types={"h100": "H100"}, mig_profiles={"small": "nvidia.com/mig-1g.10gb"}
    )

    (shape,) = capacity.inventory([one], [], 1.0).shapes
    assert (shape.gpus_by_type, shape.slices) == (whole, slices)


def test_nodes_that_are_alike_are_one_shape():
    found = inventory(node("a"), node("b"), node("c", H100, nvidia_com__gpu="8"))

    assert [(one.count, one.cpus, one.gpus, one.gpu_type) for one in found.shapes] == [
        (2, 8, 0, None),
        (1, 8, 8, "H100"),
    ]
    assert found.details["resources"] == {GPU: 8}


def test_a_label_with_very_many_values_is_not_listed():
    """The host name tells nodes apart and not sorts of them."""
    found = inventory(*(node(f"n{i}", {"host": f"n{i}", "zone": f"z{i % 2}"}) for i in range(101)))

    assert found.details["labels"] == {"host": None, "zone": ["z0", "z1"]}


# ---- what is free ----------------------------------------------------------------------------------------


def load(found, *pods):
    return capacity.load(nodes(*found), pods, GPU, as_of=1.0)


def test_what_pods_ask_for_is_not_free():
    one = node("a", nvidia_com__gpu="8")
    mine = pod("a", requests={"cpu": "1500m", "memory": "4Gi"}, limits={GPU: "2"})
    (free,) = load([one], mine).shapes

    assert (free.free_nodes, free.free_cpus, free.free_memory_mib, free.free_gpus) == (0, 6, 12 * 1024, 6)


@pytest.mark.parametrize("kind, free", [("DaemonSet", 1), ("Node", 1), ("ReplicaSet", 0)])
def test_what_comes_with_each_node_makes_it_no_less_free(kind, free):
    """Every node has a proxy and the agents of the operators."""
    agent = pod("a", requests={"cpu": "1"})
    agent["metadata"] = {"ownerReferences": [{"kind": kind, "name": "x"}]}
    (found,) = load([node("a")], agent).shapes

    assert (found.free_nodes, found.free_cpus) == (free, 7)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", None])
def test_a_pod_that_is_over_holds_nothing(phase):
    (free,) = load([node("a")], pod("a", phase, requests={"cpu": "8"})).shapes

    assert (free.free_nodes, free.free_cpus) == (1, 8)


def test_what_waits_for_a_node_is_queued():
    found = load([node("a")], pod(None, "Pending"), pod("a", "Pending"), pod("a"))

    assert (found.queued_count, found.running_count) == (1, 1)


def test_an_overbooked_node_has_nothing_and_not_less():
    (free,) = load([node("a")], pod("a", requests={"cpu": "80", "memory": "1Ti"})).shapes

    assert (free.free_cpus, free.free_memory_mib) == (0, 0)


def test_odd_pods_hide_no_others():
    odd = [{"spec": None, "status": {"phase": "Running"}}, {"status": None}, {}]

    (free,) = load([node("a")], *odd, pod("a", requests={"cpu": "1"})).shapes

    assert free.free_cpus == 7


# ---- what does not fit -----------------------------------------------------------------------------------


def refused(wanted, there=None, **given):
    made = options(**given)
    return [(one.code, one.field) for one in refusals.refusals(wanted, there, made, "k8s")]


def job(**changes):
    return spec(**{"image": "a:1", "project": "vision", "kind": Kind.BATCH, **changes})


GPUS_IN_A = node("gpu", {**H100, "zone": "a", "team": "vision"}, nvidia_com__gpu="8")
RDMA_IN_B = node("rdma", {"zone": "b", "team": "vision"}, rdma__hca="1")
FABRIC = {"fabrics": {"rdma": {"resource": "rdma/hca", "node_labels": {"team": "vision"}}}}


@pytest.mark.parametrize(
    ("labels", "resources", "fits"),
    [
        ({"zone": "a"}, {"gpus_per_node": 8}, True),
        ({"zone": "b"}, {"gpus_per_node": 8}, False),
        ({"team": "vision"}, {"gpus_per_node": 8, "gpu_type": "H100"}, True),
        ({"zone": "b"}, {}, True),
        ({}, {"fabric": Fabric.RDMA}, True),
        ({"zone": "a"}, {"fabric": Fabric.RDMA}, False),
        ({}, {"fabric": Fabric.RDMA, "gpus_per_node": 1}, False),
    ],
)
def test_what_a_job_wants_of_a_node_is_had_from_one_node(labels, resources, fits):
    wanted = job(placement=Placement(kubernetes={"node_labels": labels}), resources=Resources(**resources))

    found = refused(wanted, inventory(GPUS_IN_A, RDMA_IN_B), **FABRIC)

    assert found == ([] if fits else [(Reason.NEVER_FITS, "/resources")])


def test_an_inventory_of_an_older_release_refuses_nothing_that_it_does_not_tell():
    older = inventory(GPUS_IN_A, RDMA_IN_B)
    older = replace(older, details={name: one for name, one in older.details.items() if name != "shapes"})
    wanted = job(
        placement=Placement(kubernetes={"node_labels": {"zone": "b"}}), resources=Resources(gpus_per_node=8)
    )

    assert refused(wanted, older) == []


def asks(**resources):
    return job(resources=Resources(**resources))


SMALL = inventory(node("a"), node("g", {**H100, "zone": "z1"}, nvidia_com__gpu="4"))

TOO_MUCH = {
    "cpus": (asks(cpus_per_task=9), "/resources/cpus_per_task"),
    "memory": (asks(memory_per_node_mib=17 * 1024), "/resources/memory_per_node"),
    "gpus": (asks(gpus_per_node=5), "/resources/gpus_per_node"),
    "slices": (asks(gpus_per_node=1, mig_profile="1g.10gb"), "/resources/gpus_per_node"),
    "type": (asks(gpus_per_node=1, gpu_type="A100"), "/resources/gpu_type"),
    "label": (
        job(placement=Placement(kubernetes={"node_labels": {"zone": "z2"}})),
        "/placement/kubernetes/node_labels",
    ),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_what_no_node_has_never_fits(case):
    wanted, field = TOO_MUCH[case]

    assert refused(wanted, SMALL) == [(Reason.NEVER_FITS, field)]


FITS = {
    "all of a node": asks(cpus_per_task=8, memory_per_node_mib=16 * 1024),
    "more nodes than there are": asks(nodes=5, cpus_per_task=1),  # pods of one job may share a node
    "gpus": asks(gpus_per_node=4, gpu_type="H100"),
    "a label of some nodes": job(placement=Placement(kubernetes={"node_labels": {"zone": "z1"}})),
}


@pytest.mark.parametrize("case", FITS)
def test_what_some_node_has_fits(case):
    assert refused(FITS[case], SMALL) == []


def test_a_zone_of_some_nodes_of_a_shape_fits():
    """Only what all of a shape had was known: in a cluster of two zones, neither could be asked for."""
    zone = "topology.kubernetes.io/zone"
    two = inventory(node("a", {zone: "a"}), node("b", {zone: "b"}))

    assert refused(job(placement=Placement(kubernetes={"node_labels": {zone: "b"}})), two) == []


def test_a_label_with_very_many_values_is_never_refused():
    many = inventory(*(node(f"n{i}", {"host": f"n{i}"}) for i in range(101)))

    assert refused(job(placement=Placement(kubernetes={"node_labels": {"host": "n7"}})), many) == []


def changed_size(name, cpu, memory, labels=None, **has):
    found = node(name, labels, **has)
    found["status"]["allocatable"] |= {"cpu": cpu, "memory": memory}
    return found


def test_what_no_single_node_has_together_never_fits():
    there = inventory(changed_size("a", "16", "1Gi"), changed_size("b", "1", "64Gi"))

    assert refused(asks(cpus_per_task=8, memory_per_node_mib=32 * 1024), there) == [
        (Reason.NEVER_FITS, "/resources")
    ]


GROUPS_OF_GPUS = inventory(
    node("big"),
    node("old", {"nvidia.com/gpu.product": "A100"}, nvidia_com__gpu="8"),
    changed_size("new", "4", "8Gi", H100, nvidia_com__gpu="2"),
    changed_size(
        "cut",
        "4",
        "8Gi",
        **{
            "nvidia_com__mig-1g_10gb": "7",
            "nvidia_com__mig-1g_10gb_me": "1",
            "nvidia_com__mig-1g_10gb_me_gfx": "1",
        },
    ),
)
APART = {
    "as many, of another type": asks(gpus_per_node=4, gpu_type="H100"),
    "by the job's word for it": asks(gpus_per_node=4, gpu_type="h100"),
    "beside few CPUs": asks(gpus_per_node=1, gpu_type="H100", cpus_per_task=8),
    "slices beside few CPUs": asks(gpus_per_node=1, mig_profile="1g.10gb", cpus_per_task=8),
}


@pytest.mark.parametrize("case", APART)
def test_gpus_that_no_single_node_has_with_the_rest_never_fit(case):
    given = {"gpu_types": {"h100": "H100"}}

    assert refused(APART[case], GROUPS_OF_GPUS, **given) == [(Reason.NEVER_FITS, "/resources")]


TOGETHER = {
    "all of a type": asks(gpus_per_node=2, gpu_type="h100", cpus_per_task=4),
    "of any type": asks(gpus_per_node=8, cpus_per_task=8),
    "slices": asks(gpus_per_node=7, mig_profile="1g.10gb", cpus_per_task=4),
    "a slice with an engine": asks(gpus_per_node=1, mig_profile="1g.10gb+me"),
    "a slice with two": asks(gpus_per_node=1, mig_profile="1g.10gb+me+gfx"),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_gpus_that_one_node_has_with_the_rest_fit(case):
    assert refused(TOGETHER[case], GROUPS_OF_GPUS, gpu_types={"h100": "H100"}) == []


def test_a_namespace_that_is_not_there_is_refused():
    there = inventory(node(), namespaces=["jobs"])

    assert refused(job(), there) == [(Reason.NOT_ALLOWED, "/project")]
    assert refused(job(), inventory(node(), namespaces=None)) == []


# ---- what cannot be honoured -----------------------------------------------------------------------------


def service(**changes):
    members = {"port": 80, "replicas": Replicas(min=1, max=2), "health": Health(path="/"), **changes}
    return Service(**members)


def serve(**changes):
    return job(kind=Kind.INFERENCE, command=(), **{"service": service(), **changes})


def test_an_image_counts_from_zero_by_itself():
    assert refused(job(command=(), script=None, array=Array(indices="0-8"))) == []


UNSUPPORTED = {
    "no image": (job(image=None), "/image"),
    "a long script": (job(command=(), script="x" * (129 * 1024)), "/script"),
    "a name of the broker": (job(environment={"BROKER_X": "1"}), "/environment/BROKER_X"),
    "all GPUs": (job(environment={"NVIDIA_VISIBLE_DEVICES": "all"}), "/environment/NVIDIA_VISIBLE_DEVICES"),
    "all GPUs, in secret": (
        job(secrets={"NVIDIA_VISIBLE_DEVICES": SecretRef(name="mine", key="all")}),
        "/secrets/NVIDIA_VISIBLE_DEVICES",
    ),
    "no name": (job(environment={"a-b": "1"}), "/environment/a-b"),
    "a secret elsewhere": (job(secrets={"T": SecretRef(name="../x", key="k")}), "/secrets/T/name"),
    "tasks": (job(resources=Resources(tasks_per_node=2)), "/resources/tasks_per_node"),
    "a fabric": (job(resources=Resources(fabric=Fabric.RDMA)), "/resources/fabric"),
    "a priority": (job(priority=Priority.HIGH), "/priority"),
    "an array on nodes": (
        job(array=Array(indices="0-1"), resources=Resources(nodes=2)),
        "/resources/nodes",
    ),
    "a service on nodes": (serve(resources=Resources(nodes=2)), "/resources/nodes"),
    "parameters of an image": (
        job(kind=Kind.BATCH, command=(), script=None, array=Array(parameters=({"a": 1},))),
        "/command",
    ),
    "steps of an image": (job(command=(), script=None, array=Array(indices="0-8:2")), "/command"),
    "an image that is tried again": (
        job(command=(), script=None, array=Array(indices="0-8"), retry=Retry(max_attempts=2)),
        "/command",
    ),
    "a table of parameters": (
        job(array=Array(parameters=tuple({"text": "x" * 100, "n": n} for n in range(1000)))),
        "/array/parameters",
    ),
    "a path of the host": (
        job(volumes=(Volume(source="/etc", mount_path="/x"),)),
        "/volumes/0/source",
    ),
    "a claim that cannot be": (
        job(volumes=(Volume(source="pvc:../x", mount_path="/x"),)),
        "/volumes/0/source",
    ),
    "over the broker's": (
        job(volumes=(Volume(source="pvc:data", mount_path="/broker/job"),)),
        "/volumes/0/mount_path",
    ),
    "over all": (job(volumes=(Volume(source="pvc:data", mount_path="/"),)), "/volumes/0/mount_path"),
    "outputs": (job(outputs=(Output(name="model", path="/broker/outputs/m"),)), "/outputs"),
    "no replica": (
        serve(service=service(replicas=Replicas(min=0), scale_on=ScaleOn(metric="queue", target=5))),
        "/service/replicas/min",
    ),
    "a service's end": (serve(time_limit_s=60), "/time_limit"),
    "an option": (
        job(placement=Placement(kubernetes={"hostNetwork": True})),
        "/placement/kubernetes/hostNetwork",
    ),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_cannot_be_honoured_is_refused_by_its_field(case):
    wanted, field = UNSUPPORTED[case]

    assert refused(wanted) == [(Reason.UNSUPPORTED, field)]


@pytest.mark.parametrize(
    "name, value",
    [
        ("grace_s", -1),
        ("grace_s", 3601),
        ("grace_s", True),
        ("grace_s", "5"),
        ("shared_memory", "much"),
        ("shared_memory", 7),
        ("canary", 0),
        ("canary", True),
        ("canary", "10%"),
        ("node_labels", []),
        ("node_labels", {"a": 1}),
        ("node_labels", {"a b": "c"}),
        ("node_labels", {"kubernetes.io/hostname": "x"}),
        ("node_labels", {"node-role.kubernetes.io/control-plane": ""}),
    ],
)
def test_a_native_option_that_cannot_be_read_is_refused(name, value):
    wanted = job(placement=Placement(options={"k8s": {name: value}}))

    assert refused(wanted) == [(Reason.INVALID_SPEC, f"/placement/options/k8s/{name}")]


def test_a_project_without_a_namespace_is_refused():
    assert refused(job(project="nlp"), namespace=None) == [(Reason.NOT_ALLOWED, "/project")]
