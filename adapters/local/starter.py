"""Starts what has a slot: directories, plan, supervisor.  Safe to repeat, because a start is claimed once."""

from __future__ import annotations

import logging
import sqlite3

from adapters import secret_files
from adapters.local import attempts, codec, crash, launch, ledger
from adapters.local.environment import Seat
from adapters.local.options import Options
from adapters.local.paths import Home
from adapters.local.slots import gpu_indices
from adapters.local.watch import Watch

log = logging.getLogger("adapters.local.agent")

TRIES = 3
"""Supervisors that died before they claimed their start; then the task ends, or it would go on for ever."""


class Starter:
    options: Options

    def __init__(self, connection: sqlite3.Connection, watch: Watch, home: Home) -> None:
        self.connection = connection
        self.watch = watch
        self.home = home
        self._tries: dict[str, int] = {}

    def start_what_has_a_slot(self) -> float:
        """One supervisor for every start that has none.  Seconds until it wants to look again."""
        starting = self.connection.execute(
            "SELECT * FROM tasks WHERE state = 'STARTING' AND pid IS NULL ORDER BY attempt, idx"
        ).fetchall()
        self._tries = {
            one["launch"]: self._tries[one["launch"]] for one in starting if one["launch"] in self._tries
        }
        started = [self._start(task) for task in starting if task["launch"] not in self.watch]
        return float("inf") if all(started) else 0.0

    def _start(self, task: sqlite3.Row) -> bool:
        """False: it was given up, and its slot is free."""
        tries = self._tries[task["launch"]] = self._tries.get(task["launch"], 0) + 1
        if tries > TRIES:
            return self._give_up(task, "could not be started; see the agent's log")
        try:
            planned = self._planned(task)
            pid = launch.spawn(planned)
        except secret_files.Missing as error:
            return self._give_up(task, str(error))
        except OSError as error:
            log.warning("attempt %s task %s", task["attempt"], task["idx"], exc_info=True)
            return self._give_up(task, f"could not be started: {error.strerror}")
        crash.point("agent.spawned")
        self.watch.add_child(task["launch"], pid)
        return True

    def _planned(self, task: sqlite3.Row) -> launch.Plan:
        attempt = self._attempt(task)
        spec = attempts.spec_of(self.connection, attempt, task["revision"])
        ref = codec.load_ref(attempt["ref"])
        gpus = gpu_indices(task["gpus"])
        seat = Seat(index=task["idx"], revision=task["revision"], port=task["port"], gpus=gpus)
        planned = launch.plan(spec, ref, seat, self.home.root, self.options)
        launch.prepare(spec, ref, planned, task["revision"])
        return launch.complete(planned, spec, self.options, task["launch"])

    def _attempt(self, task: sqlite3.Row) -> sqlite3.Row:
        row: sqlite3.Row = self.connection.execute(
            "SELECT * FROM attempts WHERE seq = ?", (task["attempt"],)
        ).fetchone()
        return row

    def grace_of(self, task: sqlite3.Row) -> float:
        spec = attempts.spec_of(self.connection, self._attempt(task), task["revision"])
        return launch.grace_s(spec, self.options)

    def _give_up(self, task: sqlite3.Row, message: str) -> bool:
        ending = {"outcome": "FAILED", "reason": "LaunchFailed", "message": message}
        ledger.end_unclaimed(self.connection, task["launch"], ending)
        return False
