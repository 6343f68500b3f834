"""Jobs as real processes of this machine: how they start, what they find, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.base import LogQuery
from adapters.errors import Rejected
from adapters.local import processes
from api_spec.jobs import Array, Input, Output, Placement, Priority, Resources, SecretRef, Volume
from api_spec.reasons import Reason
from api_spec.schemas import load_spec
from api_spec.states import AttemptState, JobState
from broker.cli.files import read_specs
from tests.helpers import wait_until
from tests.integration.local_bench import PATIENCE_S, LocalBench

pytestmark = pytest.mark.process


@pytest.fixture
def local(tmp_path):
    with LocalBench(tmp_path / "data") as bench:
        yield bench


def has_died(pid):
    return processes.born(pid) is None


def pid_in(path):
    """The number that a job writes there; as a whole, since it may be read in the middle of the write."""
    text = wait_until(lambda: path.exists() and path.read_text(), PATIENCE_S, f"{path} is written")
    assert text.endswith("\n")
    return int(text)


# ---- how a job ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, outcome, reason, exit_code, number",
    [
        pytest.param("exit 0", JobState.COMPLETED, Reason.COMPLETED, 0, None, id="exit 0"),
        pytest.param("exit 7", JobState.FAILED, Reason.NON_ZERO_EXIT, 7, None, id="exit 7"),
        pytest.param("kill -9 $$", JobState.FAILED, Reason.SIGNALLED, None, signal.SIGKILL, id="SIGKILL"),
        pytest.param("kill -11 $$", JobState.FAILED, Reason.SIGNALLED, None, signal.SIGSEGV, id="SIGSEGV"),
    ],
)
def test_exit_code_and_signal_are_told(local, text, outcome, reason, exit_code, number):
    seen = local.ended(local.shell(text))

    assert (seen.outcome, seen.reason, seen.exit_code, seen.signal) == (outcome, reason, exit_code, number)
    assert seen.started_at <= seen.ended_at


@pytest.mark.parametrize(
    "command, changes, sentence",
    [
        pytest.param(("no-such-program",), {}, "no-such-program", id="no such program"),
        pytest.param(("true",), {"working_directory": "/no/such"}, "/no/such", id="no such directory"),
        pytest.param(("/dev/null",), {}, "Permission denied", id="not executable"),
    ],
)
def test_what_cannot_start_says_why(local, command, changes, sentence):
    seen = local.ended(local.submit(*command, **changes))

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.LAUNCH_FAILED)
    assert sentence in seen.message


def test_a_job_over_its_time_limit_gets_a_warning_and_then_ends(local):
    ref = local.shell('trap "echo warned" TERM; while true; do sleep 0.05; done', time_limit_s=1)

    seen = local.ended(ref)

    assert (seen.outcome, seen.reason, seen.signal) == (JobState.FAILED, Reason.TIME_LIMIT, signal.SIGKILL)
    assert local.output(ref) == "warned\n"


def test_a_job_that_heeds_the_warning_still_ran_into_its_time_limit(local):
    ref = local.shell("trap 'echo saved; exit 0' TERM; while true; do sleep 0.05; done", time_limit_s=1)

    seen = local.ended(ref)

    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.TIME_LIMIT, 0)
    assert local.output(ref) == "saved\n"


def test_a_job_over_its_memory_is_ended(local):
    """The memory of the whole tree counts: here it is a child that takes it."""
    eater = "import time; x = b'x' * (300 << 20); time.sleep(60)"
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {eater!r}])"

    seen = local.ended(
        local.submit(sys.executable, "-c", program, resources=Resources(memory_per_node_mib=100))
    )

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.OUT_OF_MEMORY)
    assert "100" in seen.message


def test_a_job_within_its_memory_is_left_alone(local):
    program = "import time; x = b'x' * (50 << 20); time.sleep(0.6)"

    seen = local.ended(
        local.submit(sys.executable, "-c", program, resources=Resources(memory_per_node_mib=200))
    )

    assert seen.outcome is JobState.COMPLETED


# ---- cancel ------------------------------------------------------------------------------------------

HIDES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        if sys.argv[2] == "bare":
            text = f"trap '' TERM; echo $$ > {sys.argv[1]}; while true; do /bin/sleep 0.1; done"
            os.execve("/bin/sh", ["sh", "-c", text], {})
        open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


# It ends once the other has said its name: killed before, that one would leave an empty file.
HIDES_AND_ENDS = (
    HIDES.removesuffix("time.sleep(600)\n")
    + """
while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read().endswith("\\n")):
    time.sleep(0.01)
"""
)


@pytest.mark.parametrize("how", ["plain", "bare"])
def test_cancel_ends_grandchildren_in_sessions_of_their_own(local, tmp_path, how):
    """Double fork, setsid, no environment, and deaf to SIGTERM: nothing hides from its adopted parent."""
    ref = local.submit(sys.executable, "-c", HIDES, str(tmp_path / "pid"), how)
    hidden = pid_in(tmp_path / "pid")

    local.adapter.cancel(ref)

    seen = local.ended(ref)
    assert (seen.outcome, seen.reason) == (JobState.CANCELLED, Reason.CANCELLED)
    assert has_died(hidden)


def test_what_a_job_leaves_running_ends_with_it(local, tmp_path):
    ref = local.submit(sys.executable, "-c", HIDES_AND_ENDS, str(tmp_path / "pid"), "plain")
    seen = local.ended(ref)

    assert seen.outcome is JobState.COMPLETED
    hidden = pid_in(tmp_path / "pid")
    wait_until(lambda: has_died(hidden), PATIENCE_S)


def test_a_cancelled_job_may_tidy_up_first(local):
    ref = local.shell("trap 'echo tidied; exit 0' TERM; echo ready; while true; do sleep 0.05; done")
    wait_until(lambda: local.output(ref) == "ready\n", PATIENCE_S)

    local.adapter.cancel(ref)

    assert local.ended(ref).outcome is JobState.CANCELLED
    assert local.output(ref) == "ready\ntidied\n"


def test_a_job_in_the_queue_is_cancelled_without_a_start(local):
    blocker = local.submit("sleep", "600", resources=Resources(cpus_per_task=4))
    local.running(blocker)
    waiting = local.submit("true")

    local.adapter.cancel(waiting)

    assert local.ended(waiting).outcome is JobState.CANCELLED
    assert local.starts(waiting) == 0


def test_a_submission_that_arrives_after_its_cancel_is_refused(local):
    """The broker gave up on an unconfirmed submission; the request was only slow."""
    ref = local.new_ref()
    local.adapter.cancel(ref)

    with pytest.raises(Rejected) as refused:
        local.submit("true", ref=ref)

    assert refused.value.reason is Reason.CANCELLED
    assert local.starts(ref) == 0


# ---- what a job finds --------------------------------------------------------------------------------


def test_the_environment_is_the_contract_and_what_is_passed_and_nothing_else(local, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_BROKER", "x")
    ref = local.submit(
        "env",
        environment={"MINE": "a b"},
        inputs=(Input(name="data-set", uri="file:///tmp/a%20b"), Input(name="far", uri="s3://bucket/x")),
    )
    local.ended(ref)

    found = dict(line.split("=", 1) for line in local.output(ref).splitlines())

    assert found.pop("BROKER_LAUNCH")
    output_dir = found.pop("BROKER_OUTPUT_DIR")
    passed = {name: found.pop(name, None) for name in local.adapter.options.environment_passed}
    assert passed["PATH"]
    assert found == {
        "MINE": "a b",
        "BROKER_JOB_ID": "J1",
        "BROKER_ATTEMPT": "1",
        "BROKER_TASK_INDEX": "0",
        "BROKER_NODES": "1",
        "BROKER_NODE_RANK": "0",
        "BROKER_INPUT_DATA_SET": "/tmp/a b",
        "BROKER_INPUT_FAR": "s3://bucket/x",
    } | ({"PWD": found["PWD"]} if "PWD" in found else {})
    assert Path(output_dir).is_dir()


def test_the_sbatch_example_runs_on_this_machine(local, monkeypatch):
    """As `broker submit examples/train.sbatch` sends it from the project's directory."""
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    (job,) = read_specs(["examples/train.sbatch"])
    ref = local.new_ref()

    ref = replace(ref, handle=local.adapter.submit(ref, load_spec(job.spec)))
    seen = local.ended(ref)

    said = [local.output(ref, task_index=index) for index in (0, 1)]
    assert seen.outcome is JobState.COMPLETED, local.output(ref, stream="stderr")
    assert all("on held-back images" in text for text in said)
    assert len(set(said)) == 2, "each task has a seed of its own"


def test_no_shell_sees_arguments(local):
    ref = local.submit("printf", "%s|", arguments=("$HOME", "; rm -rf /", "a\nb", "'\"`"))

    local.ended(ref)

    assert local.output(ref) == "$HOME|; rm -rf /|a\nb|'\"`|"


@pytest.mark.parametrize(
    "script, expected",
    [
        pytest.param("echo shell $1", "shell a b\n", id="without an interpreter"),
        pytest.param(
            f"#!{sys.executable}\nimport sys\nprint('python', sys.argv[1])", "python a b\n", id="python"
        ),
    ],
)
def test_a_script_is_run_by_its_own_interpreter(local, script, expected):
    ref = local.submit(script=script, arguments=("a b",))

    seen = local.ended(ref)

    assert seen.outcome is JobState.COMPLETED, local.output(ref, stream="stderr")
    assert local.output(ref) == expected


def test_streams_are_apart_and_input_is_empty(local):
    ref = local.shell("cat; echo out; echo err >&2")

    local.ended(ref)

    assert (local.output(ref), local.output(ref, stream="stderr")) == ("out\n", "err\n")


def test_outputs_have_an_address_once_the_job_is_complete_and_outlive_its_records(local):
    ref = local.shell('echo 42 > "$BROKER_OUTPUT_DIR/model"', outputs=(Output(name="model", path="model"),))
    seen = local.ended(ref)

    local.adapter.cleanup(ref)

    path = Path(seen.outputs["model"].removeprefix("file://"))
    assert path.read_text() == "42\n"
    assert not Path(local.data_dir, "attempts", ref.marker).exists()


def test_what_was_cleaned_up_never_starts_again(local):
    ref = local.submit("true")
    local.ended(ref)
    local.adapter.cleanup(ref)
    local.adapter.cleanup(ref)

    with pytest.raises(Rejected):
        local.submit("true", ref=ref)

    assert local.starts(ref) == 1
    assert ref.marker not in local.adapter.observe([ref]).found


def test_a_secret_comes_from_a_private_file_and_stays_out_of_every_other(local):
    folder = Path(local.data_dir, "secrets", "wandb")
    folder.mkdir(parents=True)
    (folder / "token").write_text("s3cr3t\n")
    (folder / "token").chmod(0o600)

    ref = local.shell('test "${#KEY}" = 6', secrets={"KEY": SecretRef(name="wandb", key="token")})
    seen = local.ended(ref)

    assert seen.exit_code == 0
    (folder / "token").unlink()
    holding = [
        path for path in Path(local.data_dir).rglob("*") if path.is_file() and b"s3cr3t" in path.read_bytes()
    ]
    assert holding == []


@pytest.mark.parametrize(
    "prepare, sentence",
    [
        pytest.param(lambda path: None, "is not on this machine", id="missing"),
        pytest.param(
            lambda path: (path.write_text("x"), path.chmod(0o644)), "open to other users", id="too open"
        ),
        pytest.param(lambda path: path.symlink_to("/etc/hostname"), "is not on this machine", id="a link"),
    ],
)
def test_a_secret_that_cannot_be_had_refuses_the_job(local, prepare, sentence):
    folder = Path(local.data_dir, "secrets", "wandb")
    folder.mkdir(parents=True)
    prepare(folder / "token")

    with pytest.raises(Rejected, match=sentence):
        local.submit("true", secrets={"KEY": SecretRef(name="wandb", key="token")})


def test_a_volume_that_is_not_there_refuses_the_job(local):
    with pytest.raises(Rejected, match="not a directory"):
        local.submit("true", volumes=(Volume(source="/no/such", mount_path="/no/such"),))


def test_all_files_are_for_the_user_alone(local):
    ref = local.shell("echo x; touch file; touch $BROKER_OUTPUT_DIR/file")
    local.ended(ref)

    modes = {
        str(path): path.stat().st_mode & 0o077
        for path in [Path(local.data_dir), *Path(local.data_dir).rglob("*")]
        if not path.is_symlink()
    }

    assert {path: mode for path, mode in modes.items() if mode} == {}


# ---- the queue ---------------------------------------------------------------------------------------


def started_in_order(local, refs):
    rows = local.rows("SELECT a.marker FROM starts s JOIN attempts a ON a.seq = s.attempt ORDER BY s.at")
    order = [row["marker"] for row in rows]
    return [order.index(ref.marker) for ref in refs]


def test_the_queue_goes_by_priority_and_then_by_age(local):
    all_of_it = Resources(cpus_per_task=4)
    blocker = local.submit("sleep", "600", resources=all_of_it)
    local.running(blocker)
    first = local.submit("true", resources=all_of_it)
    low = local.submit("true", resources=all_of_it, priority=Priority.LOW)
    second = local.submit("true", resources=all_of_it)
    urgent = local.submit("true", resources=all_of_it, priority=Priority.HIGH)

    local.adapter.cancel(blocker)

    for ref in (first, low, second, urgent):
        local.ended(ref)
    assert started_in_order(local, [urgent, first, second, low]) == [1, 2, 3, 4]


def test_a_large_job_is_not_overtaken_for_ever(local):
    """What does not fit keeps its place, or small ones behind it could starve it."""
    blocker = local.submit("sleep", "600", resources=Resources(cpus_per_task=2))
    local.running(blocker)
    large = local.submit("true", resources=Resources(cpus_per_task=4))
    small = local.submit("true")

    reasons = [one.code for one in local.adapter.explain_pending(large)]
    behind = [one.code for one in local.adapter.explain_pending(small)]
    local.adapter.cancel(blocker)

    assert reasons == [Reason.CAPACITY]
    assert behind == [Reason.PRIORITY]
    local.ended(small)
    assert started_in_order(local, [blocker, large, small]) == [0, 1, 2]


def test_a_held_job_lets_others_pass_until_it_is_released(local):
    all_of_it = Resources(cpus_per_task=4)
    blocker = local.submit("sleep", "600", resources=all_of_it)
    held = local.submit("true", resources=all_of_it)
    local.adapter.hold(held)
    other = local.submit("true", resources=all_of_it)

    local.adapter.cancel(blocker)
    local.ended(other)
    seen = local.look(held)
    why = local.adapter.explain_pending(held)
    local.adapter.release(held)

    assert (seen.state, seen.reason, seen.native_state) == (AttemptState.QUEUED, Reason.HELD, "HELD")
    assert why[0].code is Reason.HELD
    assert local.ended(held).outcome is JobState.COMPLETED


def test_every_gpu_job_gets_gpus_of_its_own(tmp_path):
    with LocalBench(tmp_path / "data", gpus=3, gpu_type="toy") as local:
        say = 'echo "[$CUDA_VISIBLE_DEVICES]"; while test ! -e "$GO"; do sleep 0.02; done'
        go = {"GO": str(tmp_path / "go")}
        pair = local.shell(say, resources=Resources(gpus_per_node=2), environment=go)
        one = local.shell(say, resources=Resources(gpus_per_node=1), environment=go)
        none = local.shell(say, environment=go)
        for ref in (pair, one, none):
            wait_until(lambda ref=ref: local.output(ref), PATIENCE_S)

        load = local.adapter.load()
        (tmp_path / "go").touch()

        assert [local.output(ref) for ref in (pair, one, none)] == ["[0,1]\n", "[2]\n", "[]\n"]
        assert (load.shapes[0].free_gpus, load.shapes[0].free_cpus, load.running_count) == (0, 1, 3)
        for ref in (pair, one, none):
            local.ended(ref)


# ---- arrays ------------------------------------------------------------------------------------------


def test_an_array_runs_its_tasks_and_tells_of_each(local):
    ref = local.shell(
        'echo "task $BROKER_TASK_INDEX"; test $BROKER_TASK_INDEX != 4', array=Array(indices="0-6:2")
    )

    seen = local.ended(ref)

    assert {index: one.outcome for index, one in seen.tasks.items()} == {
        0: JobState.COMPLETED, 2: JobState.COMPLETED, 4: JobState.FAILED, 6: JobState.COMPLETED
    }  # fmt: skip
    assert (seen.outcome, seen.reason, seen.exit_code) == (JobState.FAILED, Reason.NON_ZERO_EXIT, 1)
    assert "1 of 4 tasks failed" in seen.message
    assert local.output(ref, task_index=6) == "task 6\n"


def test_an_attempt_runs_the_tasks_that_it_names(local):
    """A retry runs the failed ones only."""
    ref = local.submit("true", ref=local.new_ref(task_indices=(3, 7)), array=Array(indices="0-9"))

    assert list(local.ended(ref).tasks) == [3, 7]


def test_each_set_of_parameters_is_a_task(local):
    array = Array(parameters=({"lr": 0.1, "fast": True}, {"lr": 0.01, "fast": False}))
    ref = local.shell('echo "$BROKER_PARAM_LR $BROKER_PARAM_FAST"', array=array)

    local.ended(ref)

    assert [local.output(ref, task_index=index) for index in (0, 1)] == ["0.1 true\n", "0.01 false\n"]


def test_tasks_that_are_cancelled_while_they_wait_are_passed_over(local):
    text = "test $BROKER_TASK_INDEX != 0 || exec sleep 600"
    ref = local.shell(text, array=Array(indices="0-9", max_running=1))
    local.until(ref, lambda seen: seen.tasks[0].state is AttemptState.RUNNING)
    assert local.adapter.load().queued_count == 9

    local.adapter.cancel_tasks(ref, (1, 2, 4, 5, 7, 8, 9))
    assert local.adapter.load().queued_count == 2
    local.adapter.cancel_tasks(ref, (0,))

    end = local.ended(ref)
    completed = [index for index, one in end.tasks.items() if one.outcome is JobState.COMPLETED]
    assert (end.outcome, completed) == (JobState.CANCELLED, [3, 6])
    assert local.starts(ref) == 3


def test_an_array_runs_no_more_at_once_than_it_allows(local, tmp_path):
    text = f"mkdir {tmp_path}/alone || exit 9; sleep 0.05; rmdir {tmp_path}/alone"
    ref = local.shell(text, array=Array(indices="0-4", max_running=1))
    other = local.submit("true")

    assert local.ended(ref).outcome is JobState.COMPLETED
    assert local.ended(other).outcome is JobState.COMPLETED
    assert started_in_order(local, [other]) < [5]  # it did not wait for the array


def test_ten_thousand_tasks_are_one_row_until_they_start(local):
    blocker = local.submit("sleep", "600", resources=Resources(cpus_per_task=4))
    local.running(blocker)

    ref = local.submit("true", array=Array(indices="0-9999"))

    assert len(local.look(ref).tasks) == 10_000
    assert local.adapter.load().queued_count == 10_000
    assert len(local.rows("SELECT 1 FROM tasks")) == 1
    local.adapter.cancel(ref)
    assert {one.outcome for one in local.ended(ref).tasks.values()} == {JobState.CANCELLED}


def test_the_log_of_what_has_not_started_says_so(local):
    blocker = local.submit("sleep", "600", resources=Resources(cpus_per_task=4))
    waiting = local.submit("true")

    page = local.adapter.logs(waiting, LogQuery())

    assert (page.data, page.at_end, page.complete, page.note) == (b"", True, False, "it has not started yet")
    local.adapter.cancel(blocker)


def test_a_job_may_ask_for_its_own_grace(local):
    placement = Placement(local={"grace_s": 600})
    ref = local.shell(
        "trap 'sleep 1; echo late; exit 0' TERM; echo up; while true; do sleep 0.05; done",
        placement=placement,
    )
    wait_until(lambda: local.output(ref), PATIENCE_S)

    local.adapter.cancel(ref)

    local.ended(ref)
    assert local.output(ref) == "up\nlate\n"


def test_a_job_gets_no_descriptor_of_ours(local):
    listing = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
    ref = local.submit(sys.executable, "-c", listing)

    local.ended(ref)

    assert local.output(ref) == "[0, 1, 2, 3]\n"  # 3: the listing itself


def test_a_job_starts_with_no_signal_blocked_or_ignored(local):
    """Python ignores SIGPIPE, and a shell's ``&`` SIGINT: a job must not inherit either."""
    ref = local.submit("grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")

    local.ended(ref)

    masks = [int(line.split()[1], 16) for line in local.output(ref).splitlines()]
    assert masks == [0, 0]


def test_a_supervisor_survives_an_agent_that_dies_while_it_is_told(local):
    """A write to a pipe that nobody reads must be an error and not a signal that kills the supervisor."""
    ref = local.submit("sleep", "600")
    local.running(ref)

    status = Path(f"/proc/{local.supervisors()[0]}/status").read_text()

    ignored = int(status.split("SigIgn:")[1].split()[0], 16)
    assert ignored & 1 << signal.SIGPIPE - 1
