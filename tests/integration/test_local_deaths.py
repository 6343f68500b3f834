"""Whatever dies at whatever moment: no attempt of the local backend starts twice, and every one ends once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters.base import Absent, Found, Unsettled
from adapters.errors import Busy, Rejected
from adapters.local import agent, crash, daemon, processes
from adapters.local.launch import own_environment
from adapters.local.paths import Home
from adapters.local.watch import Watch
from api_spec.jobs import Array, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.integration.local_bench import PATIENCE_S, LocalBench, kill

pytestmark = pytest.mark.process

APPEND = 'echo line >> "$1"; while test ! -e "$2"; do sleep 0.02; done'


@pytest.fixture
def local(tmp_path):
    with LocalBench(tmp_path / "data") as bench:
        yield bench


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


# ---- an agent that leaves ------------------------------------------------------------------------------


def has_left(local):
    return daemon.agent_pid(local.data_dir) is None


def test_an_agent_without_a_live_attempt_leaves_when_it_is_asked_and_a_submit_brings_one_back(local):
    local.ended(local.submit("true"))
    assert not has_left(local)

    local.adapter.leave_when_idle()
    wait_until(lambda: has_left(local), PATIENCE_S)
    local.adapter.leave_when_idle()  # of nobody
    later = local.submit("true")

    assert local.ended(later).outcome is JobState.COMPLETED
    assert local.starts(later) == 1
    assert not has_left(local), "nobody has asked this one"


def test_an_agent_with_a_live_attempt_stays_and_leaves_after_the_last(local, tmp_path):
    """Also what is submitted after it was asked gets its slot: a job that waits is live."""
    first = local.submit("sh", "-c", APPEND, "sh", str(tmp_path / "file"), str(tmp_path / "go"))
    local.running(first)
    pid = daemon.agent_pid(local.data_dir)

    local.adapter.leave_when_idle()
    second = local.submit("true")
    local.ended(second)
    stayed = daemon.agent_pid(local.data_dir)
    (tmp_path / "go").touch()
    wait_until(lambda: has_left(local), PATIENCE_S)

    assert stayed == pid
    assert "was leaving" not in (Path(local.data_dir) / "agent.log").read_text(), "not even for a moment"
    assert local.look(first).outcome is JobState.COMPLETED
    assert (lines(tmp_path / "file"), local.starts(first), local.starts(second)) == (["line"], 1, 1)


@pytest.mark.parametrize("when", ["before the pipe is closed", "before the lock is free"])
def test_a_submit_that_meets_a_leaving_agent_is_not_lost(local, monkeypatch, when):
    """It woke the one that leaves, or started a new one that found the lock held: nobody else will look."""
    local.ended(local.submit("true"))
    local.adapter.leave_when_idle()
    wait_until(lambda: has_left(local), PATIENCE_S)
    late = []

    class MeetsASubmit(Watch):
        def close(self):
            if when == "before the lock is free":
                super().close()
            if not late:
                late.append(local.submit("true"))
            if when == "before the pipe is closed":
                super().close()

    monkeypatch.setattr(agent, "Watch", MeetsASubmit)
    agent.serve_while_wanted(
        Home(local.data_dir), SimpleNamespace(stop=False, leave_when_idle=True), ready=None
    )

    (row,) = local.rows("SELECT state FROM attempts WHERE marker = ?", late[0].marker)
    assert (row["state"], local.starts(late[0])) == ("ENDED", 1)
    assert has_left(local)


# ---- the agent ---------------------------------------------------------------------------------------


def test_jobs_outlive_the_agent_and_the_next_one_adopts_them(local, tmp_path):
    ref = local.submit("sh", "-c", APPEND, "sh", str(tmp_path / "file"), str(tmp_path / "go"))
    local.running(ref)
    supervisors = local.supervisors()

    local.kill_agent()
    still = local.look(ref).state  # looking brings the next agent up
    wait_until(lambda: daemon.agent_pid(local.data_dir), PATIENCE_S)
    (tmp_path / "go").touch()

    assert still is AttemptState.RUNNING
    assert local.ended(ref).outcome is JobState.COMPLETED
    assert len(supervisors) == 1
    assert (lines(tmp_path / "file"), local.starts(ref)) == (["line"], 1)


def test_a_job_that_ends_while_no_agent_lives_has_ended_right(local, tmp_path):
    ref = local.submit("sh", "-c", APPEND + "; exit 5", "sh", str(tmp_path / "file"), str(tmp_path / "go"))
    local.running(ref)
    (supervisor,) = local.supervisors()

    local.kill_agent()
    (tmp_path / "go").touch()
    wait_until(lambda: processes.born(supervisor) is None, PATIENCE_S)

    assert daemon.agent_pid(local.data_dir) is None
    assert local.ended(ref).exit_code == 5


def test_fifty_jobs_and_two_kills_of_the_agent_make_fifty_lines(local, tmp_path):
    files = [tmp_path / f"file-{number}" for number in range(50)]
    refs = [local.shell(f"echo line >> {path}; sleep 0.05") for path in files]

    for done in (10, 25):
        wait_until(lambda done=done: sum(path.exists() for path in files) >= done, PATIENCE_S)
        local.kill_agent()
        local.adapter.observe(refs)

    for ref in refs:
        assert local.ended(ref).outcome is JobState.COMPLETED
    assert [lines(path) for path in files] == [["line"]] * 50
    assert {local.starts(ref) for ref in refs} == {1}


def test_agent_and_supervisors_killed_no_job_runs_twice(local, tmp_path):
    """Those whose supervisor died are Lost or right; the others complete."""
    files = [tmp_path / f"file-{number}" for number in range(30)]
    refs = [local.shell(f"echo line >> {path}; sleep 0.1") for path in files]

    for done in (6, 16):
        wait_until(lambda done=done: sum(path.exists() for path in files) >= done, PATIENCE_S)
        local.kill_agent()
        for pid in local.supervisors():
            kill(pid)
        local.adapter.observe(refs)

    ends = [local.ended(ref).reason for ref in refs]
    assert set(ends) == {Reason.COMPLETED, Reason.LOST}
    assert all(len(lines(path)) <= 1 for path in files)
    assert all(
        lines(path) == ["line"] for path, end in zip(files, ends, strict=True) if end is Reason.COMPLETED
    )
    assert {local.starts(ref) for ref in refs} == {1}


def test_a_second_agent_leaves_at_once(local):
    local.ended(local.submit("true"))
    first = daemon.agent_pid(local.data_dir)

    second = subprocess.run(
        [sys.executable, "-m", "adapters.local.agent", local.data_dir],
        env=own_environment(),
        timeout=PATIENCE_S,
        capture_output=True,
        check=False,
    )

    assert (second.returncode, daemon.agent_pid(local.data_dir)) == (0, first)


def test_twenty_processes_that_find_no_agent_start_one(local):
    refs = [local.new_ref() for _ in range(20)]
    threads = [threading.Thread(target=local.submit, args=("true",), kwargs={"ref": ref}) for ref in refs]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for ref in refs:
        assert local.ended(ref).outcome is JobState.COMPLETED
    assert len([line for line in local.processes() if "local.agent" in line]) == 1


def test_the_agent_stops_when_it_is_asked_to_and_its_jobs_go_on(local, tmp_path):
    ref = local.submit("sh", "-c", APPEND, "sh", str(tmp_path / "file"), str(tmp_path / "go"))
    local.running(ref)

    stopped = subprocess.run(
        [sys.executable, "-m", "adapters.local.agent", local.data_dir, "--stop"],
        env=own_environment(),
        timeout=PATIENCE_S,
        check=False,
    )

    assert (stopped.returncode, daemon.agent_pid(local.data_dir)) == (0, None)
    (tmp_path / "go").touch()
    assert local.ended(ref).outcome is JobState.COMPLETED


def test_an_agent_whose_directory_is_gone_goes_too(local):
    local.ended(local.submit("true"))
    pid = daemon.agent_pid(local.data_dir)

    Path(local.data_dir, "lock").unlink()
    local.adapter.hold(local.new_ref())  # anything that wakes it

    wait_until(lambda: processes.born(pid) is None, PATIENCE_S)


# ---- supervisors -------------------------------------------------------------------------------------

HIDES = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    text = f"echo $$ > {sys.argv[1]}; while true; do /bin/sleep 0.1; done"
    os.execve("/bin/sh", ["sh", "-c", text], {} if sys.argv[2] == "bare" else os.environ)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["plain", "bare"])
def test_what_a_dead_supervisor_leaves_is_killed_and_the_job_is_lost(local, tmp_path, how):
    ref = local.submit(sys.executable, "-c", HIDES, str(tmp_path / "pid"), how)
    hidden = int(wait_until(lambda: lines(tmp_path / "pid"), PATIENCE_S)[0])

    for pid in local.supervisors():
        kill(pid)

    seen = local.ended(ref)
    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.LOST)
    wait_until(lambda: processes.born(hidden) is None, PATIENCE_S)
    assert local.starts(ref) == 1


def test_a_job_whose_supervisor_dies_after_its_cancel_is_cancelled(local):
    ref = local.shell("trap '' TERM; while true; do sleep 0.1; done")
    local.running(ref)
    local.kill_agent()
    supervisors = local.supervisors()
    local.change("UPDATE attempts SET cancelled_at = 1, cancel_reason = 'Cancelled'")

    for pid in supervisors:
        kill(pid)

    assert local.ended(ref).outcome is JobState.CANCELLED


def test_a_task_whose_supervisor_dies_after_its_cancel_is_cancelled(local):
    ref = local.shell("trap '' TERM; while true; do sleep 0.1; done", array=Array(indices="0-1"))
    local.until(ref, lambda seen: {one.state for one in seen.tasks.values()} == {AttemptState.RUNNING})
    local.kill_agent()
    supervisors = local.supervisors()
    local.change("UPDATE tasks SET retiring_at = 1 WHERE idx = 1")

    for pid in supervisors:
        kill(pid)

    ends = {index: one.reason for index, one in local.ended(ref).tasks.items()}
    assert ends == {0: Reason.LOST, 1: Reason.CANCELLED}


def test_a_cancel_of_tasks_that_came_while_no_agent_ran_is_carried_out_by_the_next(local):
    ref = local.submit("sleep", "600", array=Array(indices="0-2", max_running=2))
    local.until(ref, lambda seen: seen.tasks[1].state is AttemptState.RUNNING)
    local.kill_agent()

    local.adapter.cancel_tasks(ref, (0, 2))

    seen = local.until(ref, lambda seen: seen.tasks[0].state is AttemptState.ENDED)
    assert [seen.tasks[index].outcome for index in (0, 1, 2)] == [
        JobState.CANCELLED,
        None,
        JobState.CANCELLED,
    ]
    assert local.starts(ref) == 2


def test_a_supervisor_that_does_not_act_on_a_cancel_is_killed(local):
    ref = local.submit("sleep", "600")
    local.running(ref)
    (supervisor,) = local.supervisors()
    processes.send(supervisor, processes.born(supervisor), 19)  # SIGSTOP

    local.adapter.cancel(ref)

    assert local.ended(ref).outcome is JobState.CANCELLED


def test_after_a_reboot_what_ran_is_node_lost(local):
    ref = local.submit("sleep", "600")
    local.running(ref)
    daemon.stop_agent(local.data_dir)
    (row,) = local.rows("SELECT launch FROM tasks")
    local.change("UPDATE tasks SET boot = 'an earlier one'")

    seen = local.ended(ref)

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.NODE_LOST)
    assert processes.kill_leftovers(row["launch"])  # there was no reboot, so it runs


OF_A_BURIAL = ("agent.leftovers_killed", "agent.buried")
OF_A_JOB = [point for point in crash.POINTS if point.startswith(("agent", "supervisor"))]
OF_A_JOB.remove("agent.proxy_spawned")


@pytest.mark.parametrize("point", OF_A_JOB)
def test_a_death_between_two_effects_starts_nothing_twice(tmp_path, monkeypatch, point):
    """The first process that comes to the point dies there; those after it pass."""
    monkeypatch.setenv("BROKER_LOCAL_CRASH", point)
    monkeypatch.setenv("BROKER_LOCAL_CRASH_ONCE", str(tmp_path / "died"))
    with LocalBench(tmp_path / "data") as local:
        text = f"echo line >> {tmp_path}/file-$BROKER_TASK_INDEX"
        if point in OF_A_BURIAL:
            text += "; kill -9 $PPID"
        ref = local.shell(text, array=Array(indices="0-2"))
        seen = local.ended(ref)

        assert local.starts(ref) == 3
    assert (tmp_path / "died").exists()
    for index in range(3):
        written = len(lines(tmp_path / f"file-{index}"))
        if seen.tasks[index].outcome is JobState.COMPLETED:
            assert written == 1
        else:
            assert (seen.tasks[index].reason, written <= 1) == (Reason.LOST, True)


# ---- submissions -------------------------------------------------------------------------------------


def test_ten_submissions_of_one_attempt_at_once_start_it_once(local, tmp_path):
    ref = local.new_ref()
    handles = []

    def submit():
        handles.append(local.shell(f"echo line >> {tmp_path}/file", ref=ref).handle)

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    local.ended(ref)
    assert handles == [handles[0]] * 10
    assert lines(tmp_path / "file") == ["line"]


def test_another_specification_under_a_used_name_is_refused(local):
    ref = local.submit("true")

    with pytest.raises(Rejected, match="another specification"):
        local.submit("false", ref=ref)


def test_absence_is_proven_after_the_settle_time(local):
    ref = local.new_ref()
    answers = []

    def look():
        answers.append(local.adapter.find(ref.marker, ref.submitted_at))
        return isinstance(answers[-1], Absent)

    wait_until(look)
    found = local.submit("true", ref=ref)

    assert isinstance(answers[0], Unsettled)
    assert local.adapter.find(ref.marker, ref.submitted_at) == Found(found.handle)


def test_a_lost_ledger_is_not_an_empty_one(local):
    """A disk that is not mounted must not make the broker start everything again."""
    ref = local.new_ref()
    daemon.stop_everything(local.data_dir)
    for path in Path(local.data_dir).glob("ledger.db*"):
        path.unlink()

    for call in (
        lambda: local.adapter.observe([ref]),
        lambda: local.adapter.find(ref.marker, 0.0),
        lambda: local.submit("true", ref=ref),
    ):
        with pytest.raises(Busy):
            call()


def test_an_object_under_the_same_name_that_is_not_ours_is_left_alone(local):
    ref = local.submit("sleep", "600")
    local.running(ref)
    other = local.new_ref(marker=ref.marker, handle={"id": "another", "sequence": 1})

    local.adapter.cancel(other)
    local.adapter.cleanup(other)

    assert local.adapter.observe([other]).found == {}
    assert local.running(ref).state is AttemptState.RUNNING


def test_a_job_that_no_longer_fits_says_so(tmp_path):
    """The operator gave the backend less than it had."""
    with LocalBench(tmp_path / "data") as local:
        blocker = local.submit("sleep", "600", resources=Resources(cpus_per_task=4))
        ref = local.submit("true", resources=Resources(cpus_per_task=3))
        local.running(blocker)

        smaller = LocalBench(tmp_path / "data", cpus=2)

        (why, *_) = smaller.adapter.explain_pending(ref)
        assert (why.code, why.message) == (Reason.NEVER_FITS, "asks for 3 CPUs; the machine has 2")
