"""A real Slurm cluster on one host, in a directory of its own.

    with boot() as cluster:
        job = cluster.submit("sleep 60", "--gpus=1")
        cluster.freeze("slurmctld")

Without accounting, and with it when we are not root, everything runs as the user who calls, jobs too.  With
accounting and as root the daemons have accounts of their own and jobs run as their owners.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import wait_until
from tests.real.daemons import Daemons, EndedWhileStarting, NeverReady, is_started_again
from tests.real.slurm import tokens
from tests.real.slurm.conf import Options
from tests.real.slurm.installs import Install, debian
from tests.real.slurm.machinery import IDLE_WITHIN_S, Machinery


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
    install, options = install or debian(), options or Options()
    try:
        return _booted(directory, accounting, install, options)
    except EndedWhileStarting as error:
        if directory is not None:
            raise
        is_started_again(f"a cluster of {install.version}", error)
    return _booted(directory, accounting, install, options)


def _booted(directory: Path | None, accounting: bool, install: Install, options: Options) -> Cluster:
    cluster = Cluster(directory, accounting=accounting, install=install, options=options)
    try:
        cluster.start_all()
    except BaseException:
        cluster.close()
        raise
    return cluster


class Cluster(Machinery, Daemons):
    """What a test may ask of a cluster, and do to it.

    Its daemons are "slurmctld", "slurmrestd", "slurmdbd", "mariadbd", "munged", and the nodes by their names.
    """

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
    def user(self) -> str:
        """Who submits, and who jobs run as, unless told otherwise."""
        return self.roles.users[0]

    @property
    def users(self) -> tuple[str, ...]:
        """All who may submit: ``user``, with accounting as root two more."""
        return self.roles.users

    @property
    def admin(self) -> str:
        """Slurm's own user: its token may act for every user."""
        return self.roles.controller

    @property
    def nodes(self) -> list[str]:
        return self.options.node_names

    def token(self, user: str | None = None, lifespan_s: float = 3600) -> str:
        return tokens.token(self.jwt_key_file, user or self.user, lifespan_s)

    # ---- from outside --------------------------------------------------------------------------------

    def submit(self, body: str, *options: str, user: str | None = None) -> int:
        """sbatch, with ``body`` below the ``#!`` line; the job's id."""
        command = ("sbatch", "--parsable", f"--output={self.shared}/%j.out", *options)
        said = self.run(*command, input=f"#!/bin/sh\n{body}\n", user=user or self.user)
        return int(said.split(";")[0])

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
        """The first of these states that the job is seen in; fails the test when there is none in time."""

        def reached() -> str:
            now = self.state(job_id)
            return now if now in states else ""

        return wait_until(reached, within_s, f"job {job_id} is {' or '.join(states)}")

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

    def start(self, daemon: str, *, wait: bool = True) -> None:
        try:
            super().start(daemon, wait=wait)
        except NeverReady as error:
            is_started_again(f"{daemon} of {self.version}", error)
            self.kill(daemon)
            super().start(daemon, wait=wait)

    def drain_node(self, node: str, reason: str = "test") -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=drain", f"reason={reason}")

    def fail_node(self, node: str, reason: str = "test") -> None:
        """Its jobs end as NODE_FAIL or are requeued."""
        self.run("scontrol", "update", f"nodename={node}", "state=down", f"reason={reason}")

    def resume_node(self, node: str) -> None:
        self.run("scontrol", "update", f"nodename={node}", "state=resume")

    def calm(self) -> None:
        """Every daemon runs and answers, no job is left, every node is idle: as just after the boot."""
        for daemon in self.daemons.values():
            if daemon.running:
                daemon.thaw()
            self.start(daemon.name)
        for user in set(self._queued("%u")):
            self.run("scancel", "--user", user)
        wait_until(lambda: not self._queued("%i"), IDLE_WITHIN_S, "no job is left")
        wait_until(self._all_resumed, IDLE_WITHIN_S, "all nodes are idle")

    def _all_resumed(self) -> bool:
        for node in self._nodes_in("drain", "down", "fail"):
            # One that has come back by itself meanwhile cannot be resumed; any other is looked at again.
            with suppress(subprocess.CalledProcessError):
                self.resume_node(node)
        return self.idle()

    def _queued(self, form: str) -> list[str]:
        return self.run("squeue", "--noheader", "--all", f"--format={form}").split()
