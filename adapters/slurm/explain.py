"""Why a job waits: Slurm's reason in our words, with what the queue shows as evidence.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from adapters.slurm import observations, words
from adapters.slurm.live import Queue
from adapters.slurm.records import Job
from api_spec.decisions import Refusal

NOT_LAUNCHED = "launch failed requeued held"
"""Slurm says so beside "held by its user", who knows nothing of it."""
SINGLETON = re.compile(r"singleton(\(\w+\))?")

# fmt: off
SENTENCES: dict[str, str] = {
    "None":                     "Slurm has not looked at it yet",
    "Resources":                "it is the next of its partition and waits for free resources",
    "Licenses":                 "it waits for licences",
    "JobArrayTaskLimit":        "as many tasks of the array run as it allows itself",
    "JobHeldUser":              "it was held by its user",
    "JobHeldAdmin":             "it was held by an administrator, who alone can release it",
    "JobHoldMaxRequeue":        "Slurm holds it, since it was requeued too often",
    "DependencyNeverSatisfied": "what it depends on can never happen",
    "BeginTime":                "it is not to begin before its time",
    "Reservation":              "it waits for its reservation to begin",
    "ReservationDeleted":       "its reservation was deleted",
    "ReqNodeNotAvail":          "nodes that it asks for are down, drained or reserved",
    "NodeDown":                 "a node that it asks for is down",
    "PartitionDown":            "the partition is down",
    "PartitionInactive":        "the partition starts no jobs",
    "PartitionNodeLimit":       "it asks for more nodes than the partition allows, so it will not start",
    "PartitionTimeLimit":       "it asks for more time than the partition allows, so it will not start",
    "BadConstraints":           "no node meets its constraints, so it will not start",
    "AccountNotAllowed":        "its account may not use the partition",
    "InvalidAccount":           "its account does not exist or is not its user's",
    "InvalidQOS":               "its QOS does not exist or is not its user's",
    "QOSNotAllowed":            "its QOS may not be used in the partition",
    "Prolog":                   "the prolog of its nodes runs",
    "Cleaning":                 "its last run is being cleaned up",
}
SCOPES = {"QOS": "QOS", "Assoc": "account"}
# fmt: on


def reasons(rows: Sequence[Job], queue: Queue) -> Sequence[Refusal]:
    """None for what does not wait.  An array that waits in part is explained by the tasks that do."""
    waiting = [row for row in rows if observations.waits(row)]
    if not waiting:
        return ()
    row = waiting[0]
    word = words.word(row.states)
    code = (word.reason if word else None) or words.pending_reason(row.reason)
    return (Refusal(code, "; ".join(part for part in _parts(row, queue) if part)),)


def _parts(row: Job, queue: Queue) -> Sequence[str | None]:
    native = row.reason or "None"
    if row.message == NOT_LAUNCHED:
        return ("Slurm could not launch it, and holds it until somebody releases it",)
    sentence = _ahead(row, queue) if native == "Priority" else _sentence(row, native)
    planned = f"Slurm plans to start it at {_time(row.planned_at)}" if row.planned_at else None
    return (sentence, row.message, planned)


def _sentence(row: Job, native: str) -> str:
    if native == "Dependency":
        return _dependency(row)
    if native in SENTENCES:
        return SENTENCES[native]
    if words.FAMILIES.fullmatch(native):
        return _limit(row, native)
    return f"Slurm says {native}"


def _ahead(row: Job, queue: Queue) -> str:
    """Jobs that wait in the same partition and that Slurm considers first."""
    if row.priority is None:
        return "jobs with a higher priority are ahead"
    ahead = queue.ahead_of(row)
    jobs = "1 job waits" if ahead == 1 else f"{ahead} jobs wait"
    return f"{jobs} ahead of it in the partition {row.partition}; its priority is {row.priority}"


def _dependency(row: Job) -> str:
    others = [
        part for part in (row.dependency or "").replace("?", ",").split(",") if not SINGLETON.fullmatch(part)
    ]
    if not any(others):
        return "another job under its name has to end first"
    return f"it waits for {', '.join(filter(None, others))}"


def _limit(row: Job, native: str) -> str:
    """ "QOSMaxGRESPerUser": the name of the limit is Slurm's; whose it is, the job says."""
    scope = next((SCOPES[prefix] for prefix in SCOPES if native.startswith(prefix)), "account")
    name = row.qos if scope == "QOS" else row.account
    whose = f"{scope} {name}" if name else scope
    return f"the limit {native} of the {whose} is reached"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
