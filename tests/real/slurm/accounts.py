"""Who runs what.  As root the daemons and the jobs' owners get accounts of their own; else all are ours."""

from __future__ import annotations

import os
import pwd
import secrets
import subprocess
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Roles:
    controller: str  # of slurmctld, slurmdbd, munged and mariadbd
    nodes: str
    rest: str
    # Who may submit; of several the first is in both accounts, the others are in one each.
    users: tuple[str, ...]
    made: tuple[str, ...] = ()  # of these users, who is there for this cluster only


def roles(*, many: bool) -> Roles:
    """One account for everything, or many where that can be: only root may start jobs as other users."""
    if not many or os.geteuid() != 0:
        me = myself()
        return Roles(controller=me, nodes=me, rest=me, users=(me,))
    mark = secrets.token_hex(3)  # clusters of other processes have users too
    users = tuple(f"slurm-{mark}-{number}" for number in (1, 2, 3))
    # slurmrestd refuses root and the controller's account.
    controller = first_existing("slurm", "daemon")
    return Roles(controller=controller, nodes="root", rest="nobody", users=users, made=users)


def myself() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def first_existing(*names: str) -> str:
    """Raises ``KeyError`` when there is none."""
    for name in names[:-1]:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return pwd.getpwnam(names[-1]).pw_name


def create(users: tuple[str, ...]) -> None:
    for user in users:
        command = ["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", user]
        subprocess.run(command, check=True, capture_output=True)


def remove(users: tuple[str, ...]) -> None:
    """Those of them that exist; without their home, which is nobody's."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    for user in known.intersection(users):
        subprocess.run(["userdel", user], check=True, capture_output=True)
