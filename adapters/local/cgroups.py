"""Memory limits by cgroup v2, where this user may make groups; elsewhere the supervisor samples.

Light imports only: supervisors load this module.
"""

from __future__ import annotations

import os
from contextlib import suppress

ROOT = "/sys/fs/cgroup"


def _own(root: str) -> str | None:
    """The directory of our own group; None without cgroup v2."""
    if not os.path.exists(os.path.join(root, "cgroup.controllers")):
        return None
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                return os.path.join(root, line[3:].strip().lstrip("/"))
    return None


def make(launch: str, limit_mib: int | None, root: str = ROOT) -> str | None:
    """A group beside our own with that limit, or None where there is no limit or no right to make one."""
    own = _own(root)
    if limit_mib is None or own is None:
        return None
    group = os.path.join(os.path.dirname(own), f"broker-{launch}")
    try:
        os.mkdir(group)
    except OSError:
        return None
    try:
        _write(group, "memory.max", str(limit_mib << 20))
        with suppress(OSError):  # no swap on this machine, or no swap accounting
            _write(group, "memory.swap.max", "0")
        _write(group, "memory.oom.group", "1")
    except OSError:
        os.rmdir(group)
        return None
    return group


def _write(group: str, name: str, value: str) -> None:
    """Never creates the file: without the controller it is not there."""
    descriptor = os.open(os.path.join(group, name), os.O_WRONLY)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def enter(group: str) -> None:
    _write(group, "cgroup.procs", "0")


def remove(group: str) -> bool:
    """Was anything in it killed for lack of memory?  The group is gone afterwards."""
    killed = False
    with suppress(OSError), open(os.path.join(group, "memory.events")) as file:
        killed = any(line.split()[0] == "oom_kill" and int(line.split()[1]) > 0 for line in file)
    with suppress(OSError):
        os.rmdir(group)
    return killed
