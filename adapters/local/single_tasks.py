"""Single tasks of an array in the ledger: where the queue goes on, and how one of them is cancelled.

A task that waits has no row.  One that is cancelled meanwhile gets the row of its end, so that the queue
passes it over; one that runs is told to go, and the agent sees to that (``retiring_at``).
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Collection

from adapters.local import attempts
from adapters.local.ledger import whole


def ask_for_the_end(connection: sqlite3.Connection, marker: str, indices: Collection[int]) -> None:
    """Of those that the attempt has and that have not ended; repeated, it does nothing."""
    now = time.time()
    with whole(connection):
        row = connection.execute(
            "SELECT * FROM attempts WHERE marker = ? AND state = 'LIVE' AND array", (marker,)
        ).fetchone()
        if row is None:
            return
        asked = sorted(set(indices).intersection(attempts.unpack(row["indices"])))
        connection.executemany(
            "INSERT INTO tasks (attempt, idx, state, launch, outcome, reason, ended_at)"
            " VALUES (?, ?, 'ENDED', ?, 'CANCELLED', 'Cancelled', ?) ON CONFLICT (attempt, idx) DO NOTHING",
            [(row["seq"], index, secrets.token_hex(16), now) for index in asked],
        )
        connection.executemany(
            "UPDATE tasks SET retiring_at = ? WHERE attempt = ? AND idx = ? AND state != 'ENDED'"
            " AND retiring_at IS NULL",
            [(now, row["seq"], index) for index in asked],
        )
        connection.execute(
            "UPDATE attempts SET next = ? WHERE seq = ?",
            (first_waiting(connection, row, row["next"]), row["seq"]),
        )


def first_waiting(connection: sqlite3.Connection, row: sqlite3.Row, position: int) -> int:
    """The place in the attempt's indices, from ``position`` on, of the first task without a row."""
    indices = attempts.unpack(row["indices"])
    known = "SELECT 1 FROM tasks WHERE attempt = ? AND idx = ?"
    while position < len(indices) and connection.execute(known, (row["seq"], indices[position])).fetchone():
        position += 1
    return position
