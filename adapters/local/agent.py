"""The agent: one for each data directory.  It gives slots to what waits and looks after what runs.

    python -m adapters.local.agent DIR [--detach | --stop]

Everything it knows is in the ledger: killed at any moment, the next one goes on.  It sleeps until it is
woken, a process dies or a moment comes.  Jobs outlive it.

SIGTERM stops it, and jobs go on.  SIGURG (``daemon.LEAVE_WHEN_IDLE``) lets it go once no attempt is live.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path
from types import FrameType

from adapters.local import attempts, burial, crash, daemon, ledger, options, processes, queue, replicas, wake
from adapters.local.paths import Home
from adapters.local.starter import Starter
from adapters.local.watch import Watch

log = logging.getLogger("adapters.local.agent")

HEARTBEAT_S = 15.0
"""At the latest then it looks again, should a wake-up have been lost."""
STUBBORN_S = 5.0
"""How long after its grace a supervisor that was told to cancel may take before it is killed."""


class Wishes:
    """What signals have asked of this process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.stop = self.leave_when_idle = False
        signal.signal(signal.SIGTERM, self._heard)
        signal.signal(signal.SIGINT, self._heard)
        signal.signal(daemon.LEAVE_WHEN_IDLE, self._heard)

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """Acted on between two turns."""
        if number == daemon.LEAVE_WHEN_IDLE:
            self.leave_when_idle = True
        else:
            self.stop = True
        wake.nudge(self.home.wake)


class Agent:
    def __init__(self, home: Home, connection: sqlite3.Connection, watch: Watch) -> None:
        self.home = home
        self.connection = connection
        self.watch = watch
        self.told: dict[str, float] = {}  # launches that were asked to end -> when they are killed
        self.starter = Starter(connection, watch, home)
        self.keeper = replicas.Keeper(connection, watch, home)
        self._read_options()

    def _read_options(self) -> None:
        """Each turn: an operator may have given the backend other slots."""
        self.options = options.from_json(Path(self.home.options).read_text())
        self.starter.options = self.keeper.options = self.options

    def turn(self) -> float:
        """Look at everything once.  Seconds until something may have to be done without being woken."""
        self._read_options()
        self._bury_the_dead()
        patience = self._end_what_was_cancelled()
        patience = min(patience, self.keeper.turn())
        for launch in queue.give_slots(self.connection, self.options):
            crash.point("agent.slot_taken")
            log.debug("slot for %s", launch)
        patience = min(patience, self.starter.start_what_has_a_slot())
        self._end_attempts()
        return patience

    def _bury_the_dead(self) -> None:
        for task in self._tasks("t.state = 'RUNNING'"):
            if task["launch"] in self.watch:
                continue
            if not self.watch.add(task["launch"], task["pid"], task["born"], task["boot"]):
                burial.bury(self.connection, self.home, task, self.watch.pids())

    def _tasks(self, which: str) -> list[sqlite3.Row]:
        return self.connection.execute(
            "SELECT t.*, a.marker, a.service, a.cancelled_at"  # noqa: S608
            f" FROM tasks t JOIN attempts a ON a.seq = t.attempt WHERE {which}"  # text of ours
        ).fetchall()

    def _end_what_was_cancelled(self) -> float:
        """Level-triggered: a new agent tells them again, which does them no harm."""
        patience, now = HEARTBEAT_S, time.monotonic()
        ending = self._tasks(
            "t.state != 'ENDED' AND (a.cancelled_at IS NOT NULL"
            " OR (t.retiring_at IS NOT NULL AND NOT a.service))"
        )
        for task in ending:
            launch = task["launch"]
            if ledger.end_unclaimed(self.connection, launch, burial.CANCELLED):
                continue
            if task["pid"] is None:  # claimed since the row was read
                patience = 0.0
                continue
            if launch not in self.told:
                self.told[launch] = now + self.starter.grace_of(task) + STUBBORN_S
                processes.send(task["pid"], task["born"], signal.SIGTERM)
            elif (
                now >= self.told[launch]
            ):  # it does not act; its death is noticed, and its leftovers are killed
                processes.send(task["pid"], task["born"], signal.SIGKILL)
            patience = min(patience, max(0.5, self.told[launch] - now))
        self.told = {one["launch"]: self.told[one["launch"]] for one in ending if one["launch"] in self.told}
        return patience

    def _end_attempts(self) -> None:
        ended = self.connection.execute(
            "UPDATE attempts SET state = 'ENDED', was_ready = 0, ended_at ="
            " ifnull((SELECT max(ended_at) FROM tasks WHERE attempt = seq), ?)"
            " WHERE state = 'LIVE' AND (cancelled_at IS NOT NULL OR (NOT service AND next >= tasks))"
            " AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.attempt = seq AND t.state != 'ENDED')"
            " AND NOT EXISTS (SELECT 1 FROM proxies p WHERE p.attempt = seq AND p.pid IS NOT NULL)",
            (time.time(),),
        )
        if ended.rowcount:
            crash.point("agent.attempt_ended")

    # ---- the loop ------------------------------------------------------------------------------------

    def run(self, lock: int, wishes: Wishes) -> bool:
        """True: it was to leave when idle, and it is.  False: it was stopped; jobs go on."""
        patience = 0.0
        while not wishes.stop and daemon.still_ours(self.home.lock, lock):
            try:
                self.watch.wait(patience)
                patience = self.turn()
                if wishes.leave_when_idle and attempts.none_is_live(self.connection):
                    return True
            except Exception:  # the outermost loop: one bad job must not take the agent from the others
                log.exception("a turn failed; the next one is in a second")
                patience = 1.0
        return False


def serve(root: str, ready: int | None) -> int:
    """Until it is stopped, or idle when that was asked for; 0 also when another agent is there already."""
    home = Home(root)
    os.umask(0o077)
    processes.reset_signals(*processes.ERRORS_INSTEAD)
    processes.adopt_orphans()
    serve_while_wanted(home, Wishes(home), ready)
    return 0


def serve_while_wanted(home: Home, wishes: Wishes, ready: int | None) -> None:
    """Returns when it was stopped, or has left and nothing came meanwhile, or another agent serves."""
    # Who submits before the pipe is closed wakes nobody but this agent.  Who submits after it starts another
    # one, which goes again while the lock is held.  So the look that counts comes after both: it sees what
    # was submitted by then, and who submits later finds the lock free.
    while _serve(home, wishes, ready) and not _is_idle(home):
        log.info("a job came while the agent was leaving")
        ready = None


def _is_idle(home: Home) -> bool:
    with ledger.opened(home.ledger) as connection:
        return attempts.none_is_live(connection)


def _serve(home: Home, wishes: Wishes, ready: int | None) -> bool:
    """True: it left because nothing was live."""
    lock = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another agent serves %s", home.root)
        os.close(lock)
        return False
    daemon.write_identity(lock)
    watch = Watch(home.wake)
    try:
        with ledger.opened(home.ledger) as connection:
            agent = Agent(home, connection, watch)
            daemon.say_ready(ready)
            idle = agent.run(lock, wishes)
            log.info("nothing is left to do" if idle else "stopped; jobs go on")
            return idle
    finally:
        watch.close()
        os.close(lock)


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[1] == "--stop":
        return 0 if daemon.stop_agent(arguments[0]) else 1
    if not arguments or arguments[1:] not in ([], ["--detach"]):
        print(__doc__, file=sys.stderr)
        return 2
    ready = daemon.detach(arguments[0]) if arguments[1:] else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    return serve(arguments[0], ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
