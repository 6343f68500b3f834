"""pyslurm's transport against a stand-in that knows no other names than the real one has."""

from __future__ import annotations

import json
import os
import pwd
import signal
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from adapters.base import BackendConfig, Found
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.apart import environment
from adapters.slurm.identity import is_slurm_user
from adapters.slurm.options import Options, Users
from adapters.slurm.records import Association, Changes, License, Qos, Submission
from adapters.slurm.transport import (
    NoAccounting,
    NoAnswer,
    NotAuthenticated,
    NotKnown,
    NotReached,
    Refused,
    TryLater,
)
from adapters.slurm.transports import open_transport
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.builders import spec
from tests.helpers import stop_still, wait_until
from tests.slurm_kit import ref

FAKE = Path(__file__).parents[1] / "fake_pyslurm"
ME = pwd.getpwuid(os.getuid())
CONFIG = {
    "cluster_name": "hpc",
    "version": "25.11.2",
    "accounting_storage_type": "accounting_storage/slurmdbd",
}
PATIENT_S = 20.0  # a deadline that no test waits for
SHORT_S = 1.0  # what hangs takes it whole


class Stage:
    """The folder that the stand-in lives in."""

    def __init__(self, folder):
        self.folder = folder
        self.opened = []
        self.write("cluster", {"config": CONFIG})

    def write(self, name, content):
        new = self.folder / f"{name}.new"
        new.write_text(json.dumps(content))
        new.replace(self.folder / f"{name}.json")

    def read(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())

    def trouble(self, **calls):
        self.write("trouble", {call.replace("_", "."): what for call, what in calls.items()})

    def has(self, **kinds):
        self.write("cluster", {"config": CONFIG, **kinds})

    def put(self, *rows, name="jobs"):
        self.write(name, {str(at): {**ROW, **row} for at, row in enumerate(rows)})

    def open(self, **changes):
        given = {"transport": "pyslurm", "answer_s": PATIENT_S, **changes}
        transport = open_transport(Options(directory="/home/{user}", users=Users(owner=True), **given))
        self.opened.append(transport)
        return transport

    def close(self):
        while self.opened:
            self.opened.pop().close()


# One waiting job as pyslurm shows it.
ROW = {
    "id": 12, "name": "wb-a-1", "user_name": "ana", "state": "PENDING", "state_reason": "Priority",
    "submit_time": 1000, "start_time": None, "end_time": None, "requeue_count": 0, "exit_code": 0,
    "exit_code_signal": 0, "priority": 7, "cpus": 4, "memory": 512, "num_nodes": 1, "partition": "train",
}  # fmt: skip


@pytest.fixture
def stage(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_PYSLURM", str(tmp_path))
    monkeypatch.syspath_prepend(FAKE)
    stage = Stage(tmp_path)
    yield stage
    stage.close()


@pytest.fixture
def slurm(stage):
    return stage.open()


def impatient(stage):
    """One with a short deadline, whose processes are up."""
    slurm = stage.open(answer_s=SHORT_S)
    wait_until(lambda: answers(slurm))
    return slurm


def answers(slurm):
    try:
        slurm.ping()
        slurm.cancel("999", ME.pw_name)
    except NotKnown:
        return True
    except (NoAnswer, NotReached):
        return False
    raise AssertionError("there is no job 999")


def submission(**changes):
    plain = {
        "name": "wb-a-1",
        "user": ME.pw_name,
        "script": "#!/bin/sh\ntrue\n",
        "environment": {"A": "1", "B": "two\nlines"},
        "directory": "/home/ana",
        "stdout": "/home/ana/o",
        "stderr": "/home/ana/e",
        "comment": "{}",
    }
    return Submission(**{**plain, **changes})


# ---- submitting --------------------------------------------------------------------------------------

# What every job has; the rest is said by the field of the same row of FIELDS.
ALWAYS = {
    "name": "wb-a-1", "user_id": ME.pw_uid, "group_id": ME.pw_gid, "script": "#!/bin/sh\ntrue\n",
    "environment": {"A": "1", "B": "two\nlines"}, "working_directory": "/home/ana",
    "standard_output": "/home/ana/o", "standard_error": "/home/ana/e", "comment": "{}",
    "log_files_open_mode": "append", "nodes": "1", "ntasks": 1, "ntasks_per_node": 1, "cpus_per_task": 1,
    "is_requeueable": False,
}  # fmt: skip
# Each field that is not always there, and what it is at pyslurm; a sentence where it cannot be carried.
FIELDS = [
    ({"account": "vision"}, {"account": "vision"}),
    ({"qos": "high"}, {"qos": "high"}),
    ({"partition": "a,b"}, {"partitions": "a,b"}),
    ({"reservation": "r"}, {"reservations": "r"}),
    ({"wckey": "w"}, {"wckey": "w"}),
    (
        {"nodes": 2, "tasks_per_node": 4, "cpus_per_task": 3},
        {"nodes": "2", "ntasks": 8, "ntasks_per_node": 4, "cpus_per_task": 3},
    ),
    ({"memory_per_node_mib": 512}, {"memory_per_node": "512M"}),
    ({"memory_per_cpu_mib": 64}, {"memory_per_cpu": "64M"}),
    ({"gres": "gpu:h100:2,shard:1"}, {"gres_per_node": {"gpu:h100": 2, "shard": 1}}),
    ({"cpus_per_gpu": 4}, {"cpus_per_gpu": 4, "cpus_per_task": None}),
    ({"cpus_per_gpu": 4, "cpus_per_task": 2}, "CPUs per task and CPUs per GPU"),
    ({"tmp_disk_mib": 100}, {"temporary_disk_per_node": 100}),
    ({"constraint": "ib&a100"}, {"constraints": "ib&a100"}),
    ({"switches": 1}, "switches"),
    ({"switches_wait_s": 60}, "switches"),
    ({"licenses": "matlab:2"}, {"licenses": "matlab:2"}),
    ({"required_nodes": ("n1", "n2")}, {"required_nodes": ["n1", "n2"]}),
    ({"excluded_nodes": ("n3",)}, {"excluded_nodes": ["n3"]}),
    ({"exclusive": True}, {"resource_sharing": "exclusive"}),
    ({"time_limit_min": 90}, {"time_limit": 90}),
    ({"time_min_min": 30}, {"time_limit_min": 30}),
    ({"begin_at": 2000000000.5}, {"begin_time": 2000000001}),
    ({"deadline_at": 2000000000.5}, {"deadline": 2000000001}),
    ({"nice": 100}, {"nice": 100}),
    ({"array": "0-9%2"}, {"array": "0-9%2"}),
    (
        {"dependency": "singleton,afterok:7"},
        {"dependencies": "singleton,afterok:7", "kill_on_invalid_dependency": True},
    ),
    ({"requeue": True}, {"is_requeueable": True}),
    ({"hold": True}, {"priority": 0}),
    ({"warning_signal": "USR1"}, {"signal": {"signal": 10}}),
    (
        {"warning_signal": "12", "warning_s": 60, "warning_to_batch": True},
        {"signal": {"signal": 12, "time": 60, "batch_only": True}},
    ),
    ({"warning_s": 60}, "a warning without a signal"),
    ({"warning_to_batch": True}, "a warning without a signal"),
    ({"warning_signal": "BOO"}, "the signal BOO"),
    ({"mail_types": ("END", "TIME_LIMIT_90")}, {"mail_types": ["END", "TIME_LIMIT_90"]}),
    ({"mail_types": ("NONE",)}, {}),
    ({"mail_types": ("INVALID_DEPEND",)}, "the mail type INVALID_DEPEND"),
    ({"mail_user": "ana@example.org"}, {"mail_user": "ana@example.org"}),
    ({"environment": {}}, "an empty environment"),
    ({"script": "/etc/hostname"}, "a script that is not text"),
    ({"script": "#!/bin/true"}, "a script that is not text"),
    ({"user": "nobody-of-that-name"}, "there is no user nobody-of-that-name"),
]


def test_every_field_travels_or_is_refused_by_name(stage, slurm):
    for given, told in FIELDS:
        if isinstance(told, str):
            with pytest.raises(Refused, match=told):
                slurm.submit(submission(**given))
        else:
            job_id = slurm.submit(submission(**given))
            wanted = {**ALWAYS, **told}
            assert stage.read("asked")[-1] == {k: v for k, v in wanted.items() if v is not None}
            assert job_id == len(stage.read("asked"))


def test_no_field_of_a_submission_is_forgotten():
    plain = {"name", "directory", "stdout", "stderr", "comment"}

    assert {one.name for one in fields(Submission)} == plain | {name for given, _ in FIELDS for name in given}


def test_a_job_gets_nothing_of_the_brokers_own_environment(stage, slurm, monkeypatch):
    """pyslurm copies every SLURM_* of its process into the job, the path of the configuration too."""
    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "BROKER_REDIS_URL", "PYSLURM_JOBDESC_ACCOUNT"):
        monkeypatch.setenv(name, "the broker's")
    slurm = stage.open(slurm_conf="/etc/other/slurm.conf")

    slurm.submit(submission())

    assert stage.read("asked")[0]["environment"] == {"A": "1", "B": "two\nlines"}


def test_the_child_finds_the_configuration_that_the_operator_names(stage):
    found = environment(Options(directory="/", users=Users(owner=True), slurm_conf="/etc/other/slurm.conf"))

    assert found["SLURM_CONF"] == "/etc/other/slurm.conf"


def test_pyslurm_is_never_loaded_into_the_broker(slurm):
    slurm.ping()

    assert "pyslurm" not in sys.modules


def test_a_ctrl_c_that_stops_the_broker_does_not_end_a_call_under_way(slurm):
    slurm.ping()

    assert os.getsid(slurm._children.reads._process.pid) != os.getsid(0)


# ---- what Slurm and pyslurm complain of --------------------------------------------------------------

ERRORS = [
    (1007, NotAuthenticated),
    (1800, NotReached),
    (2000, Refused),
    (2007, TryLater),
    (2010, NotAuthenticated),
    (2017, NotKnown),
    (5004, NoAnswer),
    (7000, NotReached),
    (-1, NoAnswer),
]


def test_an_error_of_slurm_is_what_it_is_over_slurmrestd(stage, slurm):
    for number, kind in ERRORS:
        stage.trouble(submit=number)
        with pytest.raises(kind) as raised:
            slurm.submit(submission())
        assert (type(raised.value), raised.value.code) == (kind, number)


def test_what_pyslurm_itself_checks_is_refused_before_it_is_sent(stage, slurm):
    both = submission(memory_per_node_mib=1, memory_per_cpu_mib=1)

    with pytest.raises(Refused, match="Only one of memory_per_cpu"):
        slurm.submit(both)


# ---- cancelling and changing -------------------------------------------------------------------------


def test_a_cancel_of_a_job_that_is_unknown_says_so(stage, slurm):
    """pyslurm returns as if it had been cancelled."""
    with pytest.raises(NotKnown):
        slurm.cancel("12", ME.pw_name)


def test_a_cancel_of_what_has_ended_is_none_that_failed(stage, slurm):
    stage.put({"state": "COMPLETED"})

    slurm.cancel("12", ME.pw_name)


def test_an_error_that_the_c_library_left_behind_is_not_taken_for_slurms(stage, slurm):
    stage.put({})
    stage.write("trouble", {"errno after cancel": 115})

    slurm.cancel("12", ME.pw_name)

    assert stage.read("jobs")["0"]["state"] == "CANCELLED"


def test_nor_for_a_success(stage, slurm):
    stage.put({})
    stage.write("trouble", {"errno after cancel": 115, "cancel does nothing": True})

    with pytest.raises(NoAnswer, match="whether it has cancelled 12"):
        slurm.cancel("12", ME.pw_name)


def test_a_single_task_is_refused_rather_than_its_whole_array_cancelled(slurm):
    with pytest.raises(Refused, match=r"a single task \(12_3\)"):
        slurm.cancel("12_3", ME.pw_name)
    with pytest.raises(Refused, match=r"a single task \(12_3\)"):
        slurm.change("12_3", Changes(hold=True), ME.pw_name)


def test_a_job_is_held_changed_and_released(stage, slurm):
    stage.put({})

    slurm.change("12", Changes(hold=True, time_limit_min=5, nice=3), ME.pw_name)
    held = stage.read("jobs")["0"]
    slurm.change("12", Changes(hold=False), ME.pw_name)

    assert (held["state_reason"], held["time_limit"], held["nice"]) == ("JobHeldAdmin", 5, 3)
    assert stage.read("jobs")["0"]["state_reason"] == "Priority"


def test_no_change_calls_nobody_and_one_to_nice_0_is_refused(stage, slurm):
    stage.trouble(modify="dies")

    slurm.change("12", Changes(), ME.pw_name)
    with pytest.raises(Refused, match="nice value of 0"):
        slurm.change("12", Changes(nice=0), ME.pw_name)


def test_a_job_of_somebody_else_needs_an_administrator(stage, slurm):
    other = next(one.pw_name for one in pwd.getpwall() if one.pw_uid != os.geteuid())
    stage.put({})
    stage.trouble(cancel=2002)

    with pytest.raises(NotAuthenticated, match=f"the broker is not {other}"):
        slurm.cancel("12", other)
    with pytest.raises(Refused):
        slurm.cancel("12", ME.pw_name)


# ---- the process -------------------------------------------------------------------------------------


def test_a_call_that_hangs_is_given_up_in_time_and_the_next_one_answered(stage):
    slurm = impatient(stage)
    stage.trouble(diag="hangs")
    began = time.monotonic()

    with pytest.raises(NoAnswer, match="not within 1 s"):
        slurm.ping()

    assert SHORT_S <= time.monotonic() - began < PATIENT_S
    stage.trouble()
    wait_until(lambda: answers(slurm))


def test_a_question_that_hangs_holds_up_neither_a_cancel_nor_any_other_thread(stage):
    """In this process a call of pyslurm's would hold the interpreter's lock until the controller answers."""
    slurm = stage.open(answer_s=PATIENT_S)
    slurm.ping()
    stage.put({})
    stage.trouble(diag="hangs")
    asking = threading.Thread(target=pytest.raises, args=(NoAnswer, slurm.ping))
    asking.start()
    wait_until(lambda: slurm._children.reads._turn.locked())

    slurm.cancel("12", ME.pw_name)

    assert asking.is_alive()
    slurm.close()
    asking.join(PATIENT_S)
    assert not asking.is_alive()


def test_a_long_submission_has_its_own_time_whatever_the_call_before_had_left(stage, slurm):
    with pytest.raises(NotKnown):
        slurm.cancel("999", ME.pw_name)
    child = slurm._children.writes
    child._socket.settimeout(0.001)
    stop_still(child._process.pid)  # so that what is sent has to be waited for
    threading.Timer(0.3, child._process.send_signal, [signal.SIGCONT]).start()

    assert slurm.submit(submission(script="#!/bin/sh\n" + "x" * 2**23)) == 1


def test_who_does_not_get_a_turn_in_time_has_sent_nothing(stage):
    slurm = impatient(stage)
    writes = slurm._children.writes

    with writes._turn, pytest.raises(TryLater, match="busy"):
        slurm.submit(submission())

    assert not (stage.folder / "asked.json").exists()


@pytest.mark.parametrize("moment", ["submit", "after submit"])
def test_a_submit_whose_process_dies_may_or_may_not_have_arrived(stage, slurm, moment):
    stage.write("trouble", {moment: "dies"})

    with pytest.raises(NoAnswer, match="ended with 3"):
        slurm.submit(submission())

    assert (stage.folder / "asked.json").exists() == (moment == "after submit")


def test_a_submit_that_hangs_is_killed_and_unknown(stage):
    slurm = impatient(stage)
    stage.write("trouble", {"after submit": "hangs"})

    with pytest.raises(NoAnswer, match="not within 1 s"):
        slurm.submit(submission())

    assert len(stage.read("asked")) == 1


def test_pyslurm_that_ends_its_process_over_slurm_conf_was_never_reached(stage, slurm):
    stage.trouble(**{"import": "fatal: Unable to process configuration file"})

    with pytest.raises(NotReached, match="Unable to process configuration file"):
        slurm.submit(submission())

    stage.trouble()
    assert slurm.submit(submission()) == 1


def test_nor_was_one_that_does_not_come_to_the_end_of_its_import(stage):
    """It looks for a missing slurm.conf for up to a minute."""
    slurm = stage.open(answer_s=SHORT_S)
    stage.trouble(imported="hangs")

    with pytest.raises(NotReached, match="not within 1 s"):
        slurm.submit(submission())


def test_a_machine_without_pyslurm_is_told_so(stage, slurm, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(FAKE)])

    with pytest.raises(NotReached, match="No module named 'pyslurm'"):
        slurm.ping()


def test_a_process_that_was_killed_between_two_calls_is_started_again(slurm):
    slurm.ping()
    process = slurm._children.reads._process
    process.kill()
    process.wait()

    slurm.ping()


def test_threads_take_turns(stage, slurm):
    stage.put(*({"id": number} for number in range(1, 200)))
    found = []

    def look():
        found.append(len(slurm.jobs().jobs))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT_S)

    assert found == [199] * 8


def test_a_forked_process_has_children_of_its_own(slurm):
    slurm.ping()
    before = slurm._children.reads._process.pid
    reader, writer = os.pipe()

    if (forked := os.fork()) == 0:
        slurm.ping()
        os.write(writer, str(slurm._children.reads._process.pid).encode())
        slurm.close()
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0

    slurm.ping()
    assert slurm._children.reads._process.pid == before != int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)


# ---- reading -----------------------------------------------------------------------------------------


def test_what_the_cluster_is(slurm):
    cluster = slurm.cluster()

    assert (cluster.name, cluster.version, cluster.dialect) == ("hpc", "25.11.2", "pyslurm 25.11.2")
    assert cluster.accounting
    assert not cluster.has_states


def test_a_listing_is_always_whole(stage, slurm):
    stage.put({"id": 1}, {"id": 2})

    assert [job.id for job in slurm.jobs(changed_since=time.time()).jobs] == [1, 2]
    with pytest.raises(Refused, match="the listing of states"):
        slurm.states()


def test_one_job_is_asked_for_alone_and_an_array_with_all_its_tasks(stage, slurm):
    """pyslurm answers with one task of an array."""
    tasks = [{"id": 20 + task, "array_id": 24, "array_task_id": task or None} for task in range(4)]
    stage.put({}, *tasks, {"id": 24, "array_id": 24, "array_tasks_waiting": "4-9"})

    assert [job.id for job in slurm.job(12)] == [12]
    found = slurm.job(24)
    with pytest.raises(NotKnown):
        slurm.job(99)

    assert [(job.task, job.waiting_tasks) for job in found] == [
        (0, None), (1, None), (2, None), (3, None), (None, "4-9"),
    ]  # fmt: skip


def test_the_past_is_the_databases_and_what_it_does_not_show_yet_the_controllers(stage, slurm):
    """pyslurm has no question by the time of submission, and never shows what was not eligible."""
    stage.put({"id": 12}, {"id": 13, "name": "wb-b-1"})
    over = {"id": 11, "state": "COMPLETED", "start_time": 1010, "end_time": 1020, "nodelist": "n1"}
    stage.put(over, {"id": 10, "start_time": None}, name="accounted")

    found = slurm.history(names=["wb-a-1"], since=900.0)

    assert [(job.id, job.accounted) for job in found] == [(11, True), (12, False)]
    assert slurm.history(names=["wb-a-1"], since=1500.0) == []
    assert {job.id for job in slurm.history(job_ids=[10, 11])} == {10, 11}


def test_without_a_database_nothing_is_asked_of_it(stage, slurm):
    stage.write("cluster", {"config": {**CONFIG, "accounting_storage_type": None}})

    for ask in (slurm.history, slurm.associations, slurm.qos):
        with pytest.raises(NoAccounting):
            ask()


def test_the_accounts_of_this_cluster_are_told(stage, slurm):
    ours = {"user": "ana", "account": "vision", "cluster": "hpc", "qos": ["normal"], "is_default": True}
    stage.has(
        associations=[ours, {**ours, "cluster": "other"}, {**ours, "user": None}], qos=[{"name": "normal"}]
    )

    assert slurm.associations() == [
        Association(user="ana", account="vision", qos=("normal",), is_default=True)
    ]
    assert slurm.qos() == [Qos(name="normal")]


def test_nodes_partitions_reservations_and_licences(stage, slurm):
    node = {
        "name": "n1", "state": "MIXED+DRAIN", "total_cpus": 8, "real_memory": 16000, "allocated_cpus": 2,
        "allocated_memory": 512, "configured_gres": {"gpu:h100": 4}, "partitions": ["train"],
        "allocated_gres": {"gpu": 2, "gpu:h100": 2}, "available_features": ["ib"], "reason": None,
    }  # fmt: skip
    everybody = {"allowed_accounts": ["ALL"], "denied_accounts": ["ALL"], "allowed_qos": ["high"]}
    partition = {
        "name": "train", "state": "UP", "is_default": True, "nodes": "n[1-2]", "max_time": "UNLIMITED",
        "default_time": 60, "max_nodes": None, **everybody, "denied_qos": ["ALL"],
    }  # fmt: skip
    reservation = {"name": "r", "start_time": 10, "end_time": 20, "nodes": "n1", "users": ["ana"]}
    licences = {"matlab": {"total": 4, "in_use": 1, "available": 3, "remote": 0}}
    stage.has(nodes=[node], partitions=[partition], reservations=[reservation], licenses=licences)

    (found,) = slurm.nodes()
    assert (found.states, found.gres, found.gres_used) == (
        ("MIXED", "DRAIN"),
        {"gpu:h100": 4},
        {"gpu:h100": 2},
    )
    assert (found.features, found.partitions) == (frozenset({"ib"}), ("train",))
    (found,) = slurm.partitions()
    assert (found.up, found.default, found.nodes, found.time_limit_min) == (True, True, ("n1", "n2"), None)
    assert (found.allowed_accounts, found.denied_accounts, found.allowed_qos) == ((), (), ("high",))
    (found,) = slurm.reservations()
    assert (found.starts_at, found.ends_at, found.users) == (10.0, 20.0, ("ana",))
    assert slurm.licenses() == [License(name="matlab", total=4, used=1)]


def test_how_much_the_database_is_behind(stage, slurm):
    stage.has(backlog=3)

    assert slurm.accounting_backlog() == 3


def test_what_cannot_be_read_is_no_answer(stage, slurm):
    stage.put({"submit_time": "yesterday"})

    with pytest.raises(NoAnswer, match="what pyslurm says of jobs cannot be read"):
        slurm.jobs()


# ---- the adapter over it -----------------------------------------------------------------------------


def test_an_attempt_is_submitted_found_seen_held_and_cancelled(stage, tmp_path):
    somebody = next(one.pw_name for one in pwd.getpwall() if is_slurm_user(one.pw_name))
    options = {
        "transport": "pyslurm", "answer_s": PATIENT_S, "users": {"service": somebody}, "logs": False,
        "directory": str(tmp_path), "cluster": "hpc",
    }  # fmt: skip
    config = BackendConfig(name="hpc", type="slurm", instance="x", data_dir="", options=options)
    adapter = SlurmAdapter(config)
    stage.opened.append(adapter)
    attempt = ref(submitted_at=time.time())

    handle = adapter.submit(attempt, spec())
    attempt = replace(attempt, handle=handle)

    assert handle == {"cluster": "hpc", "id": 1, "user": somebody}
    assert adapter.find(attempt.marker, time.time()) == Found(handle)
    assert look(adapter, attempt).state is AttemptState.QUEUED
    adapter.hold(attempt)
    assert look(adapter, attempt).reason is Reason.HELD
    adapter.release(attempt)
    assert look(adapter, attempt).reason is Reason.PRIORITY
    assert [one.ref.job_id for one in adapter.list_ours(0.0)] == [attempt.job_id]
    adapter.cancel(attempt)
    wait_until(lambda: look(adapter, attempt).outcome is JobState.CANCELLED, why="no record says who did it")


def look(adapter, attempt):
    return adapter.observe([attempt]).found[attempt.marker]
