"""Why fewer replicas of a service are ready than wanted, in a sentence for its owner.  Pure.

The sentence changes only when something happens, never with the time or with what other jobs do: each change
of it is written to the store.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from adapters.local import rollout
from adapters.local.attempts import Record


def why(record: Record) -> str | None:
    """None: every replica that is wanted is there and ready, or the service is to end."""
    row = record.attempt
    if row["state"] != "LIVE" or row["cancelled_at"] is not None:
        return None
    staying = [one for one in record.tasks if one["retiring_at"] is None]
    if row["held"] and not staying:
        return "the job is held: no replica is started" if row["replicas"] else None
    failing = [one for one in staying if not one["ready"] and _has_failed(one)]
    starting = [one for one in staying if one["state"] == "STARTING" and not _has_failed(one)]
    silent = [one for one in staying if one["state"] == "RUNNING" and not (one["ready"] or _has_failed(one))]
    told = [
        _worst(failing),
        _first(silent, "runs, and its health path is not answered 2xx on its port (BROKER_PORT)"),
        _first(starting, "is being started"),
        _missing(row, row["replicas"] - len(staying)),
    ]
    return "; ".join(filter(None, told)) or None


def _has_failed(task: sqlite3.Row) -> bool:
    return task["state"] in ("ENDED", "BACKOFF") or task["failures"] > 0


def _worst(failing: Sequence[sqlite3.Row]) -> str | None:
    """Of several the one that failed last; what it does now, how its last run ended, and how often it did."""
    if not failing:
        return None
    last = max(failing, key=lambda one: one["ended_at"] or 0.0)
    ended = last["message"] or "ended with exit code 0, though it is to go on"
    times = f", {last['failures']} times in a row" if last["failures"] > 1 else ""
    if last["state"] in ("STARTING", "RUNNING"):
        now = "it is started again" if last["state"] == "STARTING" else "it runs again and is not ready yet"
    elif last["failures"]:
        now = f"it starts again after {rollout.pause_s(last['failures'] - 1):g} s"
    else:
        now = "it starts again"
    return _counted(last, f"{ended}{times}; {now}", len(failing))


def _first(tasks: Sequence[sqlite3.Row], what: str) -> str | None:
    return _counted(tasks[0], what, len(tasks)) if tasks else None


def _counted(task: sqlite3.Row, what: str, count: int) -> str:
    others = f" (and {count - 1} more)" if count > 1 else ""
    return f"replica {task['idx']}{others} {what}"


def _missing(row: sqlite3.Row, count: int) -> str | None:
    """Numbers of the first revision; what is free at the moment is for ``explain``."""
    if count <= 0:
        return None
    asked = [f"{row['cpus']} CPU{'s' if row['cpus'] != 1 else ''}"]
    asked += [f"{row['memory_mib']} MiB of memory"] if row["memory_mib"] else []
    asked += [f"{row['gpus']} GPU{'s' if row['gpus'] != 1 else ''}"] if row["gpus"] else []
    subject = "1 replica waits" if count == 1 else f"{count} replicas wait"
    return f"{subject} for free slots on this machine; each asks for {', '.join(asked)}"
