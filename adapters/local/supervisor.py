"""One process for each running task or replica: it claims the start, runs it, and records how it ended.

It outlives worker, agent and broker.  It is the adopted parent of everything that the job starts, so that
nothing of a job escapes its end.  SIGTERM asks it to cancel.  Its plan (``launch.Plan`` as JSON) comes on
standard input, because it may hold secrets.  Light imports only: one of these starts for every task.

Of an end that is asked for (cancel, time limit) the whole tree hears by SIGTERM first, and after ``grace_s``
by SIGKILL.  Too much memory: SIGKILL at once.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from adapters.local import cgroups, crash, ledger, paths, processes, wake

MEMORY_SAMPLE_S = 0.25
SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Supervisor:
    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.plan = plan
        self.launch: str = plan["launch"]
        self.home = paths.Home(plan["data_dir"])
        self.job = 0
        self.status: int | None = None  # of the job's first process, once it has ended
        self.ending: dict[str, Any] | None = None  # why we end it, when it is we who do
        self.kill_at: float | None = None
        limit = plan.get("time_limit_s")
        self.deadline = time.monotonic() + limit if limit is not None else None
        self.group = cgroups.make(self.launch, plan.get("memory_limit_mib"))
        # Sampled beside a group too: whether a process may enter it shows only when it does.
        self.sampled_mib: int | None = plan.get("memory_limit_mib")

    def run(self) -> None:
        processes.reset_signals(*processes.ERRORS_INSTEAD)
        processes.adopt_orphans()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        crash.point("supervisor.planned")
        if not self._claim():
            return
        crash.point("supervisor.claimed")
        fault = self._start()
        if fault is None:
            wake.nudge(self.home.wake)
            crash.point("supervisor.forked")
            self._wait()
        self._leave_nothing()
        crash.point("supervisor.ended")
        self._record(self._how_it_ended(fault))

    def _claim(self) -> bool:
        pid = os.getpid()
        with ledger.opened(self.home.ledger) as connection:
            return ledger.claim(connection, self.launch, pid, processes.born(pid) or 0, processes.boot_id())

    # ---- start ---------------------------------------------------------------------------------------

    def _start(self) -> str | None:
        """Fork and exec.  The sentence of what went wrong, or None: it runs."""
        reader, writer = os.pipe()
        self.job = os.fork()
        if self.job == 0:
            self._become_the_job(writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            fault = pipe.read().decode()
        if not fault:
            return None
        os.waitpid(self.job, 0)
        return fault

    def _become_the_job(self, writer: int) -> None:
        """Never returns: exec, or a word to the parent and exit."""
        doing = "start"
        try:
            os.setsid()
            processes.die_with_parent()
            processes.reset_signals()
            if self.group:
                with suppress(OSError):
                    cgroups.enter(self.group)
            self._connect_files()
            doing = f"enter {self.plan['cwd']}"
            os.chdir(self.plan["cwd"])
            os.umask(0o077)
            doing = f"execute {self.plan['argv'][0]}"
            os.execvpe(self.plan["argv"][0], self.plan["argv"], self.plan["env"])  # noqa: S606
        except OSError as error:
            os.write(writer, f"cannot {doing}: {error.strerror}".encode())
        finally:
            os._exit(127)

    def _connect_files(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        for target, path, how in (
            (0, os.devnull, os.O_RDONLY),
            (1, self.plan["stdout"], flags),
            (2, self.plan["stderr"], flags),
        ):
            descriptor = os.open(path, how, 0o600)
            os.dup2(descriptor, target)
            os.close(descriptor)

    # ---- while it runs -------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until the job has ended; if it was we who ended it, until its whole tree is gone or was killed."""
        while True:
            caught = signal.sigtimedwait(SIGNALS, self._patience_s())
            if caught is not None and caught.si_signo != signal.SIGCHLD:
                self._end_it("Cancelled", "CANCELLED", "it was cancelled")
            self._reap()
            if self.status is not None and (self.ending is None or not processes.children(os.getpid())):
                return
            self._look_at_the_clock()
            self._look_at_the_memory()

    def _patience_s(self) -> float:
        now = time.monotonic()
        times = [moment - now for moment in (self.deadline, self.kill_at) if moment is not None]
        if self.sampled_mib is not None:
            times.append(MEMORY_SAMPLE_S)
        return max(0.0, min(times, default=3600.0))

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.job:
                    self.status = status

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self._end_it("TimeLimit", "FAILED", f"ran into its time limit of {self.plan['time_limit_s']} s")
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = now + 1.0
            processes.signal_all(processes.descendants(os.getpid()), signal.SIGKILL)

    def _look_at_the_memory(self) -> None:
        if self.sampled_mib is None or (self.ending and self.ending["reason"] == "OutOfMemory"):
            return
        used = processes.resident_mib(processes.descendants(os.getpid()))
        if used > self.sampled_mib:
            asked = f"used {used} MiB of memory and had asked for {self.sampled_mib}"
            self.ending = {"outcome": "FAILED", "reason": "OutOfMemory", "message": asked}
            self.kill_at = time.monotonic()

    def _end_it(self, reason: str, outcome: str, message: str) -> None:
        """The first reason stays; a repeated call changes nothing."""
        if self.ending is None:
            self.ending = {"outcome": outcome, "reason": reason, "message": message}
            self.kill_at = time.monotonic() + float(self.plan["grace_s"])
            processes.signal_all(processes.descendants(os.getpid()), signal.SIGTERM)

    # ---- the end -------------------------------------------------------------------------------------

    def _leave_nothing(self) -> None:
        while family := processes.descendants(os.getpid()):
            processes.signal_all(family, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(-1, 0)
            self._reap()

    def _how_it_ended(self, fault: str | None) -> dict[str, Any]:
        if fault is not None:
            return {"outcome": "FAILED", "reason": "LaunchFailed", "message": fault}
        status = self.status or 0
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        if self.group and cgroups.remove(self.group):
            asked = f"used more than the {self.plan['memory_limit_mib']} MiB of memory that it had asked for"
            self.ending = {"outcome": "FAILED", "reason": "OutOfMemory", "message": asked}
        if self.ending is not None:
            return {**self.ending, "exit_code": code, "signal": number}
        if number is not None:
            message = f"ended by {_signal_name(number)}"
            return {"outcome": "FAILED", "reason": "Signalled", "message": message, "signal": number}
        if code != 0:
            message = f"ended with exit code {code}"
            return {"outcome": "FAILED", "reason": "NonZeroExit", "message": message, "exit_code": code}
        return {"outcome": "COMPLETED", "reason": "Completed", "exit_code": 0}

    def _record(self, ending: dict[str, Any]) -> None:
        """First the file, so that the end is known even if the ledger cannot be written now."""
        ending["ended_at"] = time.time()
        write_whole(paths.exit_record(self.plan["task_dir"], self.launch), json.dumps(ending))
        crash.point("supervisor.exit_recorded")
        with suppress(sqlite3.Error), ledger.opened(self.home.ledger) as connection:
            ledger.end(connection, self.launch, ending)
        crash.point("supervisor.reported")
        wake.nudge(self.home.wake)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def write_whole(path: str, text: str) -> None:
    """Whoever reads it sees all of it or none, whatever dies."""
    draft = f"{path}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def main() -> None:
    plan = json.load(sys.stdin)
    Supervisor(plan).run()


if __name__ == "__main__":
    main()
