"""Starting, finding and stopping the agent of a data directory."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

from adapters.local import attempts, launch, ledger, processes, wake
from adapters.local.options import Options, to_json
from adapters.local.paths import Home
from adapters.local.supervisor import write_whole

START_S = 20.0
LEAVE_WHEN_IDLE = signal.SIGURG
"""Ignored by default, so that it harms no agent of an earlier release and none that has not come so far."""
_starting = threading.Lock()


# ---- for the agent -----------------------------------------------------------------------------------


def detach(root: str) -> int:
    """Go on as a process that belongs to nobody.  The first process leaves when the agent is ready.

    The descriptor on which the agent says so.
    """
    home = Home(root)
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os.read(reader, 1)  # or its end: it has left already, because another one serves
        os._exit(0)
    os.close(reader)
    os.setsid()
    os.chdir("/")
    log = os.open(home.agent_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    return writer


def say_ready(writer: int | None) -> None:
    if writer is not None:
        os.close(writer)


def write_identity(lock: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {processes.born(os.getpid())}\n".encode(), 0)


def still_ours(path: str, lock: int) -> bool:
    """False when the data directory was removed or replaced: then there is nothing left to serve."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(lock))
    except OSError:
        return False


# ---- for everybody else ------------------------------------------------------------------------------


def ensure(home: Home, options: Options) -> bool:
    """Wake the agent, and start one where there is none.  False: it could not be started now.

    Never an error: what is in the ledger is safe, and the next call tries again.
    """
    if wake.nudge(home.wake):
        return True
    if not _starting.acquire(timeout=START_S):
        return False
    try:
        return wake.nudge(home.wake) or start(home, options)
    finally:
        _starting.release()


def start(home: Home, options: Options) -> bool:
    """Start an agent that outlives us."""
    command = [sys.executable, "-S", "-m", "adapters.local.agent", home.root, "--detach"]
    environment = {**_passed_on(options), **launch.own_environment()}
    try:
        subprocess.run(
            command,
            env=environment,
            cwd="/",
            timeout=START_S,
            check=False,
            stdin=subprocess.DEVNULL,
            close_fds=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return wake.nudge(home.wake)


def _passed_on(options: Options) -> dict[str, str]:
    return {name: os.environ[name] for name in options.environment_passed if name in os.environ}


def tell_options(home: Home, options: Options) -> None:
    """Write them for the agent, unless it has them."""
    text = to_json(options)
    with suppress(FileNotFoundError), open(home.options) as file:
        if file.read() == text:
            return
    write_whole(home.options, text)


def agent_pid(data_dir: str) -> int | None:
    """Of the agent that serves the directory now."""
    try:
        lock = os.open(Home(data_dir).lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        words = os.pread(lock, 100, 0).split()
        return int(words[0]) if words else None
    finally:
        os.close(lock)
    return None


def stop_agent(data_dir: str, deadline_s: float = 10.0) -> bool:
    """Stop the agent and not its jobs.  True when none serves the directory any more."""
    until = time.monotonic() + deadline_s
    while (pid := agent_pid(data_dir)) is not None:
        born = processes.born(pid)
        if born is not None:
            processes.send(pid, born, signal.SIGTERM)
        while born is not None and processes.born(pid) == born and time.monotonic() < until:
            time.sleep(0.01)
        if time.monotonic() > until:
            return False
    return True


def leave_when_idle(data_dir: str) -> None:
    """Ask the agent, if there is one, to end once no attempt is live, and do not wait for it."""
    pid = agent_pid(data_dir)
    born = pid and processes.born(pid)
    if pid and born:
        processes.send(pid, born, LEAVE_WHEN_IDLE)


def stop_everything(data_dir: str) -> bool:
    """Stop the agent and kill every job: for tests and demonstrations.  The jobs count as cancelled."""
    if not stop_agent(data_dir):
        return False
    home = Home(data_dir)
    if not os.path.exists(home.ledger):
        return True
    gone = True
    with ledger.opened(home.ledger) as connection:
        for row in connection.execute("SELECT marker FROM attempts WHERE state = 'LIVE'").fetchall():
            attempts.ask_for_the_end(connection, row["marker"])
        ending = {"outcome": "CANCELLED", "reason": "Cancelled", "message": "everything was stopped"}
        for task in connection.execute("SELECT * FROM tasks WHERE state != 'ENDED'").fetchall():
            ledger.end_unclaimed(connection, task["launch"], ending)
            gone = processes.kill_leftovers(task["launch"]) and gone
            ledger.end(connection, task["launch"], ending)
        for row in connection.execute("SELECT id FROM attempts WHERE state = 'LIVE' AND service").fetchall():
            gone = processes.kill_leftovers(f"proxy-{row['id']}") and gone
        connection.execute("UPDATE proxies SET pid = NULL")
        connection.execute(
            "UPDATE attempts SET state = 'ENDED', ended_at = ? WHERE state = 'LIVE'", (time.time(),)
        )
    return gone
