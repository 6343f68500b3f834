"""The agent's care for services: replicas, restarts with back-off, the process that holds the endpoint."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import time

from adapters.local import attempts, crash, launch, ledger, processes, queue, rollout, slots, words
from adapters.local.attempts import Record
from adapters.local.ledger import whole
from adapters.local.options import Options
from adapters.local.paths import Home
from adapters.local.watch import Watch
from api_spec.jobs import JobSpec

GOOD_AFTER_S = 60.0
"""A replica that ran this long starts again with the first pause."""
DRAIN_S = 30.0
"""How long the connections of a retiring replica may take to end."""
PROXY_PAUSE_S = 0.5


class Keeper:
    options: Options

    def __init__(self, connection: sqlite3.Connection, watch: Watch, home: Home) -> None:
        self.connection = connection
        self.watch = watch
        self.home = home
        self._specs: dict[tuple[int, int], JobSpec] = {}
        self._told: set[str] = set()  # launches that were asked to end
        self._shown: dict[int, object] = {}  # what a proxy was last told of
        self._spawned_at: dict[int, float] = {}
        self._patience = 0.0

    def turn(self) -> float:
        """Seconds until something may have to be done without being woken."""
        self._patience = float("inf")
        for record in attempts.live(self.connection, "service = ?"):
            if record.attempt["cancelled_at"] is None:
                self._keep(record)
            else:
                self._close(record)
        return self._patience

    def _soon(self, seconds: float) -> None:
        self._patience = min(self._patience, max(0.0, seconds))

    def _keep(self, record: Record) -> None:
        row = record.attempt
        self._note_readiness(record)
        for task in record.tasks:
            if task["state"] == "ENDED":
                self._after_its_end(task)
            elif task["state"] == "BACKOFF" and task["retiring_at"] is None:
                self._start_again(row, task)
            elif task["retiring_at"] is not None:
                self._see_off(task)
        if not (row["held"] and not record.tasks):
            self._roll(self._again(record))
        if record.tasks or row["replicas"]:
            self._keep_proxy(self._again(record))
        self._mind_the_time_limit(row)

    def _again(self, record: Record) -> Record:
        return attempts.live(self.connection, "seq = ?", record.attempt["seq"])[0]

    def _spec(self, row: sqlite3.Row, revision: int) -> JobSpec:
        key = row["seq"], revision
        if key not in self._specs:
            self._specs[key] = attempts.spec_of(self.connection, row, revision)
        return self._specs[key]

    # ---- one replica ---------------------------------------------------------------------------------

    def _after_its_end(self, task: sqlite3.Row) -> None:
        """A retired one is forgotten; any other starts again after a pause that doubles."""
        if task["retiring_at"] is not None:
            self.connection.execute("DELETE FROM tasks WHERE launch = ?", (task["launch"],))
            return
        lived = (task["ended_at"] or 0.0) - (task["started_at"] or task["ended_at"] or 0.0)
        failures = 0 if lived > GOOD_AFTER_S else task["failures"]
        pause = rollout.pause_s(failures)
        with whole(self.connection):
            moved = self.connection.execute(
                "UPDATE tasks SET state = 'BACKOFF', launch = ?, pid = NULL, born = NULL, boot = NULL,"
                " ready = 0, failures = ?, not_before = ? WHERE launch = ? AND state = 'ENDED'",
                (secrets.token_hex(16), failures + 1, time.time() + pause, task["launch"]),
            )
            self.connection.execute(
                "UPDATE attempts SET restarts = restarts + ? WHERE seq = ?", (moved.rowcount, task["attempt"])
            )
        self._soon(pause)

    def _start_again(self, row: sqlite3.Row, task: sqlite3.Row) -> None:
        """With the newest revision, and on another port, should the old one be what was wrong."""
        if (left := task["not_before"] - time.time()) > 0:
            self._soon(left)
            return
        self.connection.execute(
            "UPDATE tasks SET state = 'STARTING', port = ?, revision = ?, drained = 0"
            " WHERE launch = ? AND state = 'BACKOFF'",
            (_free_port(), row["revision"], task["launch"]),
        )

    def _see_off(self, task: sqlite3.Row) -> None:
        """It gets no new connections; when the last one has ended, or after a while, it is ended."""
        if ledger.end_unclaimed(
            self.connection, task["launch"], {"outcome": "CANCELLED", "reason": "Cancelled"}
        ):
            self._soon(0.0)
            return
        left = task["retiring_at"] + DRAIN_S - time.time()
        if not task["drained"] and left > 0:
            self._soon(left)
        elif task["launch"] not in self._told and task["pid"] is not None:
            self._told.add(task["launch"])
            processes.send(task["pid"], task["born"], signal.SIGTERM)

    # ---- all of them ---------------------------------------------------------------------------------

    def _roll(self, record: Record) -> None:
        row = record.attempt
        wanted_ones = [
            rollout.Replica(index=one["idx"], revision=one["revision"], ready=bool(one["ready"]))
            for one in record.tasks
            if one["retiring_at"] is None
        ]
        need = slots.need_of(self._spec(row, row["revision"]).resources)
        left = slots.free(self.options, queue.unfinished(self.connection))
        steps = rollout.next_steps(wanted_ones, row["replicas"], row["revision"], left.hold(need))
        for index in steps.retire:
            self.connection.execute(
                "UPDATE tasks SET retiring_at = ? WHERE attempt = ? AND idx = ?",
                (time.time(), row["seq"], index),
            )
            self._soon(0.0)
        used = {one["idx"] for one in record.tasks}
        for _ in range(steps.start):
            if not left.hold(need):
                return
            left, gpus = left.take(need)
            index = next(number for number in range(len(used) + 1) if number not in used)
            used.add(index)
            self._take_slot(row, index, need, gpus)

    def _take_slot(self, row: sqlite3.Row, index: int, need: slots.Need, gpus: tuple[int, ...]) -> None:
        self.connection.execute(
            "INSERT INTO tasks (attempt, idx, state, launch, revision, cpus, memory_mib, gpus, port)"
            " SELECT seq, ?, 'STARTING', ?, revision, ?, ?, ?, ? FROM attempts"
            " WHERE seq = ? AND revision = ? AND state = 'LIVE' AND cancelled_at IS NULL",
            (
                index,
                secrets.token_hex(16),
                need.cpus,
                need.memory_mib,
                ",".join(map(str, gpus)),
                _free_port(),
                row["seq"],
                row["revision"],
            ),
        )
        crash.point("agent.slot_taken")

    def _note_readiness(self, record: Record) -> None:
        """Going back to not ready counts as a restart, so that the job may go back to QUEUED."""
        ready, was = bool(words.serving(record)), bool(record.attempt["was_ready"])
        if ready != was:
            self.connection.execute(
                "UPDATE attempts SET was_ready = ?, restarts = restarts + ? WHERE seq = ?",
                (ready, was, record.attempt["seq"]),
            )

    def _mind_the_time_limit(self, row: sqlite3.Row) -> None:
        limit = self._spec(row, row["revision"]).time_limit_s
        if limit is None or row["started_at"] is None:
            return
        left = row["started_at"] + limit - time.time()
        self._soon(left)
        if left <= 0:
            self.connection.execute(
                "UPDATE attempts SET cancelled_at = ?, cancel_reason = 'TimeLimit', launch_fault = ?"
                " WHERE seq = ? AND cancelled_at IS NULL",
                (time.time(), f"ran into its time limit of {limit} s", row["seq"]),
            )

    # ---- the endpoint --------------------------------------------------------------------------------

    def _keep_proxy(self, record: Record) -> None:
        """There is one, and it hears of every change."""
        row, proxy = record.attempt, record.proxy
        key = _proxy_key(row)
        if key in self.watch or (proxy is not None and self._adopt(key, proxy)):
            shown = [(one["launch"], one["state"], one["retiring_at"]) for one in record.tasks]
            if proxy is not None and proxy["pid"] is not None and self._shown.get(row["seq"]) != shown:
                self._shown[row["seq"]] = shown
                processes.send(proxy["pid"], proxy["born"], signal.SIGHUP)
            return
        left = self._spawned_at.get(row["seq"], 0.0) + PROXY_PAUSE_S - time.monotonic()
        if left > 0:
            self._soon(left)
            return
        self._spawned_at[row["seq"]] = time.monotonic()
        attempt_dir = self.home.attempt(row["marker"])
        os.makedirs(attempt_dir, mode=0o700, exist_ok=True)
        lock = os.path.join(attempt_dir, "proxy.lock")
        arguments = [self.home.root, str(row["seq"]), self.options.service_host, lock]
        pid = launch.spawn_module("adapters.local.proxy", arguments, key)
        crash.point("agent.proxy_spawned")
        self.watch.add_child(key, pid)

    def _adopt(self, key: str, proxy: sqlite3.Row) -> bool:
        if proxy["pid"] is None:
            return False
        return self.watch.add(key, proxy["pid"], proxy["born"], proxy["boot"])

    def _close(self, record: Record) -> None:
        """The endpoint goes when the last replica has gone."""
        proxy, key = record.proxy, _proxy_key(record.attempt)
        if proxy is None or proxy["pid"] is None or any(one["state"] != "ENDED" for one in record.tasks):
            return
        if key in self.watch or self._adopt(key, proxy):
            processes.send(proxy["pid"], proxy["born"], signal.SIGTERM)
            return
        self.connection.execute("UPDATE proxies SET pid = NULL WHERE attempt = ?", (record.attempt["seq"],))


def _proxy_key(row: sqlite3.Row) -> str:
    return f"proxy-{row['id']}"


def _free_port() -> int:
    """Free now; should somebody take it before the replica does, the replica ends and starts on another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
