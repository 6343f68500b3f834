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
    ours_to_remove: bool


def roles(*, many: bool) -> Roles:
    """One account for everything, or many where that can be: only root may start jobs as other users."""
    if not many or os.geteuid() != 0:
        me = myself()
        return Roles(controller=me, nodes=me, rest=me, users=(me,), ours_to_remove=False)
    mark = secrets.token_hex(3)  # clusters of other processes have users too
    return Roles(
        controller=first_existing("slurm", "daemon"),
        nodes="root",
        rest="nobody",  # slurmrestd refuses root and the controller's account
        users=tuple(f"slurm-{mark}-{number}" for number in (1, 2, 3)),
        ours_to_remove=True,
    )


def myself() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def first_existing(*names: str) -> str:
    """Raises ``KeyError`` when there is none."""
    for name in names[:-1]:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return pwd.getpwnam(names[-1]).pw_name


def create(these: Roles) -> None:
    if these.ours_to_remove:
        for user in these.users:
            command = ["useradd", "--no-create-home", "--home-dir", "/", "--shell", "/bin/sh", user]
            subprocess.run(command, check=True, capture_output=True)


def remove(these: Roles) -> None:
    """Those that ``create`` made; without their home, which is nobody's."""
    if these.ours_to_remove:
        known = {entry.pw_name for entry in pwd.getpwall()}
        for user in known.intersection(these.users):
            subprocess.run(["userdel", user], check=True, capture_output=True)
