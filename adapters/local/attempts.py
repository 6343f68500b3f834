"""Attempts in the ledger: what the adapter writes and both sides read.  See ``ledger`` for the tables."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from adapters.base import AttemptRef
from adapters.local import codec
from adapters.local.ledger import at_one_moment, whole
from api_spec.jobs import JobSpec, Priority

PRIORITIES = {Priority.LOW: -1, Priority.NORMAL: 0, Priority.HIGH: 1}


@dataclass(frozen=True)
class Record:
    """One attempt and those of its tasks that were started at least once."""

    attempt: sqlite3.Row
    tasks: Sequence[sqlite3.Row]
    proxy: sqlite3.Row | None = None


def pack(indices: Sequence[int]) -> str:
    """``0-3,7``: a whole array of 10,000 in a few bytes."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ",".join(f"{first}-{last}" if first != last else f"{first}" for first, last in parts)


def unpack(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


# ---- what the adapter writes -------------------------------------------------------------------------


def record(connection: sqlite3.Connection, ref: AttemptRef, spec: JobSpec) -> sqlite3.Row:
    """One INSERT; the row that was there before, if the marker was.  The caller compares the digests."""
    text = codec.dump_spec(spec)
    indices: Sequence[int] = (0,)
    if spec.array is not None:
        indices = ref.task_indices or spec.array.task_indices
    replicas = None
    if spec.service is not None:
        replicas = spec.service.replicas.min if ref.replicas is None else ref.replicas
    connection.execute(
        "INSERT INTO attempts (marker, id, digest, ref, spec, submitted_at, priority, service, array,"
        " indices, tasks, max_running, revision, replicas, cpus, memory_mib, gpus)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (marker) DO NOTHING",
        (
            ref.marker,
            secrets.token_hex(8),
            digest_of(ref, spec),
            codec.dump_ref(ref),
            text,
            time.time(),
            PRIORITIES[spec.priority],
            spec.service is not None,
            spec.array is not None,
            pack(indices),
            len(indices),
            spec.array.max_running if spec.array else None,
            ref.revision,
            replicas,
            spec.resources.cpus_per_node,
            spec.resources.memory_per_node_mib or 0,
            spec.resources.gpus_per_node,
        ),
    )
    row: sqlite3.Row = connection.execute("SELECT * FROM attempts WHERE marker = ?", (ref.marker,)).fetchone()
    return row


def digest_of(ref: AttemptRef, spec: JobSpec) -> str:
    return ref.digest or codec.digest(codec.dump_spec(spec))


def ask_for_the_end(connection: sqlite3.Connection, marker: str) -> None:
    """Cancel.  What is not there is fenced: should its submission arrive late, it is refused."""
    now = time.time()
    with whole(connection):
        connection.execute(
            "INSERT INTO attempts (marker, id, digest, ref, spec, submitted_at, state, cancelled_at)"
            " VALUES (?, '', '', '{}', '', ?, 'FENCED', ?) ON CONFLICT (marker) DO NOTHING",
            (marker, now, now),
        )
        connection.execute(
            "UPDATE attempts SET cancelled_at = ?, cancel_reason = 'Cancelled'"
            " WHERE marker = ? AND state = 'LIVE' AND cancelled_at IS NULL",
            (now, marker),
        )


def set_held(connection: sqlite3.Connection, marker: str, held: bool) -> None:
    connection.execute(
        "UPDATE attempts SET held = ? WHERE marker = ? AND state = 'LIVE' AND held != ?", (held, marker, held)
    )


def change_service(connection: sqlite3.Connection, ref: AttemptRef, spec: JobSpec) -> None:
    """A newer revision's spec, and the replicas wanted; an older revision changes nothing."""
    replicas = ref.replicas
    if replicas is None and spec.service is not None:
        replicas = spec.service.replicas.min
    with whole(connection):
        row = connection.execute(
            "SELECT seq, revision FROM attempts WHERE marker = ? AND state = 'LIVE' AND service",
            (ref.marker,),
        ).fetchone()
        if row is None or row["revision"] > ref.revision:
            return
        if row["revision"] < ref.revision:
            connection.execute(
                "INSERT OR IGNORE INTO revisions VALUES (?, ?, ?)",
                (row["seq"], ref.revision, codec.dump_spec(spec)),
            )
        connection.execute(
            "UPDATE attempts SET revision = ?, replicas = ? WHERE seq = ?",
            (ref.revision, replicas, row["seq"]),
        )


def bury(connection: sqlite3.Connection, ended: Record) -> None:
    """Keep a tombstone of an attempt that is over, so that it can never start again."""
    seq = ended.attempt["seq"]
    with whole(connection):
        connection.execute(
            "UPDATE attempts SET state = 'CLEANED', spec = '', ref = '{}' WHERE seq = ?", (seq,)
        )
        for table in ("tasks", "revisions", "proxies"):
            connection.execute(f"DELETE FROM {table} WHERE attempt = ?", (seq,))  # noqa: S608


# ---- what both sides read ----------------------------------------------------------------------------


def known(connection: sqlite3.Connection, marker: str) -> sqlite3.Row | None:
    """Live or ended; not a tombstone."""
    row: sqlite3.Row | None = connection.execute(
        "SELECT * FROM attempts WHERE marker = ? AND state IN ('LIVE', 'ENDED')", (marker,)
    ).fetchone()
    return row


def of_markers(connection: sqlite3.Connection, markers: Collection[str]) -> list[Record]:
    return _records(connection, "marker IN (SELECT value FROM json_each(?))", json.dumps(sorted(markers)))


def since(connection: sqlite3.Connection, moment: float) -> list[Record]:
    return _records(connection, "(state = 'LIVE' OR max(submitted_at, ifnull(ended_at, 0)) >= ?)", moment)


def live(connection: sqlite3.Connection, which: str = "1 = ?", value: object = 1) -> list[Record]:
    return _records(connection, f"state = 'LIVE' AND {which}", value)


def none_is_live(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM attempts WHERE state = 'LIVE' LIMIT 1").fetchone() is None


def _records(connection: sqlite3.Connection, which: str, value: object) -> list[Record]:
    """``which`` is text of ours, never of a user."""
    chosen = f"SELECT seq FROM attempts WHERE state IN ('LIVE', 'ENDED') AND {which}"  # noqa: S608
    with at_one_moment(connection):
        rows = connection.execute(
            f"SELECT * FROM attempts WHERE seq IN ({chosen}) ORDER BY seq",  # noqa: S608
            (value,),
        ).fetchall()
        tasks = connection.execute(
            f"SELECT * FROM tasks WHERE attempt IN ({chosen}) ORDER BY attempt, idx",  # noqa: S608
            (value,),
        ).fetchall()
        proxies = connection.execute(
            f"SELECT * FROM proxies WHERE attempt IN ({chosen})",  # noqa: S608
            (value,),
        ).fetchall()
    by_attempt: dict[int, list[sqlite3.Row]] = {}
    for task in tasks:
        by_attempt.setdefault(task["attempt"], []).append(task)
    proxy_of = {proxy["attempt"]: proxy for proxy in proxies}
    return [Record(row, by_attempt.get(row["seq"], ()), proxy_of.get(row["seq"])) for row in rows]


def spec_of(connection: sqlite3.Connection, attempt: sqlite3.Row, revision: int) -> JobSpec:
    """Of that revision of a service; other jobs have one."""
    row = connection.execute(
        "SELECT spec FROM revisions WHERE attempt = ? AND revision = ?", (attempt["seq"], revision)
    ).fetchone()
    return codec.load_spec(attempt["spec"] if row is None else row["spec"])


def starts(connection: sqlite3.Connection, marker: str) -> list[tuple[int, float]]:
    """(index, time) of every start that was ever claimed for an attempt; tombstones keep theirs."""
    rows = connection.execute(
        "SELECT s.idx, s.at FROM starts s JOIN attempts a ON a.seq = s.attempt"
        " WHERE a.marker = ? ORDER BY s.at",
        (marker,),
    )
    return [(row["idx"], row["at"]) for row in rows]
