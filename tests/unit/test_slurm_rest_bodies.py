"""A submission and a change, as each dialect writes them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from adapters.slurm.records import Changes, Submission
from adapters.slurm.rest import new, old
from adapters.slurm.rest.accounting import LONGEST_LIST, Ask
from adapters.slurm.transport import Refused

SET = {"set": True, "infinite": False}


def submission(**changes):
    plain = {
        "name": "wb-a-1",
        "user": "ana",
        "script": "#!/bin/sh\ntrue\n",
        "environment": {"A": "1", "B": "two\nlines"},
        "directory": "/home/ana",
        "stdout": "/home/ana/o",
        "stderr": "/home/ana/e",
        "comment": "{}",
    }
    return Submission(**{**plain, **changes})


def old_job(**changes):
    return old.submission(submission(**changes))["job"]


def new_job(version="v0.0.42", **changes):
    return new.submission(submission(**changes), version)["job"]


# Each field of a submission that is not always there, and what it is in v0.0.38 and in v0.0.42; a sentence
# where it cannot be carried.
FIELDS = [
    ({"account": "vision"}, {"account": "vision"}, {"account": "vision"}),
    ({"qos": "high"}, {"qos": "high"}, {"qos": "high"}),
    ({"partition": "a,b"}, {"partition": "a,b"}, {"partition": "a,b"}),
    ({"reservation": "r"}, {"reservation": "r"}, {"reservation": "r"}),
    ({"wckey": "w"}, {"wckey": "w"}, {"wckey": "w"}),
    (
        {"nodes": 2, "tasks_per_node": 4, "cpus_per_task": 3},
        {"nodes": [2, 2], "tasks": 8, "tasks_per_node": 4, "cpus_per_task": 3},
        {"nodes": "2", "tasks": 8, "tasks_per_node": 4, "cpus_per_task": 3},
    ),
    ({"memory_per_node_mib": 512}, {"memory_per_node": 512}, {"memory_per_node": {**SET, "number": 512}}),
    ({"memory_per_cpu_mib": 64}, {"memory_per_cpu": 64}, {"memory_per_cpu": {**SET, "number": 64}}),
    (
        {"gres": "gpu:h100:2,shard:1"},
        {"gres": "gpu:h100:2,shard:1"},
        {"tres_per_node": "gres/gpu:h100:2,gres/shard:1"},
    ),
    (
        {"gres": "gpu:1", "cpus_per_gpu": 4},
        {"gres": "gpu:1", "cpus_per_gpu": 4},
        {"tres_per_node": "gres/gpu:1", "cpus_per_tres": "gres/gpu:4"},
    ),
    ({"tmp_disk_mib": 100}, {"temporary_disk_per_node": 100}, {"temporary_disk_per_node": 100}),
    ({"constraint": "ib"}, {"constraints": "ib"}, {"constraints": "ib"}),
    (
        {"switches": 1, "switches_wait_s": 60},
        "cannot carry switches",
        {"required_switches": {**SET, "number": 1}, "wait_for_switch": 60},
    ),
    ({"licenses": "matlab:1"}, {"licenses": "matlab:1"}, {"licenses": "matlab:1"}),
    ({"required_nodes": ("n1", "n2")}, {"nodelist": "n1,n2"}, {"required_nodes": ["n1", "n2"]}),
    ({"excluded_nodes": ("n1", "n2")}, {"exclude_nodes": "n1,n2"}, {"excluded_nodes": ["n1", "n2"]}),
    ({"exclusive": True}, {"exclusive": "exclusive"}, {"shared": ["none"]}),
    ({"time_limit_min": 90}, {"time_limit": 90}, {"time_limit": {**SET, "number": 90}}),
    ({"time_min_min": 30}, {"time_minimum": 30}, {"time_minimum": {**SET, "number": 30}}),
    (
        {"begin_at": 1795000000.2},
        {"begin_time": "uts1795000001"},
        {"begin_time": {**SET, "number": 1795000001}},
    ),
    ({"deadline_at": 1795000000}, {"deadline": "uts1795000000"}, {"deadline": 1795000000}),
    ({"nice": -5}, {"nice": -5}, {"nice": -5}),
    ({"array": "0-9%2"}, {"array": "0-9%2"}, {"array": "0-9%2"}),
    (
        {"dependency": "singleton"},
        {"dependency": "singleton", "kill_on_invalid_dependency": True},
        {"dependency": "singleton", "flags": ["KILL_INVALID_DEPENDENCY"]},
    ),
    ({"requeue": True}, {"requeue": True}, {"requeue": True}),
    ({"requeue": False}, {"no_requeue": True}, {"requeue": False}),
    ({"hold": True}, {"hold": True}, {"hold": True}),
    (
        {"warning_signal": "USR1", "warning_s": 60},
        {"signal": "USR1@60"},
        {"kill_warning_signal": "USR1", "kill_warning_delay": {**SET, "number": 60}},
    ),
    ({"warning_signal": "USR1"}, {"signal": "USR1"}, {"kill_warning_signal": "USR1"}),
    (
        {"warning_signal": "USR1", "warning_to_batch": True},
        "cannot carry a warning signal to the batch script alone",
        {"kill_warning_signal": "USR1", "kill_warning_flags": ["BATCH_JOB"]},
    ),
    (
        {"mail_types": ("END", "TIME_LIMIT_80"), "mail_user": "ana@example.org"},
        {"mail_type": "END,TIME_LIMIT_80", "mail_user": "ana@example.org"},
        {"mail_type": ["END", "TIME=80%"], "mail_user": "ana@example.org"},
    ),
]
ALWAYS = {"name", "user", "script", "environment", "directory", "stdout", "stderr", "comment"}


@pytest.mark.parametrize("asked, written, _", FIELDS, ids=lambda value: "-".join(value) if value else "")
def test_each_field_is_written_or_refused_by_name_in_v0_0_38(asked, written, _):
    if isinstance(written, str):
        with pytest.raises(Refused, match=written):
            old_job(**asked)
    else:
        assert old_job(**asked).items() >= written.items()


@pytest.mark.parametrize("asked, _, written", FIELDS, ids=lambda value: "-".join(value) if value else "")
def test_each_field_is_written_in_v0_0_42(asked, _, written):
    assert new_job(**asked).items() >= written.items()


def test_no_field_of_a_submission_is_forgotten():
    covered = {name for asked, _, _ in FIELDS for name in asked}

    assert {field.name for field in fields(Submission)} == covered | ALWAYS


def test_what_every_job_has_is_written_in_each_dialect():
    given = submission()

    written = old.submission(given)
    assert written["script"] == given.script
    assert written["job"]["environment"] == {"A": "1", "B": "two\nlines"}
    assert written["job"]["open_mode"] == "append"

    job = new_job()
    assert job["script"] == given.script
    assert job["environment"] == ["A=1", "B=two\nlines"]
    assert job["open_mode"] == ["APPEND"]
    for body in (written["job"], job):
        assert (body["name"], body["comment"]) == ("wb-a-1", "{}")
        assert (body["standard_output"], body["standard_error"]) == ("/home/ana/o", "/home/ana/e")
        assert body["current_working_directory"] == "/home/ana"


@pytest.mark.parametrize("body", [old_job(), new_job()], ids=["old", "new"])
def test_what_is_not_said_is_left_to_the_cluster(body):
    assert None not in body.values()
    assert not {"account", "qos", "partition", "time_limit", "group_id", "user_id"}.intersection(body)


def test_cpus_per_gpu_excludes_cpus_per_task_as_with_sbatch():
    assert "cpus_per_task" not in old_job(gres="gpu:1", cpus_per_gpu=4)
    with pytest.raises(Refused, match="CPUs per task and CPUs per GPU"):
        old_job(gres="gpu:1", cpus_per_gpu=4, cpus_per_task=2)


def test_a_whole_node_is_asked_for_in_another_word_before_v0_0_41():
    assert new_job("v0.0.40", exclusive=True)["exclusive"] == ["true"]
    assert new_job("v0.0.44", exclusive=True)["shared"] == ["none"]


def test_all_mail_is_the_mail_that_sbatch_means():
    kinds = new_job(mail_types=("ALL", "TIME_LIMIT", "NONE"))["mail_type"]

    assert kinds == ["INVALID_DEPENDENCY", "BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "TIME=100%"]


@pytest.mark.parametrize(
    "wanted, in_old, in_new",
    [
        (Changes(), {}, {}),
        (Changes(hold=True), {"hold": True}, {"hold": True}),
        (Changes(hold=False, nice=0), {"hold": False, "nice": 0}, {"hold": False, "nice": 0}),
        (Changes(time_limit_min=5), {"time_limit": 5}, {"time_limit": {**SET, "number": 5}}),
    ],
)
def test_a_change_says_only_what_is_to_be_other(wanted, in_old, in_new):
    assert old.changes(wanted) == in_old
    assert new.changes(wanted) == in_new


# ---- questions about the past ------------------------------------------------------------------------


def test_the_past_is_asked_by_time_of_submission_so_that_what_never_ran_is_there():
    ask = Ask(names=["a", "b"], users=["ana"], since=1795000000.9)

    assert [dict(params) for params in old.questions(ask)] == [
        {"submit_time": "uts1795000000", "job_name": "a,b"}  # it cannot be asked for users
    ]
    assert [dict(params) for params in new.questions(ask)] == [
        {
            "start_time": "uts1795000000",
            "usage_time_as_submit_time": "true",
            "show_duplicates": "true",
            "skip_steps": "true",
            "job_name": "a,b",
            "users": "ana",
        }
    ]


def test_a_job_is_asked_for_by_id_with_its_steps():
    ask = Ask(job_ids=[7, 8, 7], since=1795000000.0)

    assert old.questions(ask) == [[("step", "7,8")]]
    assert new.questions(ask) == [[("show_duplicates", "true"), ("step", "7"), ("step", "8")]]


@pytest.mark.parametrize("questions", [old.questions, new.questions])
def test_many_names_are_asked_for_in_several_calls(questions):
    names = [f"wb-instance-{number:026}-1" for number in range(500)]

    asked = [dict(params)["job_name"] for params in questions(Ask(names=names))]

    assert ",".join(asked).split(",") == names
    assert max(map(len, asked)) <= LONGEST_LIST
