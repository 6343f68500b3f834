"""v0.0.38 (Slurm 22.05): what is sent is named and written as on sbatch's command line.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from adapters.slurm.records import Changes, Partition, Submission
from adapters.slurm.rest.accounting import Ask, chunks, job_name
from adapters.slurm.rest.values import joined, names, nodes, text, whole
from adapters.slurm.transport import Refused

VERSION = "v0.0.38"


def submission(job: Submission) -> dict[str, Any]:
    """Raises ``Refused`` for what this dialect has no word for: nothing is dropped."""
    refuse_what_has_no_word(job)
    return {"script": job.script, "job": {**identity(job), **resources(job), **times(job), **behaviour(job)}}


def refuse_what_has_no_word(job: Submission) -> None:
    if job.switches is not None or job.switches_wait_s is not None:
        raise cannot("switches")  # "Disabled key"
    if job.warning_to_batch:
        raise cannot("a warning signal to the batch script alone")
    if job.cpus_per_gpu is not None and job.cpus_per_task > 1:
        raise cannot("CPUs per task and CPUs per GPU of one job")  # "Failure during parsing"


def cannot(what: str) -> Refused:
    return Refused(f"slurmrestd {VERSION} cannot carry {what}")


def identity(job: Submission) -> dict[str, Any]:
    return joined(
        name=job.name,
        comment=job.comment,
        environment=dict(job.environment),
        current_working_directory=job.directory,
        standard_output=job.stdout,
        standard_error=job.stderr,
        open_mode="append",
        account=job.account,
        qos=job.qos,
        partition=job.partition,
        reservation=job.reservation,
        wckey=job.wckey,
        mail_type=",".join(job.mail_types) or None,
        mail_user=job.mail_user,
    )


def resources(job: Submission) -> dict[str, Any]:
    return joined(
        nodes=[job.nodes, job.nodes],
        # Without it ``nodes`` of a batch job counts for nothing: one task, so one node.
        tasks=job.nodes * job.tasks_per_node,
        tasks_per_node=job.tasks_per_node,
        cpus_per_task=cpus_per_task(job),
        memory_per_node=job.memory_per_node_mib,
        memory_per_cpu=job.memory_per_cpu_mib,
        gres=job.gres,
        cpus_per_gpu=job.cpus_per_gpu,
        temporary_disk_per_node=job.tmp_disk_mib,
        constraints=job.constraint,
        licenses=job.licenses,
        nodelist=",".join(job.required_nodes) or None,
        exclude_nodes=",".join(job.excluded_nodes) or None,
        exclusive="exclusive" if job.exclusive else None,
    )


def cpus_per_task(job: Submission) -> int | None:
    """As with sbatch, one excludes the other; a single CPU is what a task has anyway."""
    return None if job.cpus_per_gpu is not None and job.cpus_per_task == 1 else job.cpus_per_task


def times(job: Submission) -> dict[str, Any]:
    return joined(
        time_limit=job.time_limit_min,
        time_minimum=job.time_min_min,
        begin_time=epoch(job.begin_at),
        deadline=epoch(job.deadline_at),
        signal=warning(job),
    )


def behaviour(job: Submission) -> dict[str, Any]:
    return joined(
        nice=job.nice,
        array=job.array,
        dependency=job.dependency,
        kill_on_invalid_dependency=True if job.dependency else None,
        # "requeue": false is taken, and means true.
        requeue=True if job.requeue else None,
        no_requeue=None if job.requeue else True,
        hold=True if job.hold else None,
    )


def epoch(at: float | None) -> str | None:
    """The one form that does not depend on the time zone of slurmrestd."""
    return None if at is None else f"uts{ceil(at)}"


def since(at: float) -> str:
    """Of a listing's ``update_time``: here a number, and nothing else."""
    return str(int(at))


def warning(job: Submission) -> str | None:
    if job.warning_signal is None or job.warning_s is None:
        return job.warning_signal
    return f"{job.warning_signal}@{job.warning_s}"


def changes(wanted: Changes) -> dict[str, Any]:
    return joined(hold=wanted.hold, time_limit=wanted.time_limit_min, nice=wanted.nice)


def partition(row: Mapping[str, Any]) -> Partition:
    return Partition(
        name=str(row["name"]),
        up=row["state"] == "UP",
        default="default" in row["flags"],
        nodes=nodes(row["nodes"]),
        time_limit_min=whole(row["max_time_limit"]),
        default_time_min=whole(row["default_time_limit"]),
        nodes_max=whole(row["maximum_nodes_per_job"]),
        allowed_accounts=all_or(row["allowed_accounts"]),
        denied_accounts=names(row["denied_accounts"]),
        allowed_qos=all_or(row["allowed_qos"]),
        denied_qos=names(row["denied_qos"]),
    )


def all_or(value: object) -> tuple[str, ...]:
    return () if text(value) in (None, "ALL") else names(value)


def questions(ask: Ask) -> list[list[tuple[str, str]]]:
    """Parameters of as many calls as the lists need; what they do not ask for is sorted out later.

    Users cannot be asked for.  Earlier runs are always shown.  ``submit_time`` shows jobs that were never
    eligible, and no steps; which jobs have is told with their ids alone.
    """
    if ask.job_ids:
        return [[("step", some)] for some in chunks(ask.job_ids)]
    submitted = ("submit_time", f"uts{ask.submitted_since}")
    return [[submitted, *job_name(some)] for some in chunks(ask.names)]
