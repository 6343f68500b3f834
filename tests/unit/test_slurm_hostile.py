"""Hostile text in every field of a job: it is refused with its field, or arrives as it is and adds nothing.

The scripts run in real bash; what a job was given is compared byte by byte.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import carried
from adapters.errors import Rejected
from adapters.job_environment import local_path_or_uri
from adapters.slurm import native
from adapters.slurm.refusals import refusals
from api_spec.jobs import Array, Input, Output, Placement, Resources, SecretRef, Volume
from broker.cli.sbatch import directives
from tests.builders import spec
from tests.hostile import HOSTILE
from tests.slurm_kit import MARKER, options, ref, run, sent

PRINTS = ("/usr/bin/printf", r"%s\0")
SHOWS = ("/usr/bin/env", "-0")
OUTPUT = (Output(name="m", path="m"),)

each = pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))


@pytest.fixture
def place(tmp_path):
    return str(tmp_path)


def told(wanted, field, **changes):
    """Is it refused?  Then for the field that the text stands in."""
    found = refusals(wanted, None, options(**changes), "hpc", "ana")
    assert all((one.field or "").startswith(field) for one in found), found
    return bool(found)


def checked(job):
    """bash can read it, and it holds no directive: sbatch's reading of lines and a stricter one agree."""
    assert subprocess.run(["/bin/bash", "-n"], input=job.script.encode(), check=False).returncode == 0
    assert job.script.startswith(f"#!/bin/bash -p\n# {MARKER}: ")
    assert list(directives(job.script, [])) == []
    return job


def given_to(ran):
    assert (ran.code, ran.stderr) == (0, b"")
    return ran.stdout.decode().split("\0")[:-1]


def variables(ran):
    return dict(pair.split("=", 1) for pair in given_to(ran))


# ---- what reaches the process ------------------------------------------------------------------------


@each
@pytest.mark.parametrize("field", ["command", "arguments"])
def test_an_argument_arrives_as_it_is(place, field, text):
    wanted = spec(
        **{"command": PRINTS, field: (*(PRINTS if field == "command" else ()), "first", text, "last")}
    )
    if told(wanted, f"/{field}/"):
        return

    assert given_to(run(checked(sent(wanted, directory=place)))) == ["first", text, "last"]


@each
def test_an_argument_of_a_step_stands_in_a_file_as_it_is(text):
    wanted = spec(command=(*PRINTS, text), resources=Resources(nodes=2))
    if told(wanted, "/command/"):
        return

    body = checked(sent(wanted)).script.split(f"<<'STEP-OF-{MARKER}", 1)[1].split("\n", 1)[1]
    line = body.removeprefix('export BROKER_NODE_RANK="$SLURM_NODEID"\nexec ')

    assert line.startswith(f"{shlex.join([*PRINTS, text])}\n")


@each
def test_a_value_of_the_environment_arrives_as_it_is(place, text):
    wanted = spec(command=SHOWS, environment={"A": text})
    if told(wanted, "/environment/A"):
        return

    assert variables(run(checked(sent(wanted, directory=place))))["A"] == text


@each
@pytest.mark.parametrize("field", ["environment", "secrets"])
def test_a_name_of_the_environment_is_a_name_or_refused(field, text):
    value = "x" if field == "environment" else SecretRef(name="a", key="b")
    known = {"environment": {}, "secrets": {"secrets_directory": "/etc/s"}}[field]

    assert told(spec(**{field: {text: value}}), f"/{field}/", **known)


@each
def test_a_parameter_of_a_task_arrives_as_it_is(place, text):
    wanted = spec(command=SHOWS, array=Array(parameters=({"a": text},)))
    if told(wanted, "/array/parameters/0/a"):
        return

    found = variables(run(checked(sent(wanted, directory=place)), SLURM_ARRAY_TASK_ID="0"))

    assert found["BROKER_PARAM_A"] == text


@each
def test_a_name_of_a_parameter_or_an_input_becomes_letters_and_underscores(place, text):
    wanted = spec(
        command=SHOWS,
        array=Array(parameters=({text: "x"},)),
        inputs=(Input(name=text, uri="s3://b/k"),),
    )
    if told(wanted, "/"):
        return

    found = variables(run(checked(sent(wanted, directory=place)), SLURM_ARRAY_TASK_ID="0"))

    assert {"x", "s3://b/k"} <= {v for name, v in found.items() if name.startswith("BROKER_")}


@each
@pytest.mark.parametrize("before", ["", "file:///", "/data/"])
def test_an_address_of_an_input_arrives_as_it_is(place, before, text):
    wanted = spec(command=SHOWS, inputs=(Input(name="a", uri=before + text),))
    if told(wanted, "/inputs/0/uri"):
        return

    found = variables(run(checked(sent(wanted, directory=place))))

    assert found["BROKER_INPUT_A"] == local_path_or_uri(before + text)


@each
def test_a_script_is_run_as_it_is(place, text):
    wanted = spec(script=f'#!/bin/sh\ncat -- "$0"; exit 0\n{text}\n')
    if told(wanted, "/script"):
        return

    ran = run(checked(sent(wanted, directory=place)))

    assert (ran.code, ran.stdout, ran.stderr) == (0, wanted.script.encode(), b"")


@each
def test_the_first_line_of_a_script_names_one_program(place, text):
    """It is not found, or what it names is what the kernel would have started."""
    wanted = spec(script=f"#!{text}\n#SBATCH --uid=0\nexit 9\n")
    if not told(wanted, "/script"):
        checked(sent(wanted, directory=place))


@each
def test_a_working_directory_is_entered_as_it_is_called(place, text):
    path = Path(place) / "entered" / text.replace("/", "_")
    wanted = spec(command=(*PRINTS, "here"), working_directory=str(path))
    if not text or told(wanted, "/working_directory") or len(path.name) > 255:
        return
    path.mkdir(parents=True, exist_ok=True)
    (path / "mark").touch()
    wanted = replace(wanted, command=("/bin/sh", "-c", "printf '%s\\0' *"))

    assert given_to(run(checked(sent(wanted, directory=place)))) == ["mark"]


# ---- what Slurm and its plug-ins read ----------------------------------------------------------------


@each
@pytest.mark.parametrize("name", sorted(native.OPTIONS))
def test_a_native_option_takes_no_text_that_means_something_else(name, text):
    wanted = spec(placement=Placement(slurm={name: text}))

    assert told(wanted, f"/placement/slurm/{name}")


@each
def test_an_unknown_native_option_is_refused_under_its_name(text):
    assert told(spec(placement=Placement(options={"hpc": {text: 1}})), "/placement/options/hpc/")


@each
@pytest.mark.parametrize(
    "field, changes",
    [
        ("/image", lambda text: {"image": text}),
        ("/volumes/0/source", lambda text: {"volumes": (Volume(source=f"/{text}", mount_path="/a"),)}),
        ("/volumes/0/mount_path", lambda text: {"volumes": (Volume(source="/a", mount_path=f"/{text}"),)}),
        ("/inputs/0/uri", lambda text: {"inputs": (Input(name="a", uri=f"/data/{text}"),)}),
        ("/working_directory", lambda text: {"working_directory": f"/{text}"}),
        ("/outputs/0/path", lambda text: {"outputs": (Output(name="a", path=text),)}),
    ],
    ids=["image", "source", "mount path", "input", "working directory", "output"],
)
def test_pyxis_gets_the_words_that_were_meant(field, changes, text):
    wanted = replace(spec(image="python:3.12", outputs=OUTPUT), **changes(text))
    if told(wanted, field, containers="pyxis"):
        return

    job = checked(sent(wanted, containers="pyxis"))
    words = shlex.split(job.script[job.script.index("exec srun") :])
    by_name = dict(word.split("=", 1) for word in words if word.startswith("--container-") and "=" in word)

    assert words[-2:] == ["--", "true"]
    assert by_name.get("--container-workdir") == wanted.working_directory
    mounts = [mount.split(":") for mount in by_name["--container-mounts"].split(",")]
    assert all(len(parts) in (2, 3) and parts[2:] in ([], ["ro"]) for parts in mounts)
    assert len(mounts) == 1 + len(wanted.volumes) + sum((one.uri or "")[:1] == "/" for one in wanted.inputs)


@each
@pytest.mark.parametrize("field", ["name", "owner", "kind", "digest"])
def test_what_the_comment_carries_is_read_back(field, text):
    attempt = ref(**{field: text})
    try:
        job = sent(attempt=attempt, users={"service": "broker"})
    except Rejected:
        assert len(text) == 65536
        return

    found = carried.read(MARKER, checked(job).comment)

    assert job.comment.isascii()
    assert not set(job.comment) & set("\n\0")
    assert getattr(found, field) == text or (field == "name" and len(text) == 65536)


@each
def test_a_project_is_one_step_of_a_path_or_refused(text):
    for project in (text, f"../{text}"):
        try:
            job = sent(attempt=ref(project=project), directory="/scratch/{project}/x")
        except Rejected:
            continue
        assert job.directory == f"/scratch/{project}/x"
        assert project.isascii() and not set(project) & set("/%\\\n ")


@each
def test_labels_and_the_jobs_own_name_stand_nowhere_in_the_script(text):
    wanted = spec(name=text, labels={text: text})

    assert checked(sent(wanted)).script == sent().script


# ---- any text ----------------------------------------------------------------------------------------

anything = st.text(max_size=200)
few = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(st.lists(anything, max_size=4), anything, anything)
def test_whatever_a_job_says_arrives(tmp_path, words, value, parameter):
    wanted = spec(
        command=("/bin/sh", "-c", r'printf "%s\0" "$A" "$BROKER_PARAM_P" "$@"', "sh"),
        arguments=tuple(words),
        environment={"A": value},
        array=Array(parameters=({"p": parameter},)),
    )
    if told(wanted, "/"):
        return

    ran = run(checked(sent(wanted, directory=str(tmp_path))), SLURM_ARRAY_TASK_ID="0")

    assert given_to(ran) == [value, parameter, *words]


@few
@given(anything)
def test_whatever_stands_in_a_script_stands_in_its_file(tmp_path, text):
    wanted = spec(script=f"#!/bin/cat\n{text}\n")
    if told(wanted, "/script"):
        return

    ran = run(checked(sent(wanted, directory=str(tmp_path))))

    assert ran.stdout == wanted.script.encode()
