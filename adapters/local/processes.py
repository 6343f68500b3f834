"""Processes as Linux shows them in /proc.  The only module that reads /proc, and that calls prctl.

A process is named by pid, start time and boot id together, because pids are reused.  Light imports only:
every supervisor loads this module.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ERRORS_INSTEAD = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, so that a write fails with an error; a job gets the default again."""
LAUNCH_VARIABLE = "BROKER_LAUNCH"
"""In the environment of a supervisor and of all that it starts: how leftovers are found."""


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; the name before them may hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def born(pid: int) -> int | None:
    """Start time in clock ticks since boot; None when there is no such process, or only its zombie."""
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return int(fields[19])


def is_alive(pid: int | None, born_at: int | None, boot: str | None) -> bool:
    return pid is not None and boot == boot_id() and born_at is not None and born(pid) == born_at


def send(pid: int, born_at: int, signal_number: int) -> bool:
    """To that very process; False when it is gone.  A pid file descriptor closes the gap of reuse."""
    try:
        handle = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return False
    try:
        if born(pid) != born_at:
            return False
        signal.pidfd_send_signal(handle, signal_number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def children(pid: int) -> list[int]:
    """Of all threads of ``pid``, zombies included."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    found, pending = [], children(pid)
    while pending:
        child = pending.pop()
        found.append(child)
        pending += children(child)
    return found


def with_launch(launch: str) -> list[int]:
    """Every process whose environment at its start named this launch (zombies have none)."""
    wanted = f"{LAUNCH_VARIABLE}={launch}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def resident_mib(pids: Iterable[int]) -> int:
    """Summed resident memory; pages that are shared count for each process that has them."""
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES >> 20


def signal_all(pids: Iterable[int], signal_number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal_number)


def kill_leftovers(launch: str, deadline_s: float = 5.0) -> bool:
    """Kill what a dead supervisor left; again and again, since what dies may just have started another.

    True when nothing is left.
    """
    until = time.monotonic() + deadline_s
    while pids := [pid for pid in with_launch(launch) if pid != os.getpid()]:
        family = {child for pid in pids for child in descendants(pid)}
        signal_all(family.union(pids), signal.SIGKILL)
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def _prctl(option: int, argument: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def adopt_orphans() -> None:
    """Orphaned descendants become our children and not those of init."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def reset_signals(*ignored: signal.Signals) -> None:
    """As if nobody had blocked or ignored any: a shell's ``&`` ignores SIGINT for all that follows."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):  # the C library keeps two real-time signals for itself
            signal.signal(number, signal.SIG_DFL)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def die_with_parent() -> None:
    """For a child between fork and exec: killed when the process that forked it dies."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
