"""The named pipe that wakes the agent.  Who writes learns at once whether an agent reads.

Light imports only: supervisors load this module.
"""

from __future__ import annotations

import os
from contextlib import suppress


def make(path: str) -> int:
    """For the agent: a descriptor to wait on.  Open for writing too, so that it never sees an end of file."""
    with suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def nudge(path: str) -> bool:
    """True when some agent has the pipe open; a full pipe has woken it already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: nobody reads; ENOENT: there never was an agent
        return False
    try:
        with suppress(BlockingIOError):
            os.write(descriptor, b".")
    except BrokenPipeError:
        return False
    finally:
        os.close(descriptor)
    return True
