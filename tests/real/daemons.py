"""Starts, freezes, kills and ends daemons, each a child of this process in a process group of its own.

Whatever else runs for a cluster (steps, jobs) is found in /proc by the cluster's directory, never by a name.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.helpers import stat_of, stop_still, wait_until

READY_WITHIN_S = 30.0
ENDED_WITHIN_S = 10.0


class EndedWhileStarting(AssertionError):
    """A daemon did; its last words are in the message."""


class NeverReady(AssertionError):
    """A daemon runs and does not answer; its last words are in the message."""


class Daemon:
    """One program that runs in the foreground; what it prints goes to ``log``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        user: str | None = None,
        ready: Callable[[], object],
    ) -> None:
        self.name, self.command, self.log = name, list(command), log
        self.environment, self.user, self.ready = dict(environment), user, ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Raises ``RuntimeError`` when it does not run."""
        if not self.running:
            raise RuntimeError(f"{self.name} does not run")
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Again after ``kill`` or ``stop``; does nothing while it runs."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **as_user(self.user),
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        def answers() -> bool:
            if not self.running:
                raise EndedWhileStarting(f"{self.name} ended while it started:\n{tail(self.log)}")
            return bool(self.ready())

        try:
            wait_until(answers, READY_WITHIN_S, f"{self.name} is ready")
        except EndedWhileStarting:
            raise
        except AssertionError as error:
            raise NeverReady(f"{error}; its log ends with\n{tail(self.log)}") from None

    def freeze(self) -> None:
        """It keeps its sockets and answers nothing."""
        stop_still(self.pid)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """kill -9, with the helpers in its process group; returns when it is gone, or when it was."""
        if self._process is not None and self.running:  # so its number is still its own
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(ENDED_WITHIN_S)

    def stop(self) -> None:
        """As an administrator would; does nothing when it does not run."""
        if self._process is None or not self.running:
            return
        self.thaw()
        self._process.terminate()
        try:
            self._process.wait(ENDED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Daemons:
    """What a test may do to the daemons of a cluster, each by its name."""

    daemons: dict[str, Daemon]

    def freeze(self, daemon: str) -> None:
        self.daemons[daemon].freeze()

    def thaw(self, daemon: str) -> None:
        self.daemons[daemon].thaw()

    def kill(self, daemon: str) -> None:
        self.daemons[daemon].kill()

    def stop(self, daemon: str) -> None:
        self.daemons[daemon].stop()

    def start(self, daemon: str, *, wait: bool = True) -> None:
        self.daemons[daemon].start(wait=wait)


STARTED_AGAIN: list[str] = []
"""What had to be, since a program of somebody else's failed; the tests say so at their end."""


def is_started_again(what: str, error: AssertionError) -> None:
    first, *rest = str(error).splitlines()
    STARTED_AGAIN.append(f"started once more: {what} ({' '.join([first, *rest[-1:]])})")


def as_user(name: str | None) -> dict[str, Any]:
    """For Popen; nothing when it is who we are."""
    entry = pwd.getpwnam(name) if name else None
    if entry is None or entry.pw_uid == os.geteuid():
        return {}
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def tail(log: Path, length: int = 2000) -> str:
    try:
        return log.read_text(errors="replace")[-length:]
    except FileNotFoundError:
        return "(no log)"


# ---- what else runs for a directory ------------------------------------------------------------------


def processes_of(directory: Path) -> dict[int, str]:
    """pid -> command line, of all whose command line, environment or working directory names the directory,
    and of their descendants.  This process and those that it descends from are no part of it."""
    wanted, parents, commands = os.fsencode(directory), {}, {}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or it is somebody else's
            pid, files = int(folder.name), (folder / "cmdline", folder / "environ")
            parents[pid] = parent(folder)
            told = [file.read_bytes() for file in files] + [os.readlink(bytes(folder / "cwd"))]
            commands[pid] = told[0].replace(b"\0", b" ").decode(errors="replace").strip()
            if any(wanted in text for text in told):
                found.add(pid)
    found -= set(line_of(os.getpid(), parents))
    theirs = {pid for pid in commands if found.intersection(line_of(pid, parents))}
    return {pid: commands[pid] for pid in theirs}


def parent(folder: Path) -> int:
    return int(stat_of(folder)[1])


def line_of(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    """The process, its parent and so on up."""
    while pid:
        yield pid
        pid = parents.get(pid, 0)


def end_processes_of(directory: Path) -> None:
    """kill -9 until none is left; returns at once when there is none."""
    killed: set[int] = set()

    def none_left() -> bool:
        for pid in (left := processes_of(directory)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        # The dead ones too, until their parent has taken note: till then they have no name and no directory.
        return not any(Path("/proc", str(pid)).exists() for pid in killed)

    wait_until(none_left, ENDED_WITHIN_S, f"no process of {directory} is left")


def remove_directory(directory: Path) -> None:
    """With all in it; raises ``RuntimeError`` and removes nothing while something is mounted below."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    if mounted := [point for point in points if Path(point).is_relative_to(directory)]:
        raise RuntimeError(f"mounted below {directory}: {mounted}")
    shutil.rmtree(directory)
