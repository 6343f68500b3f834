"""A cluster over pyslurm 25.11, for one that has no slurmrestd: Slurm's own protocol, with munge.

Only in a process of its own (``apart``): importing pyslurm ends the process where slurm.conf is bad, and each
call holds the GIL until the controller has answered, up to 20 s when it is gone.

The tests hold it to a stand-in with pyslurm's names.  The real pyslurm is not exercised in CI: it is built
against its own release of Slurm, and talks to no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pyslurm

from adapters.slurm import codes, records
from adapters.slurm import pyslurm_rows as rows
from adapters.slurm.rest.accounting import Ask, asked_for
from adapters.slurm.rest.rows import ENDED
from adapters.slurm.transport import NoAccounting, NoAnswer, NotAuthenticated, NotKnown, Refused, SlurmError

R = TypeVar("R")
GOING = {"COMPLETING", "STAGE_OUT"}  # on their way out
SLURMS_OWN = 1000  # smaller numbers are the C library's
ITS_OWN = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


class PyslurmTransport:
    def __init__(self) -> None:
        self._found: records.Cluster | None = None

    def cluster(self) -> records.Cluster:
        with asking():
            config = pyslurm.slurmctld.Config.load()
        self._found = records.Cluster(
            name=config.cluster_name,
            version=str(config.version),
            dialect=f"pyslurm {pyslurm.__version__}",
            accounting="slurmdbd" in str(config.accounting_storage_type),
        )
        return self._found

    def ping(self) -> None:
        self.accounting_backlog()  # a ping of pyslurm's fails when a spare controller is away

    # ---- jobs ----------------------------------------------------------------------------------------

    def submit(self, job: records.Submission) -> int:
        with asking(Refused, job.user), no_configuration():
            return int(pyslurm.JobSubmitDescription(**rows.keywords(job)).submit())

    def cancel(self, job: str, user: str) -> None:
        """pyslurm looks at errno whatever the call returned, so that a stale one of the C library is raised
        after a cancel that was done; an unknown job it cancels without a word."""
        job_id, said = rows.number_of(job, "the cancel"), True
        with asking(Refused, user):
            try:
                pyslurm.Job(job_id).cancel()
            except pyslurm.RPCError as error:
                if error.errno >= SLURMS_OWN:
                    raise
                said = False
            pyslurm.Job.load(job_id)  # raises when there is none
        if not said and any(ENDED.union(GOING).isdisjoint(row.states) for row in self.job(job_id)):
            raise NoAnswer(f"pyslurm does not say whether it has cancelled {job}")

    def change(self, job: str, changes: records.Changes, user: str) -> None:
        """Held is by the administrator where the broker is one; a release lifts that as well."""
        fields, theirs = rows.changes(changes), pyslurm.Job(rows.number_of(job, "a change"))
        with asking(Refused, user):
            if fields:
                theirs.modify(pyslurm.JobSubmitDescription(**fields))
            if changes.hold is not None:
                # hold(mode="user") writes through a pointer that is NULL and ends the process (25.11.2).
                (theirs.hold if changes.hold else theirs.release)()

    def jobs(self, changed_since: float | None = None) -> records.Listing:
        """Always all of them.  ``as_of`` is this machine's clock."""
        as_of = time.time()
        return records.Listing(as_of=as_of, jobs=tuple(told("jobs", rows.job, pyslurm.Jobs.load)))

    def states(self) -> Sequence[records.JobState]:
        raise rows.cannot("the listing of states alone")

    def job(self, job_id: int) -> Sequence[records.Job]:
        found = told("a job", rows.job, lambda: {job_id: pyslurm.Job.load(job_id)})
        if found[0].array_id is None:
            return found
        # Of an array that was one task's row.
        rows_of_all = [row for row in self.jobs().jobs or () if job_id in (row.id, row.array_id)]
        if not rows_of_all:
            raise NotKnown(f"there is no job {job_id}")
        return rows_of_all

    def history(
        self,
        names: Collection[str] = (),
        job_ids: Collection[int] = (),
        users: Collection[str] = (),
        since: float | None = None,
    ) -> Sequence[records.Job]:
        """pyslurm cannot ask by the time of submission, so that what was never eligible is missing unless it
        is asked for by its id; what of that the controller still has stands here as the controller's row.
        Of a job that was requeued only one run is told."""
        self._needs_accounting()
        wanted = {"names": names, "ids": job_ids, "users": users}
        asked = {key: list(some) for key, some in wanted.items() if some}
        past = pyslurm.db.JobFilter(start_time=int(since or 1), **asked)  # none: the midnight before
        found = told("past jobs", rows.accounted, lambda: pyslurm.db.Jobs.load(past))
        known = {(row.id, row.submitted_at) for row in found}
        live = [row for row in self.jobs().jobs or () if (row.id, row.submitted_at) not in known]
        ask = Ask(names=names, job_ids=job_ids, users=users, since=since)
        return [row for row in (*found, *live) if asked_for(row, ask)]

    # ---- what there is -------------------------------------------------------------------------------

    def accounting_backlog(self) -> int:
        with asking():
            return int(pyslurm.slurmctld.diag().dbd_agent_queue_size)

    def associations(self) -> Sequence[records.Association]:
        """Of users on this cluster; those of whole accounts are left out."""
        here = self._needs_accounting().name
        found = told("associations", rows.association, pyslurm.db.Associations.load)
        return [one for cluster, one in found if cluster == here and one.user]

    def qos(self) -> Sequence[records.Qos]:
        """Their names; pyslurm tells no limits."""
        self._needs_accounting()
        return told("QOS", rows.qos, pyslurm.db.QualitiesOfService.load)

    def _needs_accounting(self) -> records.Cluster:
        found = self._found or self.cluster()
        if not found.accounting:
            raise NoAccounting("the cluster has no accounting database")
        return found

    def nodes(self) -> Sequence[records.Node]:
        return told("nodes", rows.node, pyslurm.Nodes.load)

    def partitions(self) -> Sequence[records.Partition]:
        return told("partitions", rows.partition, pyslurm.Partitions.load)

    def reservations(self) -> Sequence[records.Reservation]:
        return told("reservations", rows.reservation, pyslurm.Reservations.load)

    def licenses(self) -> Sequence[records.License]:
        with asking():
            found = pyslurm.licenses().get()
        return [
            records.License(name=name, total=row["total"], used=row["in_use"]) for name, row in found.items()
        ]

    def close(self) -> None: ...


@contextmanager
def asking(otherwise: type[SlurmError] = NoAnswer, user: str = "") -> Iterator[None]:
    """``otherwise``: what it is when pyslurm itself complains, before it has sent anything.  ``user``: who it
    is for."""
    try:
        yield
    except pyslurm.RPCError as error:
        said, code = str(error.msg), error.errno
        if user and code == codes.ACCESS_DENIED and rows.user_of(user).pw_uid != os.geteuid():
            raise NotAuthenticated(f"{said} (the broker is not {user})", code) from error
        raise codes.kind_of(code)(said, code) from error
    except ITS_OWN as error:
        raise otherwise(f"pyslurm: {str(error) or repr(error)}") from error


def told(what: str, read: Callable[[Any], R], load: Callable[[], Mapping[Any, Any]]) -> list[R]:
    with asking():
        found = load()
    try:
        return [read(one) for one in found.values()]
    except ITS_OWN as error:
        raise NoAnswer(f"what pyslurm says of {what} cannot be read: {error!r}") from error


@contextmanager
def no_configuration() -> Iterator[None]:
    """pyslurm copies every SLURM_* of its own process into the job, where the path of this host is wrong."""
    path = os.environ.pop("SLURM_CONF", None)
    try:
        yield
    finally:
        if path is not None:
            os.environ["SLURM_CONF"] = path
