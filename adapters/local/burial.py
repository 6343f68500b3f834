"""A task whose supervisor is dead: find out how it ended, or make sure that nothing of it runs."""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from adapters.local import crash, ledger, processes
from adapters.local.paths import Home, exit_record

log = logging.getLogger("adapters.local.agent")

# fmt: off
CANCELLED = {"outcome": "CANCELLED", "reason": "Cancelled"}
LOST = {
    "outcome": "FAILED", "reason": "Lost",
    "message": "lost its supervisor; what it had started was killed, and nobody knows how far it came",
}
NODE_LOST = {"outcome": "FAILED", "reason": "NodeLost", "message": "was running when the machine went down"}
# fmt: on


def bury(connection: sqlite3.Connection, home: Home, task: sqlite3.Row, mine: Collection[int]) -> bool:
    """End the task; ``mine``: the pids that the agent watches.  False: something of it does not die yet."""
    ending = recorded(home, task)
    if ending is None and task["boot"] != processes.boot_id():
        ending = NODE_LOST
    if ending is None:
        kill_orphans(mine)
        if not processes.kill_leftovers(task["launch"]):
            log.error("processes of %s task %s do not die", task["marker"], task["idx"])
            return False
        crash.point("agent.leftovers_killed")
        ending = recorded(home, task) or (CANCELLED if _was_cancelled(task) else LOST)
    ledger.end(connection, task["launch"], ending)
    crash.point("agent.buried")
    return True


def _was_cancelled(task: sqlite3.Row) -> bool:
    """With its attempt, or alone; a replica that retires makes room for another one."""
    return task["cancelled_at"] is not None or (task["retiring_at"] is not None and not task["service"])


def recorded(home: Home, task: sqlite3.Row) -> Mapping[str, Any] | None:
    """What the supervisor wrote before it died."""
    try:
        with open(exit_record(home.task(task["marker"], task["idx"]), task["launch"])) as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return found


def kill_orphans(mine: Collection[int]) -> None:
    """Children that we did not start come from dead supervisors; they may have changed their environment."""
    for pid in processes.children(os.getpid()):
        if pid not in mine:
            processes.signal_all([*processes.descendants(pid), pid], signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
