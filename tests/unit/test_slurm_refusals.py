"""What a Slurm backend cannot honour: each with its code, its field, and a sentence with the numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Inventory, NodeShape
from adapters.slurm.refusals import refusals
from api_spec.jobs import (
    Array,
    Fabric,
    Input,
    Output,
    Placement,
    Priority,
    Resources,
    Retry,
    SecretRef,
    Volume,
)
from api_spec.reasons import Reason
from tests.builders import spec
from tests.slurm_kit import options

INVALID, UNSUPPORTED = Reason.INVALID_SPEC, Reason.UNSUPPORTED
NEVER_FITS, NOT_ALLOWED = Reason.NEVER_FITS, Reason.NOT_ALLOWED


SLICE = Resources(gpus_per_node=1, mig_profile="1g.10gb")
NATIVE = "/placement/slurm/"


def told(wanted, inventory=None, owner="ana", **changes):
    found = refusals(wanted, inventory, options(**changes), "hpc", owner)
    return [(one.code, one.field, one.message) for one in found]


def where(found):
    return [(code, field) for code, field, _ in found]


def says(**native):
    return Placement(slurm=native)


@pytest.mark.parametrize(
    "wanted",
    [
        spec(),
        spec(script="#!/bin/sh\n"),
        spec(resources=Resources(nodes=4, tasks_per_node=8, gpus_per_node=8, gpu_type="h100")),
        spec(priority=Priority.LOW, preemptible=True),
        spec(volumes=(Volume(source="/data/", mount_path="/data"),)),
        spec(array=Array(indices="0-9", max_running=2), retry=Retry(max_attempts=2, on=("NodeLost",))),
        spec(environment={"LD_LIBRARY_PATH": "/opt", "A": "b\nc"}),
        spec(outputs=(Output(name="m", path="/scratch/m"),), inputs=(Input(name="a", uri="s3://b/k"),)),
        spec(placement=Placement(options={"other": {"nonsense": 1}}, local={"grace_s": 1})),
    ],
    ids=str,
)
def test_what_can_be_honoured_is_not_refused(wanted):
    assert told(wanted) == []


CASES = [
    (spec(kind="inference"), UNSUPPORTED, "/service"),
    (replace(spec(), command=()), INVALID, "/command"),
    (spec(image="ubuntu"), UNSUPPORTED, "/image"),
    (spec(secrets={"T": SecretRef(name="a", key="b")}), UNSUPPORTED, "/secrets"),
    (spec(priority=Priority.HIGH), UNSUPPORTED, "/priority"),
    (
        spec(resources=SLICE),
        UNSUPPORTED,
        "/resources/mig_profile",
    ),
    (spec(resources=Resources(fabric=Fabric.RDMA)), UNSUPPORTED, "/resources/fabric"),
    (spec(volumes=(Volume(source="pvc:a", mount_path="/a"),)), UNSUPPORTED, "/volumes/0/source"),
    (spec(volumes=(Volume(source="/a", mount_path="/b"),)), UNSUPPORTED, "/volumes/0/mount_path"),
    (
        spec(volumes=(Volume(source="/a", mount_path="/a", read_only=True),)),
        UNSUPPORTED,
        "/volumes/0/read_only",
    ),
    (spec(environment={"SLURM_CONF": "/x"}), UNSUPPORTED, "/environment/SLURM_CONF"),
    (spec(environment={"PYXIS_CONTAINER_IMAGE": "x"}), UNSUPPORTED, "/environment/PYXIS_CONTAINER_IMAGE"),
    (spec(environment={"BROKER_JOB_ID": "x"}), UNSUPPORTED, "/environment/BROKER_JOB_ID"),
    (spec(environment={"UID": "0"}), UNSUPPORTED, "/environment/UID"),
    (spec(environment={"a b": "0"}), INVALID, "/environment/a b"),
    (spec(environment={"A": "x" * 131071}), INVALID, "/environment/A"),
    (spec(command=("a", "b\0c")), INVALID, "/command/1"),
    (spec(arguments=("\ud800",)), INVALID, "/arguments/0"),
    (spec(arguments=("x" * 131072,)), INVALID, "/arguments/0"),
    (spec(inputs=(Input(name="a", uri="file:///a%00b"),)), INVALID, "/inputs/0/uri"),
    (spec(working_directory="relative"), INVALID, "/working_directory"),
    (spec(script="#!/bin/sh\r\necho\r\n"), INVALID, "/script"),
    (spec(script="#!\necho\n"), INVALID, "/script"),
    (spec(array=Array(parameters=({"lr": 1, "LR": 2},))), INVALID, "/array/parameters/0"),
    (spec(array=Array(parameters=({"lr": "\0"},))), INVALID, "/array/parameters/0/lr"),
    (spec(placement=says(nonsense=1)), UNSUPPORTED, NATIVE + "nonsense"),
    (spec(placement=says(container_writable=True)), INVALID, NATIVE + "container_writable"),
    (spec(placement=says(time_min="2h"), time_limit_s=3600), INVALID, NATIVE + "time_min"),
    (spec(placement=says(cpus_per_gpu=2)), INVALID, NATIVE + "cpus_per_gpu"),
    (
        spec(placement=says(mem_per_cpu="1GiB"), resources=Resources(memory_per_node_mib=1)),
        INVALID,
        NATIVE + "mem_per_cpu",
    ),
    (
        spec(placement=says(requeue=True), retry=Retry(max_attempts=2, on=("Preempted",))),
        INVALID,
        NATIVE + "requeue",
    ),
    (
        spec(placement=says(begin="2026-11-22T02:00:00Z", deadline="2026-11-22T01:00:00Z")),
        INVALID,
        NATIVE + "deadline",
    ),
    (spec(arguments=("'" * 131000,) * 7), UNSUPPORTED, "/arguments"),
]


@pytest.mark.parametrize("wanted, code, field", CASES, ids=[field for _, _, field in CASES])
def test_each_refusal_has_its_code_and_its_field(wanted, code, field):
    assert where(told(wanted)) == [(code, field)]


@pytest.mark.parametrize(
    "changes, code, field",
    [
        ({}, None, None),
        ({"image": "a b"}, UNSUPPORTED, "/image"),
        ({"command": ()}, UNSUPPORTED, "/command"),
        ({"command": ("-x",)}, INVALID, "/command/0"),
        ({"volumes": (Volume(source="/a", mount_path="/b", read_only=True),)}, None, None),
        ({"volumes": (Volume(source="/a b", mount_path="/b"),)}, UNSUPPORTED, "/volumes/0/source"),
        (
            {"volumes": (Volume(source="/a", mount_path="/b,/etc:/etc"),)},
            UNSUPPORTED,
            "/volumes/0/mount_path",
        ),
        ({"inputs": (Input(name="a", uri="/a:b"),)}, UNSUPPORTED, "/inputs/0/uri"),
        ({"outputs": (Output(name="a", path="/elsewhere"),)}, UNSUPPORTED, "/outputs/0/path"),
    ],
)
def test_images_are_taken_where_the_operator_says_that_pyxis_is_there(changes, code, field):
    wanted = replace(spec(image="python:3.12"), **changes)

    assert where(told(wanted, containers="pyxis")) == ([(code, field)] if code else [])


@pytest.mark.parametrize("owner, refused", [("ana", False), ("", False), ("Ana", True), ("root", True)])
def test_an_owner_who_is_nobody_here_is_refused(owner, refused):
    assert where(told(spec(), owner=owner)) == ([(NOT_ALLOWED, None)] if refused else [])


def test_an_owner_whom_slurm_cannot_carry_is_refused():
    assert where(told(spec(), owner="ü" * 400, users={"service": "broker"})) == [(NOT_ALLOWED, None)]


# ---- against an inventory ----------------------------------------------------------------------------

DETAILS = {
    "partitions": [
        {"name": "gpu", "default": True, "time_limit_min": 1440, "allowed_accounts": ["vision", "speech"]},
        {"name": "debug", "default": False, "time_limit_min": 60, "denied_qos": ["high"]},
        {"name": "empty", "default": False, "time_limit_min": None},
    ],
    "shape_partitions": {"gpu-1": ["gpu", "debug"], "cpu-1": ["debug"]},
    "associations": {
        "ana": [
            {
                "account": "vision",
                "partition": None,
                "qos": ["normal", "high"],
                "default_qos": "normal",
                "is_default": True,
            },
            {
                "account": "speech",
                "partition": "debug",
                "qos": ["normal"],
                "default_qos": None,
                "is_default": False,
            },
            {
                "account": "other",
                "partition": None,
                "qos": ["normal"],
                "default_qos": None,
                "is_default": False,
            },
        ]
    },
    "qos": {
        "normal": {"time_limit_min": None, "tres_per_job": {"gres/gpu": 16}, "tres_per_user": {}},
        "high": {"time_limit_min": 120, "tres_per_job": {}, "tres_per_user": {"cpu": 64}},
        "low": {},
    },
    "licenses": {"matlab": 5},
    "reservations": {
        "maint": {"users": []},
        "course": {"users": ["ben", "ana"]},
        "exam": {"users": ["ben"]},
        "party": {"users": ["-ana"]},
        "fair": {"users": ["-ben"]},
    },
    "gres": ["gpu:h100", "nic:mlx5"],
}
CLUSTER = Inventory(
    as_of=0.0,
    shapes=(
        NodeShape(
            name="gpu-1",
            count=4,
            cpus=64,
            memory_mib=524288,
            gpus=8,
            gpu_type="h100",
            features=frozenset({"ib", "rack1"}),
        ),
        NodeShape(name="cpu-1", count=10, cpus=128, memory_mib=262144, features=frozenset({"rack2"})),
    ),
    details=DETAILS,
)


def wants(**resources):
    return spec(resources=Resources(**resources))


@pytest.mark.parametrize(
    "wanted",
    [
        spec(),
        spec(time_limit_s=86400),
        wants(nodes=2, tasks_per_node=64, memory_per_node_mib=524288, gpus_per_node=8, gpu_type="h100"),
        spec(placement=says(partition="debug"), resources=Resources(cpus_per_task=128)),
        spec(placement=says(partition="debug,gpu"), resources=Resources(nodes=4, cpus_per_task=64)),
        spec(placement=says(account="speech", partition="debug")),
        spec(placement=says(qos="high"), time_limit_s=7200),
        spec(placement=says(licenses="matlab:5", reservation="maint", gres="nic:mlx5:1")),
        spec(placement=says(reservation="course")),
        spec(placement=says(reservation="fair,maint")),
        spec(placement=says(constraint="ib&rack1")),
        spec(placement=says(constraint="rack9|rack1")),
        spec(placement=says(constraint="[rack8*2&rack9*1]")),
        spec(placement=says(time_min="1h", partition="debug"), time_limit_s=7200),
        spec(array=Array(indices="1000")),
    ],
    ids=str,
)
def test_what_the_cluster_holds_is_not_refused(wanted):
    assert told(wanted, CLUSTER) == []


MIXED = Inventory(
    as_of=0.0,
    shapes=(
        NodeShape(
            name="both", count=1, cpus=64, memory_mib=524288, gpus=6, gpus_by_type={"a100": 4, "h100": 2}
        ),
    ),
)
OF_TWO_TYPES = [
    (wants(gpus_per_node=6), []),
    (wants(gpus_per_node=2, gpu_type="h100"), []),
    (
        wants(gpus_per_node=4, gpu_type="h100"),
        ["asks for 4 GPUs of type h100 a node; 2 is what the nearest node of hpc has"],
    ),
    (
        wants(gpus_per_node=1, gpu_type="v100"),
        ["asks for GPUs of type v100; a100, h100 is what the nearest node of hpc has"],
    ),
]


@pytest.mark.parametrize(("wanted", "sentences"), OF_TWO_TYPES, ids=str)
def test_gpus_of_one_node_may_be_of_several_types(wanted, sentences):
    assert [message for _, _, message in told(wanted, MIXED)] == sentences


AGAINST = [
    (wants(cpus_per_task=65), NEVER_FITS, "/resources/cpus_per_task", "asks for 65 CPUs a node; 64 is"),
    (
        wants(memory_per_node_mib=524289),
        NEVER_FITS,
        "/resources/memory_per_node",
        "512GiB is what the nearest node of the partition gpu has",
    ),
    (wants(gpus_per_node=9), NEVER_FITS, "/resources/gpus_per_node", "asks for 9 GPUs a node; 8 is"),
    (
        wants(gpus_per_node=1, gpu_type="a100"),
        NEVER_FITS,
        "/resources/gpu_type",
        "asks for GPUs of type a100; h100 is",
    ),
    (wants(nodes=5), NEVER_FITS, "/resources/nodes", "asks for 5 nodes; the partition gpu has 4"),
    (
        wants(nodes=3, gpus_per_node=8),
        NEVER_FITS,
        "/resources/gpus_per_node",
        "asks for 24 of gres/gpu; the QOS normal allows 16",
    ),
    (spec(time_limit_s=86401), NEVER_FITS, "/time_limit", "the partition gpu allows"),
    (
        spec(placement=says(partition="no")),
        UNSUPPORTED,
        NATIVE + "partition",
        "has gpu, debug, empty",
    ),
    (
        spec(placement=says(partition="empty")),
        NEVER_FITS,
        NATIVE + "partition",
        "the partition empty has no nodes",
    ),
    (
        spec(placement=says(account="no")),
        NOT_ALLOWED,
        NATIVE + "account",
        "ana has other, speech, vision",
    ),
    (
        spec(placement=says(account="speech", partition="gpu")),
        NOT_ALLOWED,
        NATIVE + "account",
        "in the partition gpu",
    ),
    (
        spec(placement=says(account="other")),
        NOT_ALLOWED,
        NATIVE + "account",
        "the partition gpu takes vision, speech",
    ),
    (spec(placement=says(qos="low")), NOT_ALLOWED, NATIVE + "qos", "ana may use high, normal"),
    (
        spec(placement=says(qos="high", partition="debug")),
        NOT_ALLOWED,
        NATIVE + "qos",
        "the partition debug does not take high",
    ),
    (
        spec(placement=says(qos="high"), time_limit_s=7201),
        NEVER_FITS,
        "/time_limit",
        "the QOS high allows 2h",
    ),
    (
        spec(placement=says(qos="high"), resources=Resources(nodes=2, cpus_per_task=40)),
        NEVER_FITS,
        "/resources/cpus_per_task",
        "asks for 80 of cpu; the QOS high allows 64",
    ),
    (spec(placement=says(reservation="no")), UNSUPPORTED, NATIVE + "reservation", "has maint, course"),
    (spec(placement=says(reservation="exam")), NOT_ALLOWED, NATIVE + "reservation", "is not for ana"),
    (spec(placement=says(reservation="maint,party")), NOT_ALLOWED, NATIVE + "reservation", "party, which is"),
    (spec(placement=says(licenses="ansys")), UNSUPPORTED, NATIVE + "licenses", "has matlab"),
    (spec(placement=says(licenses="matlab:6")), NEVER_FITS, NATIVE + "licenses", "there are 5"),
    (
        spec(placement=says(gres="shard:1")),
        NEVER_FITS,
        NATIVE + "gres",
        "asks for shard on each node",
    ),
    (
        spec(placement=says(constraint="ib&rack2")),
        NEVER_FITS,
        NATIVE + "constraint",
        "asks for nodes with rack2; ib, rack1 is",
    ),
]


@pytest.mark.parametrize(
    "wanted, code, field, sentence", AGAINST, ids=[f"{field} {words[:20]}" for _, _, field, words in AGAINST]
)
def test_what_the_cluster_does_not_hold_is_told_with_its_numbers(wanted, code, field, sentence):
    found = told(wanted, CLUSTER)

    assert where(found) == [(code, field)]
    assert sentence in found[0][2]


def test_an_image_needs_nodes_that_can_run_it():
    wanted, with_pyxis = spec(image="a/b"), {"containers": "pyxis"}

    assert told(wanted, CLUSTER, **with_pyxis, container_feature="rack1") == []
    ((code, field, sentence),) = told(wanted, CLUSTER, **with_pyxis, container_feature="pyxis")
    assert (code, field) == (NEVER_FITS, "/image")
    assert sentence.startswith("runs an image, which needs nodes with the feature pyxis")


def test_of_several_partitions_one_has_to_take_the_job():
    assert told(spec(placement=says(partition="debug,gpu"), time_limit_s=7200), CLUSTER) == []
    assert where(told(spec(placement=says(partition="debug,gpu"), time_limit_s=86401), CLUSTER)) == [
        (NEVER_FITS, "/time_limit")
    ]


def test_who_has_no_account_is_told_so():
    assert told(spec(), CLUSTER, owner="bo") == [
        (NOT_ALLOWED, None, "asks for no account; bo has none at hpc"),
    ]


def test_slices_have_to_be_gres_of_the_cluster():
    wanted = wants(gpus_per_node=1, mig_profile="1g.10gb")

    known = told(wanted, CLUSTER, mig_profiles={"1g.10gb": "gpu:h100"})
    unknown = told(wanted, CLUSTER, mig_profiles={"1g.10gb": "gpu:a100_1g.10gb"})

    assert (known, where(unknown)) == ([], [(NEVER_FITS, "/resources/mig_profile")])


def test_what_is_not_known_refuses_nothing():
    """No accounting, an old inventory, or a detail that this version does not write."""
    wanted = spec(
        resources=Resources(cpus_per_task=64, gpus_per_node=2),
        time_limit_s=10**6,
        placement=says(partition="x", account="y", qos="z", licenses="l", reservation="r", gres="g:1"),
    )

    assert told(wanted, replace(CLUSTER, details={})) == []
    assert told(wanted, replace(CLUSTER, details={"associations": None, "qos": {}})) == []


def test_an_account_that_nobody_has_is_no_matter_where_accounts_are_not_enforced():
    """AccountingStorageEnforce is not set: everybody may submit, and accounts only keep books."""
    wanted = spec(placement=says(account="nobodys"))

    assert where(told(wanted, CLUSTER)) == [(NOT_ALLOWED, NATIVE + "account")]
    assert told(wanted, CLUSTER, enforced=[]) == []
    assert told(spec(), CLUSTER, owner="zoe", enforced=[]) == []


def test_the_qos_and_limits_of_a_user_are_no_matter_where_accounts_alone_are_enforced():
    details = {"associations": {"ana": [{"account": "vision", "qos": ["normal"]}]}}
    details["qos"] = {"normal": {}, "short": {"time_limit_min": 1, "tres_per_job": {"cpu": 1}}}
    wanted = spec(placement=says(qos="short"), time_limit_s=3600)
    cluster = replace(CLUSTER, details=details)

    assert NOT_ALLOWED in {code for code, _, _ in told(wanted, cluster)}
    assert told(wanted, cluster, enforced=["associations"]) == []
