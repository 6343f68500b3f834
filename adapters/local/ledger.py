"""The ledger: SQLite, the truth of this backend.  Tables, connections, and the steps of one task's life.

| table       | one row is                                                                                |
|-------------|-------------------------------------------------------------------------------------------|
| attempts    | what was submitted; LIVE, ENDED, CLEANED (a tombstone), FENCED (cancelled before it came) |
| tasks       | one task or replica that was started at least once; those that still wait have no row     |
| starts      | one start: written in the step that claims it, so it says how often a thing was started   |
| revisions   | the specs of a service after its first                                                    |
| proxies     | the process that holds a service's endpoint                                               |

A task goes ``STARTING -> RUNNING -> ENDED``; a replica also waits in ``BACKOFF`` before it starts again.
``launch`` names one start.  It is claimed at most once, by the supervisor that is about to run it: so no
death of anybody can start it twice.  Light imports only: every supervisor loads this module.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

BUSY_S = 20.0
"""How long a statement waits for another writer; each holds the lock for one short transaction."""

VERSION = 1

SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, marker TEXT NOT NULL UNIQUE, id TEXT NOT NULL,
  digest TEXT NOT NULL, ref TEXT NOT NULL, spec TEXT NOT NULL, submitted_at REAL NOT NULL,
  priority INTEGER NOT NULL DEFAULT 0, service INTEGER NOT NULL DEFAULT 0, array INTEGER NOT NULL DEFAULT 0,
  indices TEXT NOT NULL DEFAULT '0', tasks INTEGER NOT NULL DEFAULT 1, next INTEGER NOT NULL DEFAULT 0,
  max_running INTEGER, cpus INTEGER NOT NULL DEFAULT 1, memory_mib INTEGER NOT NULL DEFAULT 0,
  gpus INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'LIVE', held INTEGER NOT NULL DEFAULT 0,
  cancelled_at REAL, cancel_reason TEXT, revision INTEGER NOT NULL DEFAULT 1, replicas INTEGER,
  was_ready INTEGER NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0, started_at REAL,
  ended_at REAL, launch_fault TEXT
);
CREATE TABLE IF NOT EXISTS tasks (
  attempt INTEGER NOT NULL, idx INTEGER NOT NULL, state TEXT NOT NULL, launch TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL DEFAULT 1, cpus INTEGER NOT NULL DEFAULT 1,
  memory_mib INTEGER NOT NULL DEFAULT 0, gpus TEXT NOT NULL DEFAULT '', pid INTEGER, born INTEGER,
  boot TEXT, asked_at REAL, port INTEGER, ready INTEGER NOT NULL DEFAULT 0, retiring_at REAL,
  drained INTEGER NOT NULL DEFAULT 0, not_before REAL, failures INTEGER NOT NULL DEFAULT 0, outcome TEXT,
  reason TEXT, message TEXT, exit_code INTEGER, signal INTEGER, started_at REAL, ended_at REAL,
  PRIMARY KEY (attempt, idx)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS starts (
  launch TEXT PRIMARY KEY, attempt INTEGER NOT NULL, idx INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
  attempt INTEGER NOT NULL, revision INTEGER NOT NULL, spec TEXT NOT NULL, PRIMARY KEY (attempt, revision)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS proxies (
  attempt INTEGER PRIMARY KEY, port INTEGER, pid INTEGER, born INTEGER, boot TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON attempts (priority DESC, seq) WHERE state = 'LIVE';
CREATE INDEX IF NOT EXISTS unfinished ON tasks (state) WHERE state != 'ENDED';
"""


def create(path: str) -> None:
    """Make the ledger, or find it as it is.  Raises ``sqlite3.Error``."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with opened(path) as connection:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.DatabaseError(f"the ledger has version {version}, this program reads {VERSION}")
        if version < VERSION:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


@contextmanager
def opened(path: str) -> Iterator[sqlite3.Connection]:
    """One connection for one piece of work: safe over threads and forks.

    Raises ``sqlite3.Error``, also when there is no ledger: a lost one must not look like an empty one.
    """
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{quoted}?mode=rw", timeout=BUSY_S, isolation_level=None, uri=True)
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        yield connection
    finally:
        connection.close()


@contextmanager
def whole(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, and nobody in between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Several reads that see the same state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


# ---- the life of a task ------------------------------------------------------------------------------


def claim(connection: sqlite3.Connection, launch: str, pid: int, born: int, boot: str) -> bool:
    """The step right before a start.  Of all supervisors that ever try, one gets True."""
    now = time.time()
    with whole(connection):
        claimed = connection.execute(
            "UPDATE tasks SET state = 'RUNNING', pid = ?, born = ?, boot = ?, started_at = ?"
            " WHERE launch = ? AND state = 'STARTING' AND pid IS NULL",
            (pid, born, boot, now, launch),
        )
        if claimed.rowcount != 1:
            return False
        connection.execute(
            "INSERT INTO starts SELECT launch, attempt, idx, ? FROM tasks WHERE launch = ?", (now, launch)
        )
        connection.execute(
            "UPDATE attempts SET started_at = ? WHERE started_at IS NULL"
            " AND seq = (SELECT attempt FROM tasks WHERE launch = ?)",
            (now, launch),
        )
    return True


def end(connection: sqlite3.Connection, launch: str, ending: Mapping[str, Any]) -> bool:
    """False when it had ended before: the first ending is the one that counts."""
    done = connection.execute(
        "UPDATE tasks SET state = 'ENDED', outcome = :outcome, reason = :reason, message = :message,"
        " exit_code = :exit_code, signal = :signal, ended_at = :ended_at, ready = 0"
        " WHERE launch = :launch AND state IN ('STARTING', 'RUNNING')",
        {"message": None, "exit_code": None, "signal": None, "ended_at": time.time(), **ending}
        | {"launch": launch},
    )
    return done.rowcount == 1


def end_unclaimed(connection: sqlite3.Connection, launch: str, ending: Mapping[str, Any]) -> bool:
    """True: no supervisor has it, and none can get it any more."""
    done = connection.execute(
        "UPDATE tasks SET state = 'ENDED', outcome = :outcome, reason = :reason, message = :message,"
        " ended_at = :ended_at WHERE launch = :launch AND pid IS NULL AND state IN ('STARTING', 'BACKOFF')",
        {"message": None, "ended_at": time.time(), **ending} | {"launch": launch},
    )
    return done.rowcount == 1
