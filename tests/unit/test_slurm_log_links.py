"""Where a user wants to find the logs: a link, made by the real script in real bash."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.slurm import native
from adapters.slurm.log_links import fault_of
from adapters.slurm.script import NOT_STARTED, SECOND_COPY
from api_spec.jobs import Array, Placement
from api_spec.reasons import Reason
from tests.builders import spec
from tests.slurm_kit import MARKER, options, run, sent

SAYS = ("/bin/sh", "-c", "echo out; echo err >&2; echo again")
HERE = {"SLURM_JOB_USER": "ana", "SLURMD_NODENAME": "n1"}


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "logs").mkdir()
    return tmp_path / "work"


def asks(work, array=None, **wanted):
    """A job that is submitted from ``work``, whose logs lie in ``logs`` beside it."""
    job = spec(
        name="train",
        command=SAYS,
        working_directory=str(work),
        array=array,
        placement=Placement(slurm=wanted),
    )
    return sent(job, directory=str(work.parent / "logs"))


def log(work, ending, task=""):
    return str(work.parent / "logs" / f"{MARKER}{task}.{ending}")


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("train.out", "train.out"),
        ("%x-%j.out", "train-12.out"),
        ("%x.%u@%N.%n%t", "train.ana@n1.00"),
        ("%5j.%J-100%%", "00012.12-100%"),
        ("%A_%0j", "12_12"),
    ],
)
def test_the_log_is_found_under_the_name_that_sbatch_would_give_it(work, wanted, name):
    assert run(asks(work, output=wanted), **HERE).code == 0

    assert [path.name for path in work.iterdir()] == [name]
    assert str((work / name).readlink()) == log(work, "out")


def test_a_whole_path_is_taken_as_it_is_and_one_before_it_goes(work, tmp_path):
    """As sbatch empties a file that is there; a link of an earlier attempt leads to the new log."""
    (tmp_path / "all.out").write_text("of yesterday")
    job = asks(work, output=str(tmp_path / "all.out"))

    assert [run(job).code, run(job).code] == [0, 0]

    assert str((tmp_path / "all.out").readlink()) == log(work, "out")


def test_of_an_array_each_task_has_its_own(work):
    job = asks(work, Array(indices="0-1"), output="%A_%3a.out")

    for task in "01":
        assert run(job, "13", SLURM_ARRAY_JOB_ID="12", SLURM_ARRAY_TASK_ID=task).code == 0

    found = {path.name: str(path.readlink()) for path in work.iterdir()}
    assert found == {f"12_00{task}.out": log(work, "out", f"_{task}") for task in "01"}


@pytest.mark.parametrize(
    ("wanted", "stdout", "stderr", "links"),
    [
        ({"output": "o"}, b"out\nerr\nagain\n", b"", {"o": "out"}),
        ({"output": "o", "error": "o"}, b"out\nerr\nagain\n", b"", {"o": "out"}),
        ({"output": "o", "error": "e"}, b"out\nagain\n", b"err\n", {"o": "out", "e": "err"}),
        ({"error": "e"}, b"out\nagain\n", b"err\n", {"e": "err"}),
        ({"output": "o", "error": "/dev/null"}, b"out\nagain\n", b"err\n", {"o": "out"}),
        ({}, b"out\nagain\n", b"err\n", {}),
    ],
    ids=["output", "the same", "both", "error", "one is not wanted", "none"],
)
def test_the_streams_are_one_where_sbatch_makes_them_one(work, wanted, stdout, stderr, links):
    ran = run(asks(work, **wanted))

    assert (ran.stdout, ran.stderr) == (stdout, stderr)
    assert {path.name: str(path.readlink()) for path in work.iterdir()} == {
        name: log(work, ending) for name, ending in links.items()
    }


def test_where_the_link_cannot_be_made_nothing_starts_and_says_why(work):
    ran = run(asks(work, output="missing/%j.out"))

    assert (ran.code, ran.stdout) == (NOT_STARTED, b"")
    assert b"the link to its log" in ran.stderr


def test_a_directory_of_that_name_stays_as_it_is(work):
    (work / "o").mkdir()

    assert run(asks(work, output="o")).code == NOT_STARTED
    assert list((work / "o").iterdir()) == []


def test_a_second_copy_makes_no_link(work):
    job = asks(work, output="%j.out")

    assert [run(job, "12").code, run(job, "13").code] == [0, SECOND_COPY]
    assert [path.name for path in work.iterdir()] == ["12.out"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-o",
        "a b",
        "a\nb",
        "logs/",
        "a\\%j",
        "$(id)",
        "/dev/sda",
        "/proc/1/mem",
        "%q",
        "%",
        "%3x",
        "%123j",
        7,
    ],
)
def test_what_is_no_name_of_a_file_is_refused(value):
    assert native.fault_of("output", value)


@pytest.mark.parametrize(
    ("changes", "value", "message"),
    [
        ({}, "%A_%a.out", "and this is none"),
        ({"array": Array(indices="0-1")}, "all.out", "each task of an array has a log of its own"),
        ({"array": Array(indices="0-1")}, "%A.out", "each task of an array has a log of its own"),
        ({"image": "python:3.12"}, "%j.out", "needs a whole path"),
        ({"array": Array(indices="0-1")}, "%a.out", None),
        ({"array": Array(indices="0-1")}, "/dev/null", None),
        ({"image": "python:3.12"}, "/logs/%j.out", None),
    ],
)
def test_a_name_has_to_fit_the_job(changes, value, message):
    job = spec(placement=Placement(slurm={"output": value}), **changes)
    found = list(native.refusals(job, options(), "hpc"))

    assert [one.code for one in found] == ([Reason.INVALID_SPEC] if message else [])
    assert (message or "") in (fault_of(job, value) or "")


def test_nothing_is_linked_to_a_device(work):
    assert run(asks(work, output="/dev/null", error="/dev/null")).code == 0
    assert Path("/dev/null").is_char_device()
