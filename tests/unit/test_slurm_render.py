"""A specification as Slurm gets it, field by field, and as people are shown it."""

from __future__ import annotations

import json

import pytest

from adapters import carried
from adapters.errors import Rejected
from adapters.slurm import containers, render
from adapters.slurm.records import Submission
from api_spec.jobs import (
    Array,
    Fabric,
    Input,
    Output,
    Placement,
    Resources,
    Retry,
    SecretRef,
    Volume,
)
from api_spec.reasons import Reason
from tests.builders import spec
from tests.slurm_kit import MARKER, ref, sent

HOME = "/home/ana/.broker"


def wants(**resources):
    return spec(resources=Resources(**resources))


def test_the_least_job():
    job = sent()

    assert (job.name, job.user, job.directory) == (MARKER, "ana", HOME)
    assert (job.stdout, job.stderr) == (f"{HOME}/{MARKER}.out", f"{HOME}/{MARKER}.err")
    assert (job.nodes, job.tasks_per_node, job.cpus_per_task) == (1, 1, 1)
    assert job.dependency == "singleton"
    assert job.requeue
    assert not job.hold
    assert job.time_limit_min is job.gres is job.array is job.memory_per_node_mib is None


@pytest.mark.parametrize("seconds, minutes", [(1, 1), (60, 1), (61, 2), (3600, 60), (None, None)])
def test_a_time_limit_is_never_rounded_down(seconds, minutes):
    assert sent(spec(time_limit_s=seconds)).time_limit_min == minutes


@pytest.mark.parametrize(
    "resources, gres",
    [
        (Resources(), None),
        (Resources(gpus_per_node=2), "gpu:2"),
        (Resources(gpus_per_node=2, gpu_type="a100"), "gpu:a100:2"),
        (Resources(gpus_per_node=2, gpu_type="h100"), "gpu:nvidia_h100:2"),
        (Resources(gpus_per_node=3, mig_profile="1g.10gb"), "gpu:a100_1g.10gb:3"),
        (Resources(gpus_per_node=1, fabric=Fabric.GPUDIRECT), "gpu:1,nic:1"),
    ],
)
def test_gpus_are_gres_of_each_node(resources, gres):
    job = sent(
        spec(resources=resources),
        gpu_types={"h100": "nvidia_h100"},
        mig_profiles={"1g.10gb": "gpu:a100_1g.10gb"},
        fabrics={"gpudirect": {"gres": "nic:1", "environment": {"NCCL_NET": "IB"}}},
    )

    assert job.gres == gres
    assert ("NCCL_NET" in job.environment) == (resources.fabric is Fabric.GPUDIRECT)


@pytest.mark.parametrize(
    "array, tasks, text",
    [
        (Array(indices="0-99:2"), (), "0-98:2"),
        (Array(indices="0,2,3,9", max_running=10), (), "0,2,3,9%10"),
        (Array(indices="0-9"), (3, 7, 8, 9), "3,7-9"),
        (Array(parameters=({"a": 1}, {"a": 2}, {"a": 3}), max_running=2), (), "0-2%2"),
        (Array(parameters=({"a": 1}, {"a": 2}, {"a": 3})), (2,), "2"),
    ],
)
def test_an_array_names_its_tasks_and_a_retry_those_that_failed(array, tasks, text):
    job = sent(spec(array=array), ref(task_indices=tasks))

    assert job.array == text
    assert job.stdout == f"{HOME}/{MARKER}_%a.out"


@pytest.mark.parametrize(
    "retry, said, requeue",
    [
        ((), None, True),
        (("NonZeroExit",), None, True),
        (("NodeLost",), None, False),
        (("Preempted", "TimeLimit"), None, False),
        ((), False, False),
        (("NodeLost",), True, False),
    ],
)
def test_slurm_does_not_start_again_what_the_broker_will(retry, said, requeue):
    wanted = spec(
        retry=Retry(max_attempts=2, on=retry),
        placement=Placement(slurm={} if said is None else {"requeue": said}),
    )

    assert sent(wanted).requeue is requeue


def test_a_dependency_of_the_jobs_own_stands_beside_that_of_the_guard():
    job = sent(spec(hold=True, placement=Placement(slurm={"dependency": "afterok:7"})))

    assert (job.dependency, job.hold) == ("singleton,afterok:7", True)


def test_directories_are_of_the_user_and_the_project():
    job = sent(directory="/scratch/{project}/{user}")

    assert job.directory == "/scratch/vision/ana"


def test_who_is_nobody_here_is_refused():
    with pytest.raises(Rejected) as refused:
        sent(attempt=ref(owner="Ana@example.org"))

    assert refused.value.reason is Reason.NOT_ALLOWED


def test_secrets_come_in_when_the_job_is_sent():
    job = sent(spec(secrets={"TOKEN": SecretRef(name="wandb", key="token")}))

    complete = render.with_secrets(job, {"TOKEN": "t0p"})

    assert "TOKEN" not in job.environment
    assert complete.environment == {**job.environment, "TOKEN": "t0p"}


# ---- for people --------------------------------------------------------------------------------------


def test_every_field_of_a_submission_is_shown():
    shown = render.WORDS.keys() | render.TOLD_WITH_ANOTHER

    assert shown == Submission.__dataclass_fields__.keys()


def test_the_text_shows_options_user_environment_and_script_but_no_secret():
    wanted = spec(
        secrets={"TOKEN": SecretRef(name="wandb", key="token")},
        environment={"A": "b c"},
        resources=Resources(memory_per_node_mib=512),
        placement=Placement(
            slurm={
                "signal": "B:USR1@90",
                "switches": "1@10:00",
                "begin": "2026-11-22T02:00:00Z",
                "exclude": "n1,n2",
                "exclusive": True,
            }
        ),
    )
    job = sent(wanted)

    lines = render.text(render.with_secrets(job, {}), wanted.secrets).splitlines()

    assert lines[0] == f"# {MARKER}: a job of Slurm that runs as ana"
    for line in (
        f"--job-name={MARKER}",
        "--mem=512M",
        "--signal=B:USR1@90",
        "--switches=1@10",
        "--begin=2026-11-22T02:00:00.000Z",
        "--exclude=n1,n2",
        "--exclusive",
        "--requeue",
        "--open-mode=append",
        "  A='b c'",
        "  TOKEN from the secret wandb/token",
        "#!/bin/bash -p",
    ):
        assert line in lines


# ---- what a job carries ------------------------------------------------------------------------------


def test_what_a_job_carries_can_be_read_back():
    attempt = ref(task_indices=(0, 1, 2, 5), revision=3, submitted_at=None)

    text = carried.text(attempt)

    assert carried.read(MARKER, text) == attempt
    assert json.loads(text)["tasks"] == "0-2,5"


@pytest.mark.parametrize(
    "attempt",
    [
        ref(name="n" * 63, project="p" * 63, owner="o" * 600, kind="training"),
        ref(name="n" * 63, task_indices=tuple(i * i for i in range(400))),
        ref(name="ü" * 63, owner="ü" * 80, project="p" * 63),
        ref(task_indices=tuple(i * i for i in range(10_000))),
    ],
)
def test_what_is_too_long_loses_its_name_and_then_its_tasks_and_stays_json(attempt):
    text = carried.text(attempt)
    found = carried.read(MARKER, text)

    assert len(text) <= carried.LONGEST
    assert text.isascii()
    assert (found.job_id, found.owner, found.digest) == (attempt.job_id, attempt.owner, attempt.digest)
    assert attempt.name.startswith(found.name)


def test_an_owner_who_is_too_long_is_told():
    with pytest.raises(carried.TooLong):
        carried.text(ref(owner="ü" * 300))


@pytest.mark.parametrize(
    "text",
    [None, "", "hello", "{}", "[]", "[" * 100_000, '{"v":"1"}', '{"v":1,"n":"x"}', '{"v":1,"tasks":"9-1"}'],
    ids=lambda text: repr(text)[:20],
)
def test_a_comment_of_somebody_else_is_none_of_ours(text):
    assert carried.read(MARKER, text) is None


# ---- containers --------------------------------------------------------------------------------------

SHA = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    "text, image",
    [
        ("ubuntu", "ubuntu"),
        ("ubuntu:24.04", "ubuntu:24.04"),
        ("group/name:tag", "group/name:tag"),
        ("registry.example/train:1.4", "registry.example#train:1.4"),
        ("docker://registry.example/a/b:1", "registry.example#a/b:1"),
        ("localhost/a", "localhost#a"),
        ("registry:5000/a/b", "registry:5000#a/b"),
        ("docker.io/library/ubuntu", "library/ubuntu"),
        ("nvcr.io#nvidia/pytorch:24.01", "nvcr.io#nvidia/pytorch:24.01"),
        (f"registry.example/a@{SHA}", f"registry.example#a:{SHA}"),
        (f"registry.example/a:1@{SHA}", f"registry.example#a:{SHA}"),
        ("/images/a b.sqsh", None),
        ("/images/a.sqsh", "/images/a.sqsh"),
        ("./a.sqsh", None),
        ("oci://a/b", None),
        ("user@registry.example#a", None),
        ("Registry.example/A", None),
        ("a b", None),
        ("a:", None),
        ("a@sha256:12", None),
        ("", None),
        ("-a", None),
        ("a\nb", None),
        ("$(id)", None),
    ],
)
def test_images_are_named_as_enroot_reads_them(text, image):
    if image is None:
        with pytest.raises(containers.NoImage):
            containers.image_of(text)
    else:
        assert containers.image_of(text) == image


def last_line(job):
    return job.script.splitlines()[-1]


def test_a_command_in_an_image_is_an_srun_that_fails_where_pyxis_is_missing():
    wanted = spec(
        image="registry.example/train:1.4",
        command=("python", "-c", "a b"),
        environment={"A": "1"},
        secrets={"TOKEN": SecretRef(name="w", key="k")},
        working_directory="/work",
        volumes=(Volume(source="/scratch/d", mount_path="/data", read_only=True),),
        inputs=(
            Input(name="a", uri="/data/x"),
            Input(name="b", uri="file:///models/m"),
            Input(name="c", uri="s3://b/k"),
        ),
        outputs=(Output(name="m", path="model"),),
        placement=Placement(slurm={"container_writable": False}),
    )

    line = last_line(sent(wanted, containers="pyxis"))

    out = f"{HOME}/{MARKER}"
    assert line.startswith("exec srun --nodes=1 --ntasks=1 ")
    assert line.endswith(" -- python -c 'a b'")
    for part in (
        "'--container-image=registry.example#train:1.4'",
        f"--container-mounts=/scratch/d:/data:ro,{out}:{out},/models/m:/models/m:ro",
        "--container-workdir=/work",
        "--no-container-mount-home",
        "--no-container-entrypoint",
        "--container-readonly",
        "--container-env=A,BROKER_ATTEMPT,BROKER_INPUT_A,BROKER_INPUT_B,BROKER_INPUT_C,BROKER_JOB_ID,"
        "BROKER_NODES,BROKER_NODE_RANK,BROKER_OUTPUT_DIR,BROKER_TASK_INDEX,TOKEN",
    ):
        assert part in line.split(" ")


def test_a_script_in_an_image_is_mounted_and_run_by_its_own_interpreter():
    wanted = spec(image="python:3.12", script="#!/usr/bin/env python3\nprint(1)\n", arguments=("x",))

    line = last_line(sent(wanted, containers="pyxis"))

    path = f"{HOME}/.{MARKER}.script"
    assert f"{path}:{path}:ro" in line
    assert line.endswith(f" -- /usr/bin/env python3 {path} x")


@pytest.mark.parametrize(
    "changes", [{"resources": Resources(nodes=2)}, {"command": ("a", ":", "b")}], ids=["nodes", "a colon"]
)
def test_what_srun_would_not_hand_on_as_it_is_goes_into_a_step_of_its_own(changes):
    """Processes have to learn their rank, and a lone colon parts two commands for srun."""
    job = sent(spec(image="python:3.12", **changes), containers="pyxis")

    path = f"{HOME}/.{MARKER}.step"
    assert f"{path}:{path}:ro" in last_line(job)
    assert last_line(job).endswith(f" -- /bin/sh {path}")
    assert 'export BROKER_NODE_RANK="$SLURM_NODEID"' in job.script


def test_what_is_sent_does_not_show_its_secrets_where_it_is_printed():
    job = render.with_secrets(sent(), {"TOKEN": "hunter2"})

    assert job.environment["TOKEN"] == "hunter2"
    assert "hunter2" not in repr(job)
