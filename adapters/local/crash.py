"""Named places between two effects, where a test can make a process die.  Off unless the environment asks.

``BROKER_LOCAL_CRASH`` holds the name of a point, ``BROKER_LOCAL_CRASH_ONCE`` a file that is made by the
process that dies there first, so that those which come after it pass.
"""

from __future__ import annotations

import os
import signal

VARIABLES = ("BROKER_LOCAL_CRASH", "BROKER_LOCAL_CRASH_ONCE")
_wanted = os.environ.get(VARIABLES[0])

POINTS = (
    "submit.recorded",  # the ledger has the attempt, the agent was not told
    "agent.slot_taken",  # the ledger says STARTING, nothing was spawned
    "agent.spawned",  # a supervisor starts, the agent does not watch it yet
    "supervisor.planned",  # before the claim
    "supervisor.claimed",  # the claim is committed, nothing runs
    "supervisor.forked",  # the job runs
    "supervisor.ended",  # the job has ended, nothing is recorded
    "supervisor.exit_recorded",  # the exit record is written, the ledger does not know
    "supervisor.reported",  # the ledger knows, the agent was not told
    "agent.leftovers_killed",  # of a dead supervisor; the task is not ended yet
    "agent.buried",  # a dead supervisor's task is ended
    "agent.attempt_ended",
    "agent.proxy_spawned",
)


def point(name: str) -> None:
    if _wanted == name and _first():
        os.kill(os.getpid(), signal.SIGKILL)


def _first() -> bool:
    once = os.environ.get(VARIABLES[1])
    if once is None:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True
