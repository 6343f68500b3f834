"""v0.0.40 to v0.0.44 (Slurm 23.11 and later): numbers say whether they are set, flags are lists.  Pure.

A key that slurmrestd does not know is dropped with a warning, a value of the wrong type likewise; so each
key stands here as the version's own OpenAPI document spells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from adapters.slurm.records import Changes, Partition, Submission
from adapters.slurm.rest.accounting import Ask, chunks, job_name
from adapters.slurm.rest.values import joined, names, nodes, text, whole, words
from adapters.slurm.transport import Refused

# sbatch's words, where the API has others.
MAIL_TYPES = {
    "TIME_LIMIT": "TIME=100%",
    "TIME_LIMIT_90": "TIME=90%",
    "TIME_LIMIT_80": "TIME=80%",
    "TIME_LIMIT_50": "TIME=50%",
    "INVALID_DEPEND": "INVALID_DEPENDENCY",
}
ALL_MAIL = ("INVALID_DEPEND", "BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT")


def submission(job: Submission, version: str) -> dict[str, Any]:
    """Raises ``Refused`` for what this dialect has no word for: nothing is dropped."""
    return {"job": {**identity(job), **resources(job, version), **times(job), **behaviour(job)}}


def identity(job: Submission) -> dict[str, Any]:
    return joined(
        name=job.name,
        script=job.script,
        comment=job.comment,
        environment=[f"{name}={value}" for name, value in job.environment.items()],
        current_working_directory=job.directory,
        standard_output=job.stdout,
        standard_error=job.stderr,
        open_mode=["APPEND"],
        account=job.account,
        qos=job.qos,
        partition=job.partition,
        reservation=job.reservation,
        wckey=job.wckey,
        mail_type=mail_types(job.mail_types) or None,
        mail_user=job.mail_user,
    )


def mail_types(wanted: tuple[str, ...]) -> list[str]:
    every = [one for word in wanted for one in (ALL_MAIL if word == "ALL" else (word,))]
    return [MAIL_TYPES.get(word, word) for word in dict.fromkeys(every) if word != "NONE"]


def resources(job: Submission, version: str) -> dict[str, Any]:
    return joined(
        nodes=str(job.nodes),
        tasks=job.nodes * job.tasks_per_node,
        tasks_per_node=job.tasks_per_node,
        cpus_per_task=job.cpus_per_task,
        memory_per_node=exactly(job.memory_per_node_mib),
        memory_per_cpu=exactly(job.memory_per_cpu_mib),
        tres_per_node=tres_per_node(job.gres),
        cpus_per_tres=None if job.cpus_per_gpu is None else f"gres/gpu:{job.cpus_per_gpu}",
        temporary_disk_per_node=job.tmp_disk_mib,
        constraints=job.constraint,
        required_switches=exactly(job.switches),
        wait_for_switch=job.switches_wait_s,
        licenses=job.licenses,
        required_nodes=list(job.required_nodes) or None,
        excluded_nodes=list(job.excluded_nodes) or None,
        **(exclusively(version) if job.exclusive else {}),
    )


def tres_per_node(gres: str | None) -> str | None:
    """ "gpu:h100:2" is "gres/gpu:h100:2"."""
    return None if gres is None else ",".join(f"gres/{part.strip()}" for part in gres.split(","))


def exclusively(version: str) -> dict[str, Any]:
    return {"exclusive": ["true"]} if version == "v0.0.40" else {"shared": ["none"]}


def times(job: Submission) -> dict[str, Any]:
    if job.warning_to_batch and job.warning_signal is None:
        raise Refused("a warning to the batch script needs a signal")
    return joined(
        time_limit=exactly(job.time_limit_min),
        time_minimum=exactly(job.time_min_min),
        begin_time=exactly(job.begin_at),
        deadline=None if job.deadline_at is None else ceil(job.deadline_at),
        kill_warning_signal=job.warning_signal,
        kill_warning_delay=exactly(job.warning_s),
        kill_warning_flags=["BATCH_JOB"] if job.warning_to_batch else None,
    )


def behaviour(job: Submission) -> dict[str, Any]:
    return joined(
        nice=job.nice,
        array=job.array,
        dependency=job.dependency,
        flags=["KILL_INVALID_DEPENDENCY"] if job.dependency else None,
        requeue=job.requeue,
        hold=True if job.hold else None,
    )


def exactly(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"set": True, "infinite": False, "number": ceil(value)}


def since(at: float) -> str:
    """A time in an address: v0.0.40 and v0.0.41 read a bare number as a date, and fail."""
    return f"uts{int(at)}"


def changes(wanted: Changes) -> dict[str, Any]:
    return joined(hold=wanted.hold, time_limit=exactly(wanted.time_limit_min), nice=wanted.nice)


def partition(row: Mapping[str, Any]) -> Partition:
    most, accounts, qos = row["maximums"], row["accounts"], row["qos"]
    return Partition(
        name=str(row["name"]),
        up="UP" in words(row["partition"]["state"]),
        default=is_default(row),
        nodes=nodes(row["nodes"]["configured"]),
        time_limit_min=whole(most["time"]),
        default_time_min=whole(row["defaults"]["time"]),
        nodes_max=whole(most["nodes"]),
        allowed_accounts=all_or(accounts["allowed"]),
        denied_accounts=names(accounts["deny"]),
        allowed_qos=all_or(qos["allowed"]),
        denied_qos=names(qos["deny"]),
    )


def is_default(row: Mapping[str, Any]) -> bool:
    """Told from v0.0.44 on; before, nothing says which partition is the default one."""
    return "DEFAULT" in words(row.get("flags") or ())


def all_or(value: object) -> tuple[str, ...]:
    return () if text(value) in (None, "ALL") else names(value)


def questions(ask: Ask) -> list[list[tuple[str, str]]]:
    """Parameters of as many calls as the lists need; what they do not ask for is sorted out later."""
    if ask.job_ids:  # with their steps, which tell the peak memory; a list with commas is refused here
        return [
            [("show_duplicates", "true"), *(("step", one) for one in some.split(","))]
            for some in chunks(ask.job_ids)
        ]
    common = [
        ("start_time", since(ask.submitted_since)),
        ("usage_time_as_submit_time", "true"),  # a window of usage hides what was never eligible
        ("show_duplicates", "true"),
        ("skip_steps", "true"),  # they double the answer
    ]
    users = [("users", user) for user in dict.fromkeys(ask.users)]
    return [[*common, *users, *job_name(some)] for some in chunks(ask.names)]
