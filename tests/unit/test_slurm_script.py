"""The batch script in real bash: the guard, what a job finds, and how it ends."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from adapters.slurm import environment
from adapters.slurm.script import NOT_STARTED, SECOND_COPY, interpreter
from api_spec.jobs import Array, Input, Resources
from tests.builders import spec
from tests.helpers import wait_until
from tests.slurm_kit import MARKER, options, ref, run, sent, start

SHOW = ("/usr/bin/env", "-0")


@pytest.fixture
def place(tmp_path):
    return str(tmp_path)


def shown(ran):
    """The environment that ``env -0`` has printed."""
    return dict(part.split("=", 1) for part in ran.stdout.decode().split("\0") if part)


def writes(place, **changes):
    """A job that adds a line to a file, so that its runs can be counted."""
    return sent(spec(command=("/bin/sh", "-c", f"echo x >>{place}/runs"), **changes), directory=place)


def runs(place):
    path = Path(place, "runs")
    return len(path.read_text().splitlines()) if path.exists() else 0


# ---- the guard ---------------------------------------------------------------------------------------


def test_of_two_jobs_with_one_marker_the_second_ends_at_once_and_says_nothing(place):
    """Its log is the first one's."""
    job = writes(place)

    first, second = run(job, "12"), run(job, "13")

    assert (first.code, second.code) == (0, SECOND_COPY)
    assert (second.stdout, second.stderr) == (b"", b"")
    assert runs(place) == 1


def test_a_requeued_job_comes_back_with_its_id_and_goes_on(place):
    job = writes(place)

    assert [run(job, "12").code, run(job, "12").code, run(job, "13").code] == [0, 0, SECOND_COPY]
    assert runs(place) == 2


def test_of_many_jobs_that_start_at_once_one_runs(place):
    job = writes(place)

    racing = [start(job, str(number)) for number in range(100, 116)]
    codes = sorted(one.wait(60) for one in racing)
    for one in racing:
        one.communicate()

    assert codes == [0] + [SECOND_COPY] * 15
    assert runs(place) == 1


def test_a_directory_that_is_called_like_the_first_job_does_not_let_the_second_run(place):
    """ln follows a link that names a directory, and makes another link within it."""
    job = writes(place)
    Path(place, "12").mkdir()

    assert [run(job, "12").code, run(job, "13").code] == [0, SECOND_COPY]
    assert runs(place) == 1


@pytest.mark.parametrize("below", ["missing", "file/within"])
def test_where_it_cannot_be_claimed_it_does_not_start(place, below):
    Path(place, "file").write_text("")
    job = sent(spec(command=("/bin/sh", "-c", f"echo x >>{place}/runs")), directory=f"{place}/{below}")

    ran = run(job)

    assert ran.code == NOT_STARTED
    assert b"cannot be claimed" in ran.stderr
    assert runs(place) == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_is_not_writable_does_not_let_it_start(place):
    job = writes(place)
    os.chmod(place, 0o500)

    ran = run(job)

    os.chmod(place, 0o700)
    assert ran.code == NOT_STARTED


def test_without_the_id_of_a_job_nothing_starts(place):
    """Somebody runs the script by hand."""
    job = writes(place)

    assert run(job, "").code == NOT_STARTED
    assert runs(place) == 0


def test_tasks_of_an_array_are_claimed_one_by_one(place):
    job = writes(place, array=Array(indices="0-1"))

    codes = [
        run(job, "12", SLURM_ARRAY_TASK_ID="0").code,
        run(job, "13", SLURM_ARRAY_TASK_ID="1").code,
        run(job, "14", SLURM_ARRAY_TASK_ID="1").code,
    ]

    assert codes == [0, 0, SECOND_COPY]
    assert sorted(path.name for path in Path(place).glob(".*claim")) == [
        f".{MARKER}_0.claim",
        f".{MARKER}_1.claim",
    ]


def test_an_operator_can_do_without_the_guard(place):
    job = sent(directory=place, guard=False)

    assert [run(job, "12").code, run(job, "13").code] == [0, 0]


def test_the_path_of_the_job_is_not_that_of_the_guard(place):
    job = sent(spec(command=("/bin/true",), environment={"PATH": "/nowhere"}), directory=place)

    assert [run(job, "12").code, run(job, "13").code] == [0, SECOND_COPY]


def test_nothing_of_the_user_runs_before_the_guard(place):
    """bash would read BASH_ENV first, and take functions from variables."""
    Path(place, "env.sh").write_text(f"echo x >>{place}/runs\n")
    job = sent(spec(environment={"BASH_ENV": f"{place}/env.sh"}), directory=place)
    run(job, "12")

    assert run(job, "13").code == SECOND_COPY
    assert runs(place) == 0


# ---- what a job finds --------------------------------------------------------------------------------


def test_a_job_finds_its_environment(place):
    wanted = spec(
        command=SHOW,
        environment={"A": "b c\n'$(id)'", "PATH": "/opt/bin"},
        inputs=(Input(name="model-a", uri="file:///data/m"), Input(name="far", uri="s3://b/k")),
    )

    found = shown(run(sent(wanted, directory=place, environment={"SITE": "/u/{user}"})))

    assert found["A"] == "b c\n'$(id)'"
    assert found["PATH"] == "/opt/bin"
    assert found["SITE"] == "/u/ana"
    assert (found["USER"], found["LOGNAME"]) == ("ana", "ana")
    assert found["BROKER_JOB_ID"] == "01J0000000000000000000000A"
    assert (found["BROKER_ATTEMPT"], found["BROKER_NODES"], found["BROKER_NODE_RANK"]) == ("2", "1", "0")
    assert found["BROKER_TASK_INDEX"] == "0"
    assert found["BROKER_OUTPUT_DIR"] == found["PWD"] == f"{place}/{MARKER}"
    assert (found["BROKER_INPUT_MODEL_A"], found["BROKER_INPUT_FAR"]) == ("/data/m", "s3://b/k")
    assert found["HOME"] == pwd.getpwuid(os.getuid()).pw_dir
    assert not [name for name in found if name.startswith("BROKER_CLAIM")]


def test_the_home_that_a_job_or_the_operator_names_is_kept(place):
    own = shown(run(sent(spec(command=SHOW, environment={"HOME": ""}), directory=place)))
    site = shown(run(sent(spec(command=SHOW), directory=place, environment={"HOME": "/h/{user}"})))

    assert (own["HOME"], site["HOME"]) == ("", "/h/ana")


def test_a_task_finds_its_index_its_parameters_and_its_own_directory(place):
    wanted = spec(command=SHOW, array=Array(parameters=({"lr": 0.1}, {"lr": "a'b\nc", "on": True}, {})))
    job = sent(wanted, ref(task_indices=(1, 2)), directory=place)

    found = shown(run(job, SLURM_ARRAY_TASK_ID="1"))
    other = run(job, SLURM_ARRAY_TASK_ID="0")

    assert found["BROKER_TASK_INDEX"] == "1"
    assert (found["BROKER_PARAM_LR"], found["BROKER_PARAM_ON"]) == ("a'b\nc", "true")
    assert found["BROKER_OUTPUT_DIR"] == found["PWD"] == f"{place}/{MARKER}/1"
    assert shown(run(job, SLURM_ARRAY_TASK_ID="2"))["BROKER_TASK_INDEX"] == "2"
    assert other.code == NOT_STARTED


def test_a_job_starts_in_its_working_directory_or_not_at_all(place):
    Path(place, "work 'x").mkdir()
    here = sent(spec(command=("/bin/pwd",), working_directory=f"{place}/work 'x"), directory=place)
    gone = sent(spec(command=("/bin/pwd",), working_directory=f"{place}/gone"), directory=place)

    assert run(here).stdout.decode().strip() == f"{place}/work 'x"
    assert run(gone).code == NOT_STARTED
    assert b"working directory" in run(gone).stderr


def test_the_names_that_bash_sets_itself_are_all_known(place):
    """A value under one of these would not arrive; ``refusals`` tells so."""
    command = ["/bin/bash", "-pc", "compgen -v"]
    listed = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    names = {
        *listed.stdout.split(),
        *environment.OF_THE_SHELL,
        "LANG",
        "TERM",
        "TMPDIR",
        "ENV",
        "BASH_COMPAT",
    }
    given = {name: "5" for name in names if name not in ("PATH", "HOME", "BASH_ENV")}
    job = sent(spec(command=SHOW), directory=place)

    found = shown(run(job, **{k: v for k, v in given.items() if not k.startswith(("SLURM_", "BROKER_"))}))

    changed = {name for name in given if found.get(name) != "5"}
    assert changed <= environment.OF_THE_SHELL


# ---- scripts and steps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, found",
    [
        ("#!/bin/bash\n", ["/bin/bash"]),
        ("#!/usr/bin/env python3\nx", ["/usr/bin/env", "python3"]),
        ("#! /bin/bash -l -x \n", ["/bin/bash", "-l -x"]),
        ("#!/bin/bash", ["/bin/bash"]),
        ("#!\n", [""]),
        ("echo\n", ["/bin/sh"]),
    ],
)
def test_the_first_line_of_a_script_is_read_as_the_kernel_reads_it(text, found):
    assert interpreter(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/env python3\nimport sys\nprint(open(__file__).read(), end='')\nsys.exit(len(sys.argv))\n",
        '#!/bin/bash\n#SBATCH --mem=1\ncat -- "$0"\nexit $(($# + 1))\n',
        f'#!/bin/sh\ncat -- "$0"; exit 3\nSCRIPT-OF-{MARKER}\n$(exit 9) `\'"\\\n\t\\\n',
        '#!/bin/sh\ncat -- "$0"; exit 3\n\n\n',
    ],
    ids=["python", "bash", "with our own end in it", "empty lines at the end"],
)
def test_a_script_is_run_as_it_is_by_the_program_that_it_names(place, text):
    job = sent(spec(script=text, arguments=("a b", "c")), directory=place)

    ran = run(job)

    assert ran.stdout.decode() == text
    assert (ran.code, ran.stderr) == (3, b"")


def test_tasks_that_write_the_script_at_once_all_run_it(place):
    text = "#!/bin/sh\n" + "# padding\n" * 20000 + "exit 7\n"
    job = sent(spec(script=text, array=Array(indices="0-7")), directory=place)

    racing = [start(job, str(100 + index), SLURM_ARRAY_TASK_ID=str(index)) for index in range(8)]
    codes = {one.wait(60) for one in racing}
    for one in racing:
        one.communicate()

    assert codes == {7}
    assert not list(Path(place).glob(".*.script.*"))


def test_a_signal_reaches_the_job_itself_and_its_end_is_the_jobs_own(place):
    running = start(sent(spec(command=("/bin/sleep", "60")), directory=place))
    wait_until(lambda: Path(f"/proc/{running.pid}/comm").read_text() == "sleep\n")

    running.send_signal(signal.SIGUSR1)

    running.communicate(timeout=60)
    assert running.returncode == -signal.SIGUSR1


@pytest.fixture
def srun(tmp_path):
    """A stand-in that runs the command for each of two nodes, and writes down how it was called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    path = tools / "srun"
    path.write_text(
        '#!/bin/bash\nprintf "%s\\0" "$@" >"$0.called"\nwhile [ "$1" != -- ]; do shift; done; shift\n'
        'SLURM_NODEID=0 "$@" && SLURM_NODEID=1 "$@"\n'
    )
    path.chmod(0o755)
    return path


def called(srun):
    words = Path(f"{srun}.called").read_text().split("\0")[:-1]
    return words[: words.index("--")], words[words.index("--") + 1 :]


def test_a_command_for_several_processes_is_a_step_whose_processes_know_their_node(place, srun):
    command = ("/usr/bin/printf", "%s:$BROKER_NODE_RANK\n", ":", "a b")
    show = ("/bin/sh", "-c", 'printf "%s\\n" "$BROKER_NODE_RANK" "$@"', "sh", *command)
    wanted = spec(command=show, resources=Resources(nodes=2, tasks_per_node=4, cpus_per_task=3))
    job = sent(wanted, directory=place, environment={"PATH": f"{srun.parent}:/usr/bin:/bin"})

    ran = run(job)

    options, rest = called(srun)
    assert options == [
        "--nodes=2",
        "--ntasks=8",
        "--ntasks-per-node=4",
        "--kill-on-bad-exit=1",
        "--cpus-per-task=3",
    ]
    assert rest == ["/bin/bash", f"{place}/.{MARKER}.step"]
    words = "\n".join(command)
    assert ran.stdout.decode() == f"0\n{words}\n1\n{words}\n"


def test_a_script_for_several_nodes_runs_once_as_sbatch_has_it(place):
    job = sent(spec(script="#!/bin/sh\necho $BROKER_NODES\n", resources=Resources(nodes=2)), directory=place)

    assert run(job).stdout == b"2\n"
    assert "srun" not in job.script


def test_the_tools_of_the_guard_cost_a_job_no_more_than_a_few_lines(place):
    """What ``broker render`` shows is to be read by people."""
    assert len(sent(directory=place).script.splitlines()) < 20
    assert options().guard
