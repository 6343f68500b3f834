"""What a cluster is made of: its files, and the command line of each of its daemons."""

from __future__ import annotations

import os
import pwd
import secrets
import socket
from pathlib import Path

from tests.real import ports
from tests.real.slurm import conf
from tests.real.slurm.accounts import Roles
from tests.real.slurm.conf import Layout, Options, Ports
from tests.real.slurm.installs import Install

FOLDERS = ("etc", "munge", "log", "gpu", "starts", "state", "run", "rest", "shared", "spool", "database")


def plan(directory: Path, install: Install, options: Options, roles: Roles, *, accounting: bool) -> Layout:
    first = ports.free_block(4 + options.nodes)
    numbers = Ports(
        slurmctld=first, slurmrestd=first + 1, slurmdbd=first + 2, mariadbd=first + 3, slurmd=first + 4
    )
    return Layout(
        directory=directory,
        ports=numbers,
        controller_user=roles.controller,
        node_user=roles.nodes,
        rest_user=roles.rest,
        plugins=install.plugins,
        newer=install.newer,
        accounting=accounting,
        loopback_only=socket.gethostbyname(socket.gethostname()).startswith("127."),
    )


def write_files(at: Layout, options: Options) -> None:
    """All that the daemons read, in an empty directory."""
    at.directory.chmod(0o755)  # nodes and jobs of other users look into it
    for folder in (*FOLDERS, *(f"spool/{node}" for node in options.node_names)):
        (at.directory / folder).mkdir(mode=0o755)
    for number in range(options.gpus):
        (at.gpu_files / f"gpu{number}").touch()
    at.shared.chmod(0o1777)
    at.starts.touch()
    at.starts.chmod(0o666)
    at.task_prolog.write_text(conf.task_prolog(at))
    at.task_prolog.chmod(0o755)
    for key in (at.jwt_key, at.munge_key):
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(64))
    at.slurm_conf.write_text(conf.slurm_conf(at, options))
    (at.slurm_conf.parent / "gres.conf").write_text(conf.gres_conf(at, options))
    if text := conf.cgroup_conf(at):
        (at.slurm_conf.parent / "cgroup.conf").write_text(text)
    for name, text in options.files.items():
        (at.slurm_conf.parent / name).write_text(text)
    hand_over_all(at)


def hand_over_all(at: Layout) -> None:
    """To the accounts that the daemons run as, when they are not ours."""
    for name in ("munge", "log", "state", "run", "database"):
        hand_over(at.controller_user, at.directory / name)
    for key in (at.jwt_key, at.munge_key):
        hand_over(at.controller_user, key)
    hand_over(at.rest_user, at.rest_socket.parent)


def hand_over(user: str, path: Path) -> None:
    entry = pwd.getpwnam(user)
    if entry.pw_uid != os.geteuid():
        os.chown(path, entry.pw_uid, entry.pw_gid)


def munged(at: Layout, install: Install) -> list[str]:
    folder = at.munge_socket.parent
    files: dict[str, Path] = {
        "key-file": at.munge_key,
        "socket": at.munge_socket,
        "pid-file": folder / "pid",
        "seed-file": folder / "seed",
        "log-file": folder / "log",
    }
    return [
        install.program("munged"),
        "--foreground",
        *(f"--{option}={path}" for option, path in files.items()),
    ]


def slurmctld(install: Install) -> list[str]:
    return [install.program("slurmctld"), "-D"]


def slurmd(install: Install, node: str) -> list[str]:
    # The path of slurmstepd is compiled in; it is another one when Slurm lives in a folder.
    return [install.program("slurmd"), "-D", "-N", node, "-d", install.program("slurmstepd")]


def slurmrestd(at: Layout, install: Install) -> list[str]:
    # Without slurmdbd its plug-ins are fatal, so they must not be loaded.
    only = [] if at.accounting else ["-s", "slurmctld" if at.newer else "v0.0.38"]
    address = f"127.0.0.1:{at.ports.slurmrestd}"
    return [install.program("slurmrestd"), "-a", "rest_auth/jwt", *only, address, f"unix:{at.rest_socket}"]


# It refuses to run as the user of slurmctld, unless told; one arena keeps its memory small.
SLURMRESTD = {"SLURM_JWT": "daemon", "SLURMRESTD_SECURITY": "disable_user_check", "MALLOC_ARENA_MAX": "1"}
