"""A real Slurm cluster on one host, in a directory of its own.

    with boot() as cluster:
        job = cluster.submit("sleep 60", "--gpus=1")
        cluster.freeze("slurmctld")

Everything runs as the user who calls, jobs too.  Nothing is left behind.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers import wait_until
from tests.real.slurm import parts, ports, tokens
from tests.real.slurm.conf import Layout, Options, Ports
from tests.real.slurm.daemons import Daemon, end_processes_of, processes_of
from tests.real.slurm.installs import Install, debian

LONGEST_DIRECTORY = 60  # a socket's whole path has at most 107 bytes
IDLE_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Slurm started a task of this job; kept by Slurm's own prolog, whatever slurmctld forgets."""

    job_id: int
    restarts: int
    step: str  # "batch", or the number of srun's
    name: str


def boot(
    directory: Path | None = None,
    *,
    accounting: bool = False,
    install: Install | None = None,
    options: Options | None = None,
) -> Cluster:
    """A running cluster, in an empty directory or a new one, which ``close`` removes with all in it."""
    cluster = Cluster(
        directory, accounting=accounting, install=install or debian(), options=options or Options()
    )
    try:
        cluster.start_all()
    except BaseException:
        cluster.close()
        raise
    return cluster


class Cluster:
    def __init__(
        self, directory: Path | None, *, accounting: bool, install: Install, options: Options
    ) -> None:
        if missing := install.missing(accounting=accounting):
            raise FileNotFoundError(missing)
        self.install, self.options = install, options
        self.directory = directory or Path(tempfile.mkdtemp(prefix="slurm-"))
        if len(os.fsencode(self.directory)) > LONGEST_DIRECTORY:
            raise ValueError(f"{self.directory} is too long a name for the sockets in it")
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.layout = plan(self.directory, install, options, self.user, accounting=accounting)
        self.daemons: dict[str, Daemon] = {}
        self.boot_s = 0.0

    # ---- where it is ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """As in Slurm's ``ClusterName``."""
        return self.options.name

    @property
    def version(self) -> str:
        return self.install.version

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.layout.ports.slurmrestd}"

    @property
    def socket_path(self) -> Path:
        """slurmrestd listens there too."""
        return self.layout.rest_socket

    @property
    def jwt_key_file(self) -> Path:
        return self.layout.jwt_key

    @property
    def logs(self) -> Path:
        """The daemons' own logs."""
        return self.layout.logs

    @property
    def shared(self) -> Path:
        """A directory that nodes and tests share and every user may write: for the output of jobs."""
        return self.layout.shared

    @property
    def nodes(self) -> list[str]:
        return self.options.node_names

    @property
    def environment(self) -> dict[str, str]:
        """For Slurm's own commands."""
        return {
            "PATH": self.install.search_path,
            "SLURM_CONF": str(self.layout.slurm_conf),
            "LANG": "C.UTF-8",
        }

    def token(self, user: str | None = None, lifespan_s: float = 3600) -> str:
        return tokens.token(self.jwt_key_file, user or self.user, lifespan_s)

    # ---- from outside --------------------------------------------------------------------------------

    def run(self, *command: str, timeout_s: float = 60, input: str | None = None) -> str:
        """What one of Slurm's commands prints; raises ``CalledProcessError`` with its complaint."""
        program = self.install.program(command[0])
        done = subprocess.run(
            [program, *command[1:]],
            env={**self.environment, "HOME": str(self.shared), "USER": self.user},
            cwd=self.shared,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if done.returncode:
            error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
            error.add_note(done.stderr.strip())
            raise error
        return done.stdout

    def submit(self, body: str, *options: str) -> int:
        """sbatch, with ``body`` below the ``#!`` line; the job's id."""
        out = f"--output={self.shared}/%j.out"
        return int(
            self.run("sbatch", "--parsable", out, *options, input=f"#!/bin/sh\n{body}\n").split(";")[0]
        )

    def show(self, job_id: int) -> dict[str, str]:
        """What slurmctld knows of the job: the words of ``scontrol show job``; nothing when it forgot it."""
        try:
            said = self.run("scontrol", "--oneliner", "show", "job", str(job_id))
        except subprocess.CalledProcessError as error:
            if "Invalid job id" in error.stderr:
                return {}
            raise
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    def state(self, job_id: int) -> str:
        return self.show(job_id).get("JobState", "")

    def wait_state(self, job_id: int, *states: str, within_s: float = 30) -> str:
        return wait_until(
            lambda: (now := self.state(job_id)) in states and now, within_s, f"job {job_id} is {states}"
        )

    def starts(self, name: str | None = None) -> list[Start]:
        """Every task that Slurm ever started here, or those of the jobs of that name, in order."""
        records = self.layout.starts.read_text().split("\0")[:-1]
        fields = (record.split("\t", 3) for record in records)
        all_of_them = [
            Start(job_id=int(job), restarts=int(restarts), step=step, name=job_name)
            for job, restarts, step, job_name in fields
        ]
        return [start for start in all_of_them if name is None or start.name == name]

    def started(self, name: str) -> list[int]:
        """The ids of the jobs of that name that ever started; an id once, however often it was requeued."""
        return list(dict.fromkeys(start.job_id for start in self.starts(name)))

    # ---- bad days ------------------------------------------------------------------------------------

    def freeze(self, daemon: str) -> None:
        """``daemon`` is "slurmctld", "slurmrestd", "slurmdbd", "mariadbd", "munged" or a node's name."""
        self.daemons[daemon].freeze()

    def thaw(self, daemon: str) -> None:
        self.daemons[daemon].thaw()

    def kill(self, daemon: str) -> None:
        self.daemons[daemon].kill()

    def stop(self, daemon: str) -> None:
        self.daemons[daemon].stop()

    def start(self, daemon: str, *, wait: bool = True) -> None:
        self.daemons[daemon].start(wait=wait)

    def drain_node(self, node: str, reason: str = "test") -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def resume_node(self, node: str) -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def calm(self) -> None:
        """Every daemon runs and answers, no job is left, every node is idle: as just after the boot."""
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.thaw()
            daemon.start()
        if self.run("squeue", "--noheader", "--all", "--format=%i"):
            self.run("scancel", "--user", self.user)
        wait_until(lambda: not self.run("squeue", "-h", "--all", "-o", "%i"), IDLE_WITHIN_S, "no job is left")
        for node in self._nodes_in("drain", "down", "fail"):
            self.run("scontrol", "update", f"nodename={node}", "state=resume")
        wait_until(self.idle, IDLE_WITHIN_S, "all nodes are idle")

    def idle(self) -> bool:
        return set(self._nodes_in("idle")) == set(self.nodes)

    def _nodes_in(self, *states: str) -> list[str]:
        said = self.run(
            "sinfo", "--noheader", "--Node", "--partition=train", f"--states={','.join(states)}", "-o%N %T"
        )
        # "idle*" does not answer.
        return [line.split()[0] for line in said.splitlines() if not line.endswith("*")]

    # ---- up and down ---------------------------------------------------------------------------------

    def start_all(self) -> None:
        began, at = time.monotonic(), self.layout
        parts.write_files(at, self.options)
        self._add("munged", parts.munged(at, self.install), self._munged_answers, user=at.controller_user)
        self._add(
            "slurmctld", parts.slurmctld(self.install), self._controller_answers, user=at.controller_user
        )
        for node in self.nodes:
            self._add(node, parts.slurmd(self.install, node), partial(self._node_answers, node), wait=False)
        self._add("slurmrestd", parts.slurmrestd(at, self.install), self._rest_answers, user=at.rest_user)
        wait_until(self.idle, IDLE_WITHIN_S, "all nodes are idle")
        self.boot_s = time.monotonic() - began

    def _add(
        self,
        name: str,
        command: list[str],
        ready: Callable[[], bool],
        *,
        user: str | None = None,
        wait: bool = True,
    ) -> None:
        special = parts.SLURMRESTD if name == "slurmrestd" else {}
        log, environment = self.logs / f"{name}.out", {**self.environment, **special}
        daemon = Daemon(name, command, log=log, environment=environment, user=user, ready=ready)
        self.daemons[name] = daemon
        daemon.start(wait=wait)

    def _munged_answers(self) -> bool:
        return ports.answers(str(self.layout.munge_socket))

    def _controller_answers(self) -> bool:
        if not ports.answers(self.layout.ports.slurmctld):
            return False
        try:
            return "is UP" in self.run("scontrol", "ping")
        except subprocess.CalledProcessError:
            return False

    def _node_answers(self, node: str) -> bool:
        return ports.answers(self.layout.ports.slurmd + self.nodes.index(node))

    def _rest_answers(self) -> bool:
        return ports.answers(self.layout.ports.slurmrestd) and ports.answers(str(self.socket_path))

    def close(self) -> None:
        """Ends all that runs and removes the directory; again: does nothing."""
        if not self.directory.exists():
            return
        for daemon in reversed(self.daemons.values()):
            daemon.stop()
        end_processes_of(self.directory)
        assert not processes_of(self.directory)
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def plan(directory: Path, install: Install, options: Options, user: str, *, accounting: bool) -> Layout:
    first = ports.free_block(4 + options.nodes)
    numbers = Ports(
        slurmctld=first, slurmrestd=first + 1, slurmdbd=first + 2, mariadbd=first + 3, slurmd=first + 4
    )
    return Layout(
        directory=directory,
        ports=numbers,
        controller_user=user,
        node_user=user,
        rest_user=user,
        plugins=install.plugins,
        newer=install.newer,
        accounting=accounting,
        loopback_only=socket.gethostbyname(socket.gethostname()).startswith("127."),
    )
