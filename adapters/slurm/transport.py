"""The seam between the adapter and a way to reach a cluster: slurmrestd in two dialects, or pyslurm.

A transport translates and calls; it decides nothing.  It is safe from several threads at once, and each
call has its own time-out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

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


class SlurmError(Exception):
    """``code`` is Slurm's own number (slurm_errno.h) where it gave one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Refused(SlurmError):
    """Slurm read it and said no, for good."""


class NotKnown(SlurmError):
    """There is no such job (2017)."""


class TryLater(SlurmError):
    """It did not act, and may do so later: too many jobs, a job that is just starting, a limit."""


class NotAuthenticated(SlurmError):
    """The token is missing, wrong or has expired, or may not speak for this user.  It did not act."""


class NotReached(SlurmError):
    """Nothing was sent: refused connection, unknown host, no socket, no certificate."""


class NoAnswer(SlurmError):
    """Something was sent and the answer is missing or says nothing: nobody knows whether it acted."""


class NoAccounting(SlurmError):
    """The cluster has no accounting database."""


class Transport(Protocol):
    """Every call raises ``SlurmError``; ``Refused`` by one that only reads means bad input of ours."""

    def cluster(self) -> Cluster:
        """What was found; looked up once and kept until a call shows that it has changed."""

    def ping(self) -> None:
        """Raises unless the controller itself answers."""

    def submit(self, job: Submission) -> int:
        """The id.  An answer that dropped a field is ``Refused``, and the job that it made is cancelled."""

    def cancel(self, job: str, user: str) -> None:
        """``job``: "12", or "12_3" for one task.  What has ended is no error; raises ``NotKnown``."""

    def change(self, job: str, changes: Changes, user: str) -> None: ...

    def jobs(self, changed_since: float | None = None) -> Listing:
        """All jobs of the controller in one call."""

    def states(self) -> Sequence[JobState]:
        """The cheap listing; only where ``cluster().has_states``."""

    def job(self, job_id: int) -> Sequence[Job]:
        """The rows of one job, of an array those of all its tasks.  Raises ``NotKnown``."""

    def history(
        self,
        names: Collection[str] = (),
        job_ids: Collection[int] = (),
        users: Collection[str] = (),
        since: float | None = None,
    ) -> Sequence[Job]:
        """Rows of the accounting database, those that were never eligible and earlier runs of a requeued job
        included.  ``since``: submitted then or later.  Raises ``NoAccounting``."""

    def accounting_backlog(self) -> int:
        """Records that the controller has not handed to the database yet: while there are any, what the
        database does not have proves nothing."""

    def associations(self) -> Sequence[Association]: ...

    def qos(self) -> Sequence[Qos]: ...

    def nodes(self) -> Sequence[Node]: ...

    def partitions(self) -> Sequence[Partition]: ...

    def reservations(self) -> Sequence[Reservation]: ...

    def licenses(self) -> Sequence[License]: ...

    def close(self) -> None: ...
