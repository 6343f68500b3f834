"""Rows of slurmrestd's answers as records; the dialects name them alike and write them differently.  Pure.

Each function raises ``KeyError``, ``TypeError`` or ``ValueError`` on a row that it cannot read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.slurm.records import Job, JobState, License, Node, Reservation
from adapters.slurm.rest.values import (
    gres,
    moment,
    names,
    nodes,
    number,
    positive,
    text,
    tres,
    whole,
    words,
)

Row = Mapping[str, Any]

# Words that stand for a job which has no processes yet: its start is a plan.  v0.0.38 shows a flag alone.
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"})
# Its end is a fact; of all others it is what the time limit makes of it.
# fmt: off
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT",
})
# fmt: on


def job(row: Row) -> Job:
    states = states_of(row)
    array, task, waiting = array_of(row)
    start, waits, ended = (
        moment(row["start_time"]),
        not WAITING.isdisjoint(states),
        not ENDED.isdisjoint(states),
    )
    code, signal = exit_of(row["exit_code"]) if ended else (None, None)
    where = nodes(row.get("nodes"))
    return Job(
        id=int(row["job_id"]),
        name=str(row["name"] or ""),
        user=user_of(row),
        states=states,
        array_id=array,
        task=task,
        waiting_tasks=waiting,
        reason=text(row.get("state_reason")),
        message=text(row.get("state_description")),
        submitted_at=moment(row["submit_time"]),
        started_at=start if where and not waits else None,  # of one that never ran it is when it ended
        planned_at=start if waits else None,
        ended_at=moment(row["end_time"]) if ended else None,
        restarts=whole(row["restart_cnt"]) or 0,
        exit_code=code,
        signal=signal,
        nodes=where,
        failed_node=text(row.get("failed_node")),
        partition=text(row.get("partition")),
        account=text(row.get("account")),
        qos=text(row.get("qos")),
        priority=whole(row.get("priority")),
        dependency=text(row.get("dependency")),
        comment=text(row.get("comment")),
        stdout=text(row.get("standard_output")),
        stderr=text(row.get("standard_error")),
        time_limit_min=whole(row.get("time_limit")),
        tres=tres(row.get("tres_alloc_str") or ""),
    )


def states_of(row: Row) -> tuple[str, ...]:
    """v0.0.38 hides the base state behind COMPLETING, also while a job that was requeued is still being
    ended.  Its end is then a plan, one time limit after its start, and it waits."""
    states = words(row["job_state"])
    if states != ("COMPLETING",) or not whole(row["restart_cnt"]):
        return states
    start, end, minutes = moment(row["start_time"]), moment(row["end_time"]), whole(row.get("time_limit"))
    planned = None not in (start, end, minutes) and (end or 0.0) - (start or 0.0) >= 60 * (minutes or 0)
    return ("PENDING", "COMPLETING") if planned else states


def user_of(row: Row) -> str:
    """A user whom slurmrestd's machine does not know has only a number."""
    return text(row.get("user_name")) or str(row["user_id"])


def array_of(row: Row) -> tuple[int | None, int | None, str | None]:
    array = positive(row.get("array_job_id"))
    if array is None:
        return None, None, None
    return array, whole(row.get("array_task_id")), text(row.get("array_task_string"))


def exit_of(value: object) -> tuple[int | None, int | None]:
    """Exit code and signal, one of them: from a raw wait status, or from words."""
    if isinstance(value, Mapping):
        return exit_in_words(value)
    raw = whole(value)
    if raw is None:
        return None, None
    # 0x80 is the core's bit; 4021 is 15 and signal 53, with which Slurm says that nothing was started.
    return (None, raw & 0x7F) if raw & 0x7F else (raw >> 8 & 0xFF, None)


def exit_in_words(value: Row) -> tuple[int | None, int | None]:
    status = words(value.get("status") or ())
    said = value.get("signal") or {}
    signal = positive(said.get("id", said.get("signal_id")))
    if signal and not {"SUCCESS", "ERROR"}.intersection(status):
        return None, signal
    if {"INVALID", "PENDING"}.intersection(status):
        return None, None
    return whole(value.get("return_code")), None


def job_state(row: Row, *, by_array: bool) -> JobState:
    """``job_id`` is "12", "12_3", "12_[0-9]" or, of a heterogeneous job, "12+1".

    ``by_array``: 12 is the id of the array (v0.0.40).  Later it is the task's own, which is the array's while
    the task waits, and the array of a task that has started is not told.
    """
    said, _, rest = str(row["job_id"]).partition("+")[0].partition("_")
    task = int(rest) if rest.isdecimal() else None
    return JobState(
        id=int(said),
        states=words(row["state"]),
        array_id=int(said) if rest and (by_array or task is None) else None,
        task=task,
        waiting_tasks=rest.strip("[]") if rest and task is None else None,
    )


def cluster_of(jobs: Sequence[Row]) -> str | None:
    return text(jobs[0].get("cluster")) if jobs else None


def answers(row: Row) -> bool:
    """One controller of a ping: "ping" in v0.0.38, "pinged" later, "responding" since v0.0.42."""
    return bool(row.get("responding")) or "UP" in (row.get("ping"), row.get("pinged"))


def node(row: Row) -> Node:
    state = row["state"]
    return Node(
        name=str(row["name"]),
        states=words([*([state] if isinstance(state, str) else state), *(row.get("state_flags") or ())]),
        cpus=int(row["cpus"]),
        memory_mib=int(row["real_memory"]),
        cpus_allocated=whole(row["alloc_cpus"]) or 0,
        memory_allocated_mib=whole(row["alloc_memory"]) or 0,
        gres=gres(row["gres"]),
        gres_used={name: used for name, used in gres(row["gres_used"]).items() if used},
        features=frozenset(names(row.get("features"))),
        partitions=names(row["partitions"]),
        reason=text(row.get("reason")),
    )


def reservation(row: Row) -> Reservation:
    return Reservation(
        name=str(row["name"]),
        starts_at=float(number(row["start_time"]) or 0),
        ends_at=float(number(row["end_time"]) or 0),
        nodes=nodes(row["node_list"]),
        users=names(row.get("users")),
        accounts=names(row.get("accounts")),
        partition=text(row.get("partition")),
    )


def license_of(row: Row) -> License:
    return License(name=str(row["LicenseName"]), total=int(row["Total"]), used=int(row["Used"]))
