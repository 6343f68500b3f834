"""Who starts next: by priority, then first come, first served.

What does not fit now keeps its place, and those behind it wait: else a large job would never start.  Held
attempts and arrays at their ``max_running`` are passed over.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator

from adapters.local import attempts
from adapters.local.ledger import whole
from adapters.local.options import Options
from adapters.local.single_tasks import first_waiting
from adapters.local.slots import Need, free

WAITING = (
    "SELECT * FROM attempts WHERE state = 'LIVE' AND NOT service AND next < tasks AND NOT held"
    " AND cancelled_at IS NULL ORDER BY priority DESC, seq"
)


def unfinished(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM tasks WHERE state != 'ENDED'").fetchall()


def need_of(row: sqlite3.Row) -> Need:
    return Need(row["cpus"], row["memory_mib"], row["gpus"])


def give_slots(connection: sqlite3.Connection, options: Options) -> Iterator[str]:
    """The launches that got a slot, each as soon as the ledger has it."""
    left = free(options, unfinished(connection))
    seen = (-99, -1)
    while left.cpus > 0 or left.memory_mib > 0:
        row = next_waiting(connection, seen)
        if row is None or not left.hold(need_of(row)):
            return
        if not _may_run_more(connection, row):
            seen = -row["priority"], row["seq"]
            continue
        left, gpus = left.take(need_of(row))
        launch = take(connection, row, gpus)
        if launch is not None:
            yield launch


def next_waiting(connection: sqlite3.Connection, after: tuple[int, int] = (-99, -1)) -> sqlite3.Row | None:
    """The first in the queue behind a place, which is (minus the priority, sequence)."""
    row: sqlite3.Row | None = connection.execute(
        WAITING.replace(" ORDER", " AND (-priority, seq) > (?, ?) ORDER") + " LIMIT 1", after
    ).fetchone()
    return row


def _may_run_more(connection: sqlite3.Connection, row: sqlite3.Row) -> bool:
    if row["max_running"] is None:
        return True
    (running,) = connection.execute(
        "SELECT count(*) FROM tasks WHERE attempt = ? AND state != 'ENDED'", (row["seq"],)
    ).fetchone()
    return bool(running < row["max_running"])


def take(connection: sqlite3.Connection, row: sqlite3.Row, gpus: tuple[int, ...]) -> str | None:
    """The step that moves one task from the queue to STARTING; None when a cancel or a hold was faster."""
    launch = secrets.token_hex(16)
    with whole(connection):
        moved = connection.execute(
            "UPDATE attempts SET next = ? WHERE seq = ? AND next = ? AND state = 'LIVE' AND NOT held"
            " AND cancelled_at IS NULL",
            (first_waiting(connection, row, row["next"] + 1), row["seq"], row["next"]),
        )
        if moved.rowcount != 1:
            return None
        connection.execute(
            "INSERT INTO tasks (attempt, idx, state, launch, cpus, memory_mib, gpus)"
            " VALUES (?, ?, 'STARTING', ?, ?, ?, ?)",
            (
                row["seq"],
                attempts.unpack(row["indices"])[row["next"]],
                launch,
                row["cpus"],
                row["memory_mib"],
                ",".join(map(str, gpus)),
            ),
        )
    return launch
