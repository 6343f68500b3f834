"""Why an attempt waits, best reason first, with the numbers."""

from __future__ import annotations

import sqlite3

from adapters.local import attempts, queue, shortfall, slots
from adapters.local.options import Options
from api_spec.decisions import Refusal
from api_spec.reasons import PENDING, Reason


def pending(connection: sqlite3.Connection, marker: str, options: Options) -> list[Refusal]:
    """Empty for what does not wait."""
    row = attempts.known(connection, marker)
    if row is None or row["state"] != "LIVE" or row["cancelled_at"] is not None:
        return []
    unfinished = queue.unfinished(connection)
    mine = [task for task in unfinished if task["attempt"] == row["seq"]]
    found = [
        *_starting(connection, row, mine),
        *(_waits_for_a_slot(connection, row, unfinished, options) if _waits(row, mine) else ()),
    ]
    return sorted(found, key=lambda one: PENDING.index(one.code))


def _waits(row: sqlite3.Row, mine: list[sqlite3.Row]) -> bool:
    if row["service"]:
        return len(mine) < (row["replicas"] or 0)
    return bool(row["next"] < row["tasks"])


def _starting(connection: sqlite3.Connection, row: sqlite3.Row, mine: list[sqlite3.Row]) -> list[Refusal]:
    """A service whose replicas all run, and none is ready, is starting too."""
    if row["service"]:
        if all(task["ready"] or task["retiring_at"] is not None for task in mine):
            return []
        (record,) = attempts.live(connection, "seq = ?", row["seq"])
        return [Refusal(Reason.STARTING, shortfall.why(record) or "a replica is being started")]
    if any(task["state"] == "STARTING" for task in mine):
        return [Refusal(Reason.STARTING, "a process is being started")]
    return []


def _waits_for_a_slot(
    connection: sqlite3.Connection, row: sqlite3.Row, unfinished: list[sqlite3.Row], options: Options
) -> list[Refusal]:
    need = queue.need_of(row)
    if never := slots.shortage(need, slots.whole(options), Reason.NEVER_FITS, "the machine has"):
        return never
    found = slots.shortage(need, slots.free(options, unfinished), Reason.CAPACITY, "free are")
    if row["held"]:
        found.append(Refusal(Reason.HELD, "the job is held"))
    running = sum(1 for task in unfinished if task["attempt"] == row["seq"])
    if row["max_running"] is not None and running >= row["max_running"]:
        found.append(
            Refusal(
                Reason.CAPACITY,
                f"{running} of its tasks run, and it allows {row['max_running']}",
                "/array/max_running",
            )
        )
    if ahead := _ahead(connection, row):
        found.append(Refusal(Reason.PRIORITY, f"{ahead} jobs are ahead in the queue"))
    return found


def _ahead(connection: sqlite3.Connection, row: sqlite3.Row) -> int:
    (count,) = connection.execute(
        f"SELECT count(*) FROM ({queue.WAITING}) WHERE priority > ? OR (priority = ? AND seq < ?)",  # noqa: S608
        (row["priority"], row["priority"], row["seq"]),
    ).fetchone()
    return int(count)
