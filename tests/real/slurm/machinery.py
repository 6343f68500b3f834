"""Brings a cluster's daemons up and down, and speaks to them with Slurm's own commands."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers import wait_until
from tests.real import ports
from tests.real.daemons import Daemon, as_user
from tests.real.guard import Guard
from tests.real.slurm import accounting as database
from tests.real.slurm import accounts, leftovers, parts
from tests.real.slurm.conf import Options
from tests.real.slurm.installs import Install

LONGEST_DIRECTORY = 60  # a socket's whole path has at most 107 bytes
IDLE_WITHIN_S = 30.0
NOTHING: Mapping[str, str] = {}


class Machinery:
    def __init__(
        self, directory: Path | None, *, accounting: bool, install: Install, options: Options
    ) -> None:
        if missing := install.missing(accounting=accounting):
            raise FileNotFoundError(missing)
        self.install, self.options = install, options
        self.directory = directory or Path(tempfile.mkdtemp(prefix="slurm-"))
        if len(os.fsencode(self.directory)) > LONGEST_DIRECTORY:
            raise ValueError(f"{self.directory} is too long a name for the sockets in it")
        self.roles = accounts.roles(many=accounting)
        self.layout = parts.plan(self.directory, install, options, self.roles, accounting=accounting)
        self.daemons: dict[str, Daemon] = {}
        self._guard: Guard | None = None
        self.boot_s = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """For Slurm's own commands."""
        return {
            "PATH": self.install.search_path,
            "SLURM_CONF": str(self.layout.slurm_conf),
            "LANG": "C.UTF-8",
        }

    def run(
        self, *command: str, timeout_s: float = 60, input: str | None = None, user: str | None = None
    ) -> str:
        """What a command of Slurm prints, as us unless told; ``CalledProcessError`` tells its complaint."""
        done: subprocess.CompletedProcess[str] = subprocess.run(
            [self.install.program(command[0]), *command[1:]],
            env={**self.environment, "HOME": str(self.layout.shared), "USER": user or accounts.myself()},
            cwd=self.layout.shared,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            **as_user(user),
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            error.add_note(done.stderr.strip())
            raise error
        return done.stdout

    # ---- up ------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        began, at = time.monotonic(), self.layout
        self._guard = Guard(leftovers, str(self.directory), *self.roles.made)
        accounts.create(self.roles.made)
        parts.write_files(at, self.options)
        self._add("munged", parts.munged(at, self.install), self._munged_answers, user=at.controller_user)
        if at.accounting:
            self._start_accounting()
        controller = parts.slurmctld(self.install)
        self._add("slurmctld", controller, self._controller_answers, user=at.controller_user)
        for node in self.options.node_names:
            self._add(node, parts.slurmd(self.install, node), partial(self._node_answers, node), wait=False)
        if at.accounting:
            database.seed(self.run, self.roles.users)
        self._add("slurmrestd", parts.slurmrestd(at, self.install), self._rest_answers, user=at.rest_user)
        wait_until(self.idle, IDLE_WITHIN_S, "all nodes are idle")
        self.boot_s = time.monotonic() - began

    def _start_accounting(self) -> None:
        at = self.layout
        database.prepare(at, self.install)
        mariadbd = database.mariadbd(at, self.install)
        self._add("mariadbd", mariadbd, partial(ports.answers, at.ports.mariadbd), user=at.controller_user)
        slurmdbd = [self.install.program("slurmdbd"), "-D"]
        self._add("slurmdbd", slurmdbd, self._database_answers, user=at.controller_user)
        self.run("sacctmgr", "--immediate", "add", "cluster", self.options.name)

    def _add(
        self,
        name: str,
        command: list[str],
        ready: Callable[[], bool],
        *,
        user: str | None = None,
        wait: bool = True,
    ) -> None:
        special = parts.SLURMRESTD if name == "slurmrestd" else NOTHING
        log, environment = self.layout.logs / f"{name}.out", {**self.environment, **special}
        daemon = Daemon(name, command, log=log, environment=environment, user=user, ready=ready)
        self.daemons[name] = daemon
        daemon.start(wait=wait)

    # ---- is it up? -----------------------------------------------------------------------------------

    def idle(self) -> bool:
        """Every node is, and answers."""
        return set(self._nodes_in("idle")) == set(self.options.node_names)

    def _nodes_in(self, *states: str) -> list[str]:
        said = self.run(
            "sinfo", "-h", "--Node", "--partition=train", f"--states={','.join(states)}", "-o%N %T"
        )
        # "idle*" does not answer.
        return [line.split()[0] for line in said.splitlines() if not line.endswith("*")]

    def _munged_answers(self) -> bool:
        return ports.answers(str(self.layout.munge_socket))

    def _controller_answers(self) -> bool:
        return ports.answers(self.layout.ports.slurmctld) and "is UP" in self._said("scontrol", "ping")

    def _database_answers(self) -> bool:
        answers = ports.answers(self.layout.ports.slurmdbd)
        return answers and "normal" in self._said("sacctmgr", "--noheader", "show", "qos", "format=name")

    def _said(self, *command: str) -> str:
        try:
            return self.run(*command)
        except subprocess.CalledProcessError:
            return ""

    def _node_answers(self, node: str) -> bool:
        return ports.answers(self.layout.ports.slurmd + self.options.node_names.index(node))

    def _rest_answers(self) -> bool:
        return ports.answers(self.layout.ports.slurmrestd) and ports.answers(str(self.layout.rest_socket))

    # ---- down ----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all that runs, removes the directory and the accounts; again: does nothing."""
        if not self.directory.exists():
            return
        if self._guard:
            self._guard.dismiss()
        for daemon in reversed(self.daemons.values()):
            daemon.kill()  # what it would save is removed anyway
        leftovers.remove(self.directory, *self.roles.made)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
