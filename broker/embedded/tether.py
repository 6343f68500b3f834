"""Runs a command that the kernel kills when the process that started it dies, even by ``kill -9``.

``python -I tether.py PARENT_PID COMMAND...``: a program of its own, because what must happen between fork and
exec is not safe in a parent with threads.  The tie survives exec and is not inherited: what the command
starts on its own (the local agent, running jobs) lives on.  Linux only; elsewhere the command just runs.
The tie is to the *thread* that started it, so start children from the main one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tethered(command: list[str]) -> list[str]:
    """The same command, tied to the calling process."""
    return [sys.executable, "-I", str(Path(__file__).resolve()), str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the tie was made
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # an argument list of our own, no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
