"""The accounting database's rows, and the questions that v0.0.38 and later take alike.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.slurm.records import Association, Job, Qos
from adapters.slurm.rest.rows import ENDED, WAITING, exit_of
from adapters.slurm.rest.values import moment, names, nodes, number, positive, text, tres, whole, words

Row = Mapping[str, Any]
# Characters.  Ids that are written one by one take four times as many of the 8 KiB of an address.
LONGEST_LIST = 1500

EARLIEST = 365 * 86400
"""Slurm takes no time before 1,000,000 as one; no job is from 1970."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A question about the past; what is empty asks for all."""

    names: Collection[str] = ()
    job_ids: Collection[int] = ()
    users: Collection[str] = ()
    since: float | None = None

    @property
    def submitted_since(self) -> int:
        """What a question without a time means, since none would be "today"."""
        return max(int(self.since or 0), EARLIEST)


def chunks(some: Collection[object]) -> Iterator[str]:
    """Comma-separated lists of a bearable length; one empty list for nothing."""
    line = ""
    for one in dict.fromkeys(str(each) for each in some):
        if line and len(line) + len(one) >= LONGEST_LIST:
            yield line
            line = ""
        line = f"{line},{one}" if line else one
    yield line


def job_name(some: str) -> list[tuple[str, str]]:
    return [("job_name", some)] if some else []


def asked_for(row: Job, ask: Ask) -> bool:
    """Not every dialect can be asked for all of it."""
    return (
        (not ask.names or row.name in ask.names)
        and (not ask.job_ids or row.id in ask.job_ids or row.array_id in ask.job_ids)
        and (not ask.users or row.user in ask.users)
        and (ask.since is None or row.submitted_at is None or row.submitted_at >= int(ask.since))
    )


def job(row: Row) -> Job:
    states = words(row["state"]["current"])
    array, times, start = row["array"], row["time"], moment(row["time"]["start"])
    array_id = positive(array["job_id"])
    where = () if text(row["nodes"]) == "None assigned" else nodes(row["nodes"])
    ended, waits = not ENDED.isdisjoint(states), not WAITING.isdisjoint(states)
    code, signal = exit_of(row["exit_code"]) if ended else (None, None)
    return Job(
        id=int(row["job_id"]),
        name=str(row["name"] or ""),
        user=str(row["user"] or ""),
        states=states,
        array_id=array_id,
        task=whole(array.get("task_id")) if array_id else None,
        waiting_tasks=waiting(array.get("task")) if array_id else None,
        reason=text(row["state"].get("reason")),
        submitted_at=moment(times["submission"]),
        started_at=start if where and not waits else None,
        ended_at=moment(times["end"]) if ended else None,
        restarts=whole(row.get("restart_cnt")) or 0,
        # v0.0.38 says 0 whatever the code was; of what was cancelled every dialect does.
        exit_code=code if code or "COMPLETED" in states else None,
        signal=signal,
        nodes=where,
        failed_node=text(row.get("failed_node")),
        partition=text(row["partition"]),
        account=text(row["account"]),
        qos=text(row.get("qos")),
        priority=whole(row.get("priority")),
        comment=text((row.get("comment") or {}).get("job")),
        stdout=text(row.get("stdout_expanded") or row.get("stdout")),
        stderr=text(row.get("stderr_expanded") or row.get("stderr")),
        time_limit_min=whole(times["limit"]),
        cancelled_by=text(row.get("kill_request_user")),
        elapsed_s=number(times["elapsed"]),
        tres=tres(row["tres"]["allocated"]),
        peak_memory_mib=peak_memory(row.get("steps") or ()),
        energy_j=energy(row.get("steps") or ()),
        accounted=True,
    )


def waiting(value: object) -> str | None:
    """ "0x38B" is a mask of task numbers in hexadecimal; written as the live listing does."""
    said = text(value)
    if said is None or not said.lower().startswith("0x"):
        return said
    mask = int(said, 16)
    return ",".join(str(bit) for bit in range(mask.bit_length()) if mask >> bit & 1) or None


def peak_memory(steps: Sequence[Row]) -> float | None:
    """The largest that one task had at once, in MiB: sacct's MaxRSS.  None without steps."""
    found = [used for step in steps for used in step_memory(step)]
    return max(found) / 2**20 if found else None


def step_memory(step: Row) -> Iterator[float]:
    # What was used is under "requested": the database calls what goes in and what comes out of a task so.
    for row in ((step.get("tres") or {}).get("requested") or {}).get("max") or ():
        if row.get("type") == "mem" and (count := number(row.get("count"))):
            yield count


def energy(steps: Sequence[Row]) -> float | None:
    found = [number((step.get("statistics") or {}).get("energy", {}).get("consumed")) for step in steps]
    told = [joules for joules in found if joules]
    return sum(told) if told else None


def association(row: Row) -> Association:
    return Association(
        user=text(row["user"]) or "",
        account=str(row["account"]),
        partition=text(row.get("partition")),
        qos=names(row.get("qos")),
        default_qos=text((row.get("default") or {}).get("qos")),
        is_default=bool(row.get("is_default")),
    )


def qos(row: Row) -> Qos:
    most = row["limits"]["max"]
    minutes = whole(most["wall_clock"]["per"]["job"])
    return Qos(
        name=str(row["name"]),
        priority=whole(row.get("priority")) or 0,
        time_limit_min=minutes,
        tres_per_job=tres(most["tres"]["per"]["job"]),
        tres_per_user=tres(most["tres"]["per"]["user"]),
        jobs_per_user=whole(most["jobs"]["active_jobs"]["per"]["user"]),
        submits_per_user=whole(most["jobs"]["per"]["user"]),
    )
