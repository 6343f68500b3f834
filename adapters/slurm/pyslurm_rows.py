"""pyslurm's names and values (25.11) as records, and a submission as its keywords.  Pure.

A function that reads takes the attributes that the tuple beside it names.  Peculiarities of pyslurm's that
are dealt with here:

exit code       128 and more are told less 128, so that 103 and 104 are taken for the guard's 231 and 232
array_task_id   None for task 0, and for a row of waiting tasks
state           one word: a flag hides the base state
denied_*        ["ALL"] where nothing is denied
allocated_gres  "gpu" and "gpu:h100" side by side, for the same GPUs
"""

from __future__ import annotations

import pwd
from collections.abc import Mapping
from math import ceil
from signal import Signals
from typing import Any

from adapters.slurm.records import Changes, Job, Node, Partition, Reservation, Submission
from adapters.slurm.rest import rows as rest_rows
from adapters.slurm.rest.accounting import waiting
from adapters.slurm.rest.rows import ENDED, WAITING
from adapters.slurm.rest.values import gres, joined, moment, names, nodes, positive, text, whole, words
from adapters.slurm.script import NOT_STARTED, SECOND_COPY
from adapters.slurm.transport import Refused

Row = Mapping[str, Any]
LOST_BIT = 128
GUARD = {code - LOST_BIT: code for code in (SECOND_COPY, NOT_STARTED)}

# ---- what goes in ------------------------------------------------------------------------------------


def keywords(job: Submission) -> dict[str, Any]:
    """Of ``JobSubmitDescription``.  Raises ``Refused`` for what it has no word for."""
    refuse_what_has_no_word(job)
    return {**identity(job), **resources(job), **times(job), **behaviour(job)}


def refuse_what_has_no_word(job: Submission) -> None:
    if job.switches is not None or job.switches_wait_s is not None:
        raise cannot("switches")  # NameError in 25.11
    if job.cpus_per_gpu is not None and job.cpus_per_task > 1:
        raise cannot("CPUs per task and CPUs per GPU of one job")
    if job.warning_signal is None and (job.warning_s is not None or job.warning_to_batch):
        raise cannot("a warning without a signal")
    if "INVALID_DEPEND" in job.mail_types:
        raise cannot("the mail type INVALID_DEPEND")
    if not job.environment:
        raise cannot("an empty environment")  # it would be the broker's own
    if not job.script.startswith("#!") or "\n" not in job.script:
        raise cannot("a script that is not text with a #! line")  # it may be taken for a path, and read


def cannot(what: str) -> Refused:
    return Refused(f"pyslurm cannot carry {what}")


def user_of(name: str) -> pwd.struct_passwd:
    """Numbers are resolved here: without a group the job would run with root's."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Refused(f"there is no user {name} on the broker's host") from None


def identity(job: Submission) -> dict[str, Any]:
    user = user_of(job.user)
    mails = [word for word in job.mail_types if word != "NONE"]
    return joined(
        name=job.name, user_id=user.pw_uid, group_id=user.pw_gid, script=job.script,
        environment=dict(job.environment), working_directory=job.directory, comment=job.comment,
        standard_output=job.stdout, standard_error=job.stderr, log_files_open_mode="append",
        account=job.account, qos=job.qos, partitions=job.partition, reservations=job.reservation,
        wckey=job.wckey, mail_types=mails or None, mail_user=job.mail_user,
    )  # fmt: skip


def resources(job: Submission) -> dict[str, Any]:
    return joined(
        nodes=str(job.nodes),
        ntasks=job.nodes * job.tasks_per_node,
        ntasks_per_node=job.tasks_per_node,
        cpus_per_task=None if job.cpus_per_gpu else job.cpus_per_task,
        cpus_per_gpu=job.cpus_per_gpu,
        memory_per_node=None if job.memory_per_node_mib is None else f"{job.memory_per_node_mib}M",
        memory_per_cpu=None if job.memory_per_cpu_mib is None else f"{job.memory_per_cpu_mib}M",
        gres_per_node=gres(job.gres) or None,
        temporary_disk_per_node=job.tmp_disk_mib,
        constraints=job.constraint,
        licenses=job.licenses,
        required_nodes=list(job.required_nodes) or None,
        excluded_nodes=list(job.excluded_nodes) or None,
        resource_sharing="exclusive" if job.exclusive else None,
    )


def times(job: Submission) -> dict[str, Any]:
    return joined(
        time_limit=job.time_limit_min,
        time_limit_min=job.time_min_min,
        begin_time=None if job.begin_at is None else ceil(job.begin_at),
        deadline=None if job.deadline_at is None else ceil(job.deadline_at),
        signal=warning(job),
    )


def warning(job: Submission) -> dict[str, Any] | None:
    said = job.warning_signal
    if said is None:
        return None
    try:
        number = int(said) if said.isdecimal() else Signals[f"SIG{said.removeprefix('SIG')}"].value
    except KeyError:
        raise cannot(f"the signal {said}") from None
    return joined(signal=number, time=job.warning_s, batch_only=job.warning_to_batch or None)


def behaviour(job: Submission) -> dict[str, Any]:
    return joined(
        nice=job.nice,
        array=job.array,
        dependencies=job.dependency,
        kill_on_invalid_dependency=True if job.dependency else None,
        is_requeueable=job.requeue,
        priority=0 if job.hold else None,
    )


def changes(wanted: Changes) -> dict[str, Any]:
    """Without ``hold``, which is a call of its own."""
    if wanted.nice == 0:
        raise cannot("a nice value of 0 for a job that has another")  # 0 is "not said"
    return joined(time_limit=wanted.time_limit_min, nice=wanted.nice)


# ---- what comes back ---------------------------------------------------------------------------------

BOTH = (
    "id", "name", "user_name", "state", "state_reason", "array_id", "array_task_id", "array_tasks_waiting",
    "submit_time", "start_time", "end_time", "requeue_count", "exit_code", "exit_code_signal", "failed_node",
    "partition", "account", "qos", "priority", "comment", "standard_output", "standard_error", "time_limit",
    "cpus", "memory", "num_nodes",
)  # fmt: skip
JOB = (*BOTH, "allocated_nodes", "dependencies")
ACCOUNTED = (
    *BOTH,
    "nodelist",
    "cancelled_by",
    "elapsed_time",
    "stats.resident_memory",
    "stats.consumed_energy",
)


def job(row: Row) -> Job:
    states, start = words(row["state"]), moment(row["start_time"])
    waits, ended = not WAITING.isdisjoint(states), not ENDED.isdisjoint(states)
    reason = text(row["state_reason"])
    code, signal = exit_of(row) if ended else (None, None)
    array = positive(row["array_id"])
    waiting_tasks = waiting(row["array_tasks_waiting"]) if array else None
    accounted = "nodelist" in row
    peak = row.get("stats.resident_memory")
    return Job(
        id=int(row["id"]), name=str(row["name"] or ""), user=str(row["user_name"]), states=states,
        array_id=array, waiting_tasks=waiting_tasks,
        task=(whole(row["array_task_id"]) or 0) if array and not waiting_tasks else None,
        # A sentence stands in the reason's place where Slurm has one.
        reason=None if " " in (reason or "") else reason,
        message=reason if " " in (reason or "") else None,
        submitted_at=moment(row["submit_time"]),
        started_at=None if waits else start, planned_at=start if waits and not accounted else None,
        ended_at=moment(row["end_time"]) if ended else None,
        restarts=whole(row["requeue_count"]) or 0, exit_code=code, signal=signal,
        nodes=() if text(row.get("nodelist")) == "None assigned" else nodes(node_list(row)),
        failed_node=text(row["failed_node"]), partition=text(row["partition"]),
        account=text(row["account"]), qos=text(row["qos"]), priority=whole(row["priority"]),
        dependency=dependency(row.get("dependencies") or {}), comment=text(row["comment"]),
        stdout=text(row["standard_output"]), stderr=text(row["standard_error"]),
        time_limit_min=limit(row["time_limit"]), cancelled_by=text(row.get("cancelled_by")),
        elapsed_s=whole(row.get("elapsed_time")), tres={} if waits else tres(row),
        peak_memory_mib=peak / 2**20 if peak else None,
        energy_j=row.get("stats.consumed_energy") or None, accounted=accounted,
    )  # fmt: skip


def node_list(row: Row) -> object:
    return row["nodelist"] if "nodelist" in row else row["allocated_nodes"]


def exit_of(row: Row) -> tuple[int | None, int | None]:
    if signal := positive(row["exit_code_signal"]):
        return None, signal
    code = whole(row["exit_code"])
    if code == 0 and row["state_reason"] == "NonZeroExitCode":
        return LOST_BIT, None
    return GUARD.get(code or 0, code), None


def tres(row: Row) -> dict[str, float]:
    """What it has of CPUs and nodes, and of memory what it asked for; of GPUs pyslurm says nothing here."""
    found = {"cpu": row["cpus"], "mem": row["memory"], "node": row["num_nodes"]}
    return {name: float(count) for name, count in found.items() if count}


def dependency(told: Row) -> str | None:
    """{"afterok": [12, "13(unfulfilled)"], "singleton": True, "satisfy": "all"} as sbatch writes it."""
    lists = [
        f"{word}:{':'.join(map(str, jobs))}" for word, jobs in told.items() if isinstance(jobs, list) and jobs
    ]
    parts = [*lists, *(["singleton"] if told.get("singleton") else ())]
    return ("?" if told.get("satisfy") == "any" else ",").join(parts) or None


def limit(value: object) -> int | None:
    return None if value in ("UNLIMITED", "PartitionLimit") else whole(value)


NODE = (
    "name", "state", "total_cpus", "real_memory", "allocated_cpus", "allocated_memory", "configured_gres",
    "allocated_gres", "available_features", "partitions", "reason",
)  # fmt: skip


def node(row: Row) -> Node:
    used = {name: int(count) for name, count in row["allocated_gres"].items() if int(count)}
    typed = {name.partition(":")[0] for name in used if ":" in name}
    return Node(
        name=str(row["name"]),
        states=words(row["state"].split("+")),
        cpus=int(row["total_cpus"]),
        memory_mib=int(row["real_memory"]),
        cpus_allocated=int(row["allocated_cpus"]),
        memory_allocated_mib=int(row["allocated_memory"]),
        gres={name: int(count) for name, count in row["configured_gres"].items()},
        gres_used={name: count for name, count in used.items() if name not in typed},
        features=frozenset(names(row["available_features"])),
        partitions=names(row["partitions"]),
        reason=text(row["reason"]),
    )


PARTITION = (
    "name", "state", "is_default", "nodes", "max_time", "default_time", "max_nodes", "allowed_accounts",
    "denied_accounts", "allowed_qos", "denied_qos",
)  # fmt: skip


def partition(row: Row) -> Partition:
    return Partition(
        name=str(row["name"]),
        up=row["state"] == "UP",
        default=bool(row["is_default"]),
        nodes=nodes(row["nodes"]),
        time_limit_min=limit(row["max_time"]),
        default_time_min=limit(row["default_time"]),
        nodes_max=limit(row["max_nodes"]),
        **{key: not_all(row[key]) for key in PARTITION[-4:]},
    )


def not_all(value: object) -> tuple[str, ...]:
    found = names(value)
    return () if found == ("ALL",) else found


RESERVATION = ("name", "start_time", "end_time", "nodes", "users", "accounts", "partition")


def reservation(row: Row) -> Reservation:
    return rest_rows.reservation({**row, "node_list": row["nodes"]})


# Read as slurmrestd's; its default QOS pyslurm does not say.
ASSOCIATION = ("user", "account", "partition", "qos", "is_default", "cluster")
