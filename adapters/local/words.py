"""From rows of the ledger to observations: this backend's words in the broker's.  Pure."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from adapters.base import Observation, ServiceObservation, TaskObservation
from adapters.local import attempts, codec, shortfall
from adapters.local.attempts import Record
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A = AttemptState

# A replica in BACKOFF has ended and will start again: it waits, as one that starts.
# fmt: off
TASK_STATES: dict[str, tuple[AttemptState, Reason | None]] = {
    "STARTING": (A.QUEUED,  Reason.STARTING),
    "BACKOFF":  (A.QUEUED,  Reason.STARTING),
    "RUNNING":  (A.RUNNING, None),
    "ENDED":    (A.ENDED,   None),
}
# fmt: on

WAITING = TaskObservation(state=A.QUEUED)


def task(row: sqlite3.Row) -> TaskObservation:
    state, waits_for = TASK_STATES[row["state"]]
    ended = state is A.ENDED
    return TaskObservation(
        state=state,
        outcome=JobState(row["outcome"]) if ended else None,
        reason=Reason(row["reason"]) if ended else waits_for,
        exit_code=row["exit_code"] if ended else None,
        signal=row["signal"] if ended else None,
        started_at=row["started_at"],
        ended_at=row["ended_at"] if ended else None,
    )


def observation(record: Record, node: str, output_dir: str, host: str) -> Observation:
    row = record.attempt
    told = service_state(record) if row["service"] else batch_state(record)
    ended = told["state"] is A.ENDED
    completed = told.get("outcome") is JobState.COMPLETED
    return Observation(
        marker=row["marker"],
        native_state=native_state(record, told["state"]),
        restarts=row["restarts"],
        started_at=row["started_at"],
        ended_at=_ended_at(record) if ended else None,
        nodes=(node,) if row["started_at"] is not None else (),
        handle=handle(row),
        service=service(record, host) if row["service"] else None,
        tasks=_tasks(record) if row["array"] else {},
        outputs=outputs(codec.load_spec(row["spec"]), output_dir) if completed else {},
        **told,
    )


def handle(row: sqlite3.Row) -> dict[str, Any]:
    return {"id": row["id"], "sequence": row["seq"]}


def native_state(record: Record, state: AttemptState) -> str:
    """The ledger's own word for an attempt."""
    if record.attempt["held"] and state is A.QUEUED:
        return "HELD"
    if record.attempt["cancelled_at"] is not None and state is not A.ENDED:
        return "ENDING"
    return state.value


def _tasks(record: Record) -> Mapping[int, TaskObservation]:
    found = dict.fromkeys(attempts.unpack(record.attempt["indices"]), WAITING)
    if record.attempt["cancelled_at"] is not None:
        found = dict.fromkeys(found, CANCELLED_IN_THE_QUEUE)
    found.update((row["idx"], task(row)) for row in record.tasks)
    return found


CANCELLED_IN_THE_QUEUE = TaskObservation(state=A.ENDED, outcome=JobState.CANCELLED, reason=Reason.CANCELLED)


def is_over(record: Record) -> bool:
    """Nothing of it runs and nothing of it will."""
    row = record.attempt
    if row["state"] == "ENDED":
        return True
    if any(one["state"] != "ENDED" for one in record.tasks):
        return False
    if row["cancelled_at"] is not None:
        return record.proxy is None or record.proxy["pid"] is None
    return not row["service"] and row["next"] >= row["tasks"]


def batch_state(record: Record) -> dict[str, Any]:
    row = record.attempt
    begun = [one for one in record.tasks if one["outcome"] != "CANCELLED" or one["started_at"] is not None]
    states = {one["state"] for one in begun}
    if is_over(record):
        return {"state": A.ENDED, **ending(record)}
    if "RUNNING" in states or "ENDED" in states:
        return {"state": A.RUNNING}
    if row["held"] and not begun:
        return {"state": A.QUEUED, "reason": Reason.HELD}
    return {"state": A.QUEUED, "reason": Reason.STARTING if begun else Reason.CAPACITY}


def ending(record: Record) -> dict[str, Any]:
    """Of the whole attempt: cancelled if a task was, or never started for that; else the first failure."""
    rows = sorted(record.tasks, key=lambda one: (one["ended_at"] or 0.0, one["idx"]))
    missing = record.attempt["tasks"] - len(rows)
    cut = [one for one in rows if one["outcome"] == "CANCELLED"]
    failed = [one for one in rows if one["outcome"] == "FAILED"]
    if cut or (record.attempt["cancelled_at"] is not None and (missing or record.attempt["service"])):
        return _cancelled(record, cut)
    if failed:
        worst = failed[0]
        return {
            "outcome": JobState.FAILED,
            "reason": Reason(worst["reason"]),
            "message": _failure_message(record, worst, len(failed)),
            "exit_code": worst["exit_code"],
            "signal": worst["signal"],
        }
    return {"outcome": JobState.COMPLETED, "reason": Reason.COMPLETED, "exit_code": 0}


def _cancelled(record: Record, cut: list[sqlite3.Row]) -> dict[str, Any]:
    told: dict[str, Any] = {"outcome": JobState.CANCELLED, "reason": Reason.CANCELLED}
    if record.attempt["cancel_reason"] not in (None, Reason.CANCELLED.value):
        reason = Reason(record.attempt["cancel_reason"])
        told = {"outcome": JobState.FAILED, "reason": reason, "message": record.attempt["launch_fault"]}
    if cut and not record.attempt["array"] and not record.attempt["service"]:
        told |= {"exit_code": cut[0]["exit_code"], "signal": cut[0]["signal"]}
    return told


def _failure_message(record: Record, worst: sqlite3.Row, count: int) -> str | None:
    message: str | None = worst["message"]
    if not record.attempt["array"]:
        return message
    return f"{count} of {record.attempt['tasks']} tasks failed, first task {worst['idx']}: it {message}"


def _ended_at(record: Record) -> float | None:
    times = [one["ended_at"] for one in record.tasks if one["ended_at"] is not None]
    last: float | None = max(times, default=record.attempt["ended_at"] or record.attempt["cancelled_at"])
    return last


def outputs(spec: JobSpec, output_dir: str) -> dict[str, str]:
    """A relative path is below the output directory."""
    return {one.name: PurePosixPath(output_dir, one.path).as_uri() for one in spec.outputs}


# ---- services ----------------------------------------------------------------------------------------


def service_state(record: Record) -> dict[str, Any]:
    """RUNNING while a replica is ready.  ``was_ready`` falls in the same step in which ``restarts`` rises."""
    if is_over(record):
        return {"state": A.ENDED, **ending(record)}
    if record.attempt["was_ready"]:
        return {"state": A.RUNNING}
    if record.attempt["held"] and not record.tasks:
        return {"state": A.QUEUED, "reason": Reason.HELD}
    reason = Reason.STARTING if record.tasks else Reason.CAPACITY
    return {"state": A.QUEUED, "reason": reason, "message": shortfall.why(record)}


def serving(record: Record) -> list[sqlite3.Row]:
    """Replicas that take connections: ready, and not on their way out."""
    return [
        one
        for one in record.tasks
        if one["ready"] and one["retiring_at"] is None and one["state"] == "RUNNING"
    ]


def service(record: Record, host: str) -> ServiceObservation:
    row, ready = record.attempt, serving(record)
    live = [one for one in record.tasks if one["state"] != "ENDED" and one["retiring_at"] is None]
    port = record.proxy["port"] if record.proxy is not None else None
    wanted = 0 if row["cancelled_at"] is not None else row["replicas"]
    return ServiceObservation(
        endpoint=f"http://{host}:{port}" if port is not None and not is_over(record) else None,
        wanted=wanted,
        updated=sum(1 for one in live if one["revision"] == row["revision"]),
        ready=len(ready),
        revision=row["revision"],
        message=shortfall.why(record),
    )
