"""A cluster over slurmrestd: each call of the protocol as requests, and their answers as records."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from adapters.slurm.options import Options
from adapters.slurm.records import (
    Association,
    Changes,
    Cluster,
    Job,
    JobState,
    License,
    Listing,
    Node,
    Partition,
    Qos,
    Reservation,
    Submission,
)
from adapters.slurm.rest import judging, rows
from adapters.slurm.rest.accounting import Ask, asked_for
from adapters.slurm.rest.answers import UNKNOWN_USER, Request
from adapters.slurm.rest.client import Client
from adapters.slurm.rest.connection import Connection
from adapters.slurm.rest.dialects import DIALECTS, Dialect
from adapters.slurm.rest.tokens import Tokens
from adapters.slurm.transport import NoAnswer, NotKnown, NotReached, Refused, SlurmError

R = TypeVar("R")


class RestTransport:
    """Safe in threads and in forked processes.  Nothing is sent before the first call."""

    def __init__(
        self,
        options: Options,
        *,
        dialects: Sequence[Dialect] = DIALECTS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``dialects``: those to choose from, the best first."""
        self.connection = Connection(Client(options), Tokens(options, clock), dialects)

    def close(self) -> None:
        self.connection.close()

    # ---- what it is ----------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        return self.connection.found().cluster

    def ping(self) -> None:
        if not any(self._rows("ping", "pings", rows.answers)):
            # Newer ones call a controller down that does not take the token; a call that needs it tells.
            self._rows("licenses", "licenses", rows.license_of)
            raise NotReached("the controller does not answer slurmrestd")

    # ---- jobs ----------------------------------------------------------------------------------------

    def submit(self, job: Submission) -> int:
        body = self.connection.found().dialect.submission(job)
        answer = self.connection.ask(
            Request(method="POST", path="job/submit", body=body), job.user, judging.not_submitted
        )
        job_id = judging.made(answer)
        if job_id is None:
            raise NoAnswer("slurmrestd answers a submission without a job's id")
        if wrong := judging.dropped(answer):
            self._undo(job_id, job.user, wrong)
            raise Refused(f"slurmrestd did not take all of the job: {wrong}")
        return job_id

    def _undo(self, job_id: int, user: str, wrong: str) -> None:
        """Raises ``NoAnswer`` when the job that is not as it should be may still be there."""
        try:
            with suppress(NotKnown):
                self.cancel(str(job_id), user)
        except SlurmError as error:
            raise NoAnswer(f"{wrong}; its job {job_id} could not be cancelled: {error}") from error

    def cancel(self, job: str, user: str) -> None:
        answer = self.connection.ask(Request(method="DELETE", path=f"job/{job}"), user, judging.not_cancelled)
        if judging.says_nothing(answer):
            self.job(int(job.partition("_")[0]))

    def change(self, job: str, changes: Changes, user: str) -> None:
        """Nothing to change: nothing is sent."""
        if body := self.connection.found().dialect.changes(changes):
            request = Request(method="POST", path=f"job/{job}", body=body)
            self.connection.ask(request, user, judging.not_changed)

    def jobs(self, changed_since: float | None = None) -> Listing:
        # v0.0.38 does not say when its listing was made; the moment before is early enough.
        dialect = self.connection.found().dialect
        before = None if dialect.newer else self._controller_time()
        params = () if changed_since is None else (("update_time", dialect.since(changed_since)),)
        answer = self.connection.ask(Request(method="GET", path="jobs", params=params))
        if not dialect.newer:
            self.connection.named(rows.cluster_of((answer.body or {}).get("jobs") or ()))
        return judging.listing(answer, before, changed_since)

    def _controller_time(self) -> float:
        answer = self.connection.ask(Request(method="GET", path="diag"))
        with judging.reading("the controller's clock"):
            return float((answer.body or {})["statistics"]["req_time"])

    def states(self) -> Sequence[JobState]:
        return self._rows("jobs/state", "jobs", self.connection.found().dialect.job_state)

    def job(self, job_id: int) -> Sequence[Job]:
        return self._rows(f"job/{job_id}", "jobs", rows.job)

    def history(
        self,
        names: Collection[str] = (),
        job_ids: Collection[int] = (),
        users: Collection[str] = (),
        since: float | None = None,
    ) -> Sequence[Job]:
        ask = Ask(names=names, job_ids=job_ids, users=users, since=since)
        try:
            found = self._history(ask)
        except Refused as error:
            if error.code != UNKNOWN_USER:
                raise
            # One name that Slurm's machine does not know, and it answers none of them.
            found = self._history(replace(ask, users=()))
        return [row for row in found if asked_for(row, ask)]

    def _history(self, ask: Ask) -> list[Job]:
        dialect = self.connection.found().dialect
        # Each question is about other names, ids and users, so that no row comes twice.
        answers = [
            self._rows("jobs", "jobs", dialect.accounted, params, database=True)
            for params in dialect.questions(ask)
        ]
        return [row for answer in answers for row in answer]

    # ---- what there is -------------------------------------------------------------------------------

    def accounting_backlog(self) -> int:
        """What slurmctld has queued for slurmdbd; both dialects tell it among their statistics."""
        answer = self.connection.ask(Request(method="GET", path="diag"))
        with judging.reading("the records that wait for the database"):
            return int((answer.body or {})["statistics"]["dbd_agent_queue_size"])

    def associations(self) -> Sequence[Association]:
        """Of users on this cluster: the database may serve several, and whole accounts have some too."""
        found = self.connection.found()
        rows_of_all = self._rows("associations", "associations", dict, database=True)
        with judging.reading("associations"):
            ours = (row for row in rows_of_all if row.get("cluster") in (found.cluster.name, None, ""))
            every = [found.dialect.association(row) for row in (ours if found.cluster.name else rows_of_all)]
        return [row for row in every if row.user]

    def qos(self) -> Sequence[Qos]:
        dialect = self.connection.found().dialect
        return self._rows("qos", dialect.qos_key, dialect.qos, database=True)

    def nodes(self) -> Sequence[Node]:
        return self._rows("nodes", "nodes", rows.node)

    def partitions(self) -> Sequence[Partition]:
        return self._rows("partitions", "partitions", self.connection.found().dialect.partition)

    def reservations(self) -> Sequence[Reservation]:
        return self._rows("reservations", "reservations", rows.reservation)

    def licenses(self) -> Sequence[License]:
        return self._rows("licenses", "licenses", rows.license_of)

    def _rows(
        self,
        path: str,
        key: str,
        read: Callable[[Mapping[str, Any]], R],
        params: Sequence[tuple[str, str]] = (),
        *,
        database: bool = False,
    ) -> list[R]:
        answer = self.connection.ask(Request(method="GET", path=path, params=params), database=database)
        with judging.reading(path):
            return [read(row) for row in (answer.body or {})[key]]
