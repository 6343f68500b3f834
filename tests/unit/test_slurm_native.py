"""Native options: what a job may say in sbatch's words, and who has the last word."""

from __future__ import annotations

import pytest

from adapters.slurm import native
from adapters.slurm.records import Submission
from api_spec.jobs import Fabric, Placement, Priority, Resources
from api_spec.reasons import Reason
from tests.builders import spec
from tests.slurm_kit import options, sent


def says(**native_options):
    return spec(placement=Placement(slurm=native_options))


READ = [
    ("partition", "gpu", {"partition": "gpu"}),
    ("partition", ["gpu", "long"], {"partition": "gpu,long"}),
    ("account", "vision", {"account": "vision"}),
    ("qos", "high", {"qos": "high"}),
    ("reservation", "maint", {"reservation": "maint"}),
    ("wckey", "*thesis", {"wckey": "*thesis"}),
    ("constraint", "rack1&ib|(a*2)", {"constraint": "rack1&ib|(a*2)"}),
    ("licenses", "matlab@flex:2,ansys", {"licenses": "matlab@flex:2,ansys"}),
    ("gres", "shard:2,nic:mlx5:1", {"gres": "shard:2,nic:mlx5:1"}),
    ("switches", 1, {"switches": 1}),
    ("switches", "1@10:00", {"switches": 1, "switches_wait_s": 600}),
    ("switches", "2@30", {"switches": 2, "switches_wait_s": 1800}),
    ("nodelist", "n[1-2,4],m1", {"required_nodes": ("n[1-2,4]", "m1")}),
    ("nodelist", "n[1-100][01-99],m[1-100]", {"required_nodes": ("n[1-100][01-99]", "m[1-100]")}),
    ("exclude", ["n1", "n2"], {"excluded_nodes": ("n1", "n2")}),
    ("exclusive", True, {"exclusive": True}),
    ("nice", 500, {"nice": 500}),
    ("begin", "2026-11-22T02:00:00Z", {"begin_at": 1795312800.0}),
    ("deadline", "2026-11-22T03:00:00+01:00", {"deadline_at": 1795312800.0}),
    ("time_min", "90s", {"time_min_min": 2}),
    ("signal", "B:USR1@60", {"warning_signal": "USR1", "warning_s": 60, "warning_to_batch": True}),
    ("signal", "SIGTERM", {"warning_signal": "TERM", "warning_s": 60, "warning_to_batch": False}),
    ("signal", "10@5", {"warning_signal": "10", "warning_s": 5, "warning_to_batch": False}),
    ("mail_type", "end,FAIL", {"mail_types": ("END", "FAIL")}),
    ("mail_type", ["ALL"], {"mail_types": ("ALL",)}),
    ("mail_user", "ana@example.org", {"mail_user": "ana@example.org"}),
    ("requeue", False, {"requeue": False}),
    ("mem_per_cpu", "4GiB", {"memory_per_cpu_mib": 4096}),
    ("cpus_per_gpu", 8, {"cpus_per_gpu": 8}),
    ("tmp", "10GiB", {"tmp_disk_mib": 10240}),
    ("dependency", "afterok:12:13,afterany:14_3", {"dependency": "afterok:12:13,afterany:14_3"}),
    ("output", "logs/%x-%4j.out", {"log_output": "logs/%x-%4j.out"}),
    ("error", "/dev/null", {"log_error": "/dev/null"}),
    ("container_entrypoint", True, {"container_entrypoint": True}),
    ("container_writable", False, {"container_writable": False}),
    ("container_mount_home", True, {"container_mount_home": True}),
]


@pytest.mark.parametrize("name, value, found", READ, ids=[f"{name}={value}" for name, value, _ in READ])
def test_an_option_becomes_fields_of_the_submission(name, value, found):
    assert native.fault_of(name, value) is None
    assert native.OPTIONS[name](value) == found


def test_every_option_is_in_the_table_of_cases_and_every_field_is_one_of_a_submission():
    known = set(Submission.__dataclass_fields__)

    assert {name for name, _, _ in READ} == set(native.OPTIONS)
    fields = {key for _, _, found in READ for key in found}
    assert {key for key in fields if not key.startswith(("container_", "log_"))} <= known


@pytest.mark.parametrize("name", sorted(native.OPTIONS))
@pytest.mark.parametrize(
    "value",
    ["", " ", "a b", "a\nb", "a\0b", "-a", "$(id)", "`id`", "a;b", "a'b", 'a"b', "ü", {}, [], [[]], 1.5, -1],
    ids=repr,
)
def test_what_has_another_form_is_told_in_one_sentence(name, value):
    assert native.fault_of(name, value)


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("gres", "gpu:2", "say gpus_per_node"),
        ("begin", "now+1hour", "needs a time such as 2026-"),
        ("begin", "2026-11-22T02:00:00", "needs a time such as 2026-"),
        ("exclusive", "user", "needs true or false, not 'user'"),
        ("nice", -5, "from 0 to"),
        ("nice", True, "from 0 to"),
        ("signal", "USR9@60", "needs a signal"),
        ("signal", "R:USR1@60", "needs a signal"),
        ("signal", "USR1@0", "from 1 to 65535 seconds"),
        ("mail_type", "SOMETIMES", "does not know 'SOMETIMES'; there are ALL, "),
        ("dependency", "afterok:12?afterany:13", "needs a list or text such as afterok:1234"),
        ("dependency", "singleton", "needs a list or text such as afterok:1234"),
        ("switches", True, "needs a number of switches"),
        ("exclude", "n[1-999][1-999][1-999]", "names 997002999 nodes; 10000 are the most"),
        ("nodelist", "n[1-10000],m1", "names 10001 nodes"),
        ("nodelist", "n[5-1]", "has a range of nodes that ends before it begins, 5-1"),
        ("exclude", "n[--]", "needs a list or text such as n[1-4],n7"),
        ("exclude", "n[1,]", "needs a list or text such as n[1-4],n7"),
        ("comment", "x", "the comment is the broker's own"),
        ("uid", "0", "the operator says whom a job runs as"),
        ("time", "10", "time_limit is a field of the job"),
        ("partitions", "x", "is no option here: known are account, "),
        ("partition", "x" * 200, "..."),
    ],
)
def test_some_faults_say_what_would_be_right(name, value, sentence):
    assert sentence in native.fault_of(name, value)


def test_the_later_word_wins_from_the_operators_to_the_policys():
    wanted = spec(
        priority=Priority.HIGH,
        preemptible=True,
        placement=Placement(
            slurm={"account": "job", "wckey": "job"},
            options={"hpc": {"wckey": "policy"}, "other": {"qos": "no"}},
        ),
    )
    said = {
        "partition": "p",
        "qos": "default",
        "reservation": "default",
        "account": "default",
        "wckey": "default",
    }

    job = sent(
        wanted,
        defaults=said,
        priorities={"high": {"qos": "high", "reservation": "high"}},
        preemptible={"reservation": "scavenger"},
    )

    assert (job.partition, job.qos, job.reservation, job.account, job.wckey) == (
        "p",
        "high",
        "scavenger",
        "job",
        "policy",
    )


def test_null_takes_back_what_the_operator_has_said():
    assert sent(says(qos=None), defaults={"qos": "normal"}).qos is None


def test_a_fabric_is_joined_to_what_the_job_asks_for():
    rdma = {"rdma": {"constraint": "ib", "gres": "nic:1", "switches": 1}}
    wanted = spec(
        resources=Resources(gpus_per_node=2, fabric=Fabric.RDMA),
        placement=Placement(slurm={"constraint": "rack1", "gres": "shard:1"}),
    )

    job = sent(wanted, fabrics=rdma, defaults={"switches": "2@10:00"})

    assert job.constraint == "ib&rack1"
    assert job.gres == "gpu:2,shard:1,nic:1"
    assert (job.switches, job.switches_wait_s) == (1, None)


def test_defaults_give_way_to_the_jobs_own_resources():
    defaults = {"mem_per_cpu": "1GiB", "cpus_per_gpu": 4}

    plain = sent(spec(resources=Resources(gpus_per_node=1)), defaults=defaults)
    own = sent(
        spec(resources=Resources(memory_per_node_mib=512, gpus_per_node=1, cpus_per_task=2)),
        defaults=defaults,
    )

    assert (plain.memory_per_cpu_mib, plain.cpus_per_gpu) == (1024, 4)
    assert (own.memory_per_cpu_mib, own.cpus_per_gpu) == (None, None)


@pytest.mark.parametrize(
    "placement, code, pointer",
    [
        (Placement(slurm={"qos": "x"}), None, None),
        (Placement(slurm={"nice": 5}), Reason.NOT_ALLOWED, "/placement/slurm/nice"),
        (Placement(slurm={"qos": "a b"}), Reason.INVALID_SPEC, "/placement/slurm/qos"),
        (Placement(slurm={"a/b~c": 1}), Reason.UNSUPPORTED, "/placement/slurm/a~1b~0c"),
        (Placement(options={"hpc": {"uid": 0}}), Reason.UNSUPPORTED, "/placement/options/hpc/uid"),
        (Placement(options={"other": {"uid": 0}}), None, None),
    ],
)
def test_options_of_a_job_are_refused_where_they_stand(placement, code, pointer):
    found = list(native.refusals(spec(placement=placement), options(allowed=["qos"]), "hpc"))

    assert [(one.code, one.field) for one in found] == ([(code, pointer)] if code else [])


@pytest.mark.parametrize(
    "row, said, pointer",
    [
        ({"constraint": "ib"}, {"constraint": "a|b"}, "/placement/slurm/constraint"),
        ({"constraint": "ib|roce"}, {"constraint": "a"}, "/placement/slurm/constraint"),
        ({"switches": 1}, {"switches": 2}, "/placement/slurm/switches"),
        ({"constraint": "ib"}, {"constraint": "a&b"}, None),
        ({"constraint": "ib|roce"}, {}, None),
    ],
)
def test_what_cannot_be_joined_with_the_fabric_is_refused(row, said, pointer):
    wanted = spec(resources=Resources(fabric=Fabric.RDMA), placement=Placement(slurm=said))

    found = list(native.refusals(wanted, options(fabrics={"rdma": row}), "hpc"))

    assert [one.field for one in found] == ([pointer] if pointer else [])


WITH_PYXIS = {"containers": "pyxis", "container_feature": "pyxis", "fabrics": {"rdma": {"constraint": "ib"}}}


@pytest.mark.parametrize(
    "changes, constraint",
    [
        ({}, None),
        ({"image": "a/b"}, "pyxis"),
        ({"image": "a/b", "placement": Placement(slurm={"constraint": "rack1"})}, "pyxis&rack1"),
        ({"image": "a/b", "resources": Resources(fabric=Fabric.RDMA)}, "pyxis&ib"),
    ],
)
def test_an_image_goes_to_nodes_with_the_feature_that_can_run_it(changes, constraint):
    assert native.chosen(spec(**changes), options(**WITH_PYXIS), "hpc").get("constraint") == constraint


@pytest.mark.parametrize(
    "said, of_the_fabric, pointer",
    [
        ({"constraint": "a|b"}, "ib", "/placement/slurm/constraint"),
        ({}, "ib|roce", "/resources/fabric"),
        ({"constraint": "a"}, "ib", None),
    ],
)
def test_what_cannot_be_joined_with_the_feature_of_images_is_refused(said, of_the_fabric, pointer):
    changes = {**WITH_PYXIS, "fabrics": {"rdma": {"constraint": of_the_fabric}}}
    fabric = Fabric.NONE if "|" in str(said) else Fabric.RDMA
    wanted = spec(image="a/b", resources=Resources(fabric=fabric), placement=Placement(slurm=said))

    found = list(native.refusals(wanted, options(**changes), "hpc"))

    assert [one.field for one in found] == ([pointer] if pointer else [])
