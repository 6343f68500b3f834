"""A cluster over pyslurm 25.11, for one that has no slurmrestd: Slurm's own protocol, with munge.

pyslurm runs in two supervised processes, one for questions and one for writes, so that a question that hangs
holds up no cancel.  Each call has a hard deadline, ``answer_s``.

The tests hold it to a stand-in with pyslurm's names.  The real pyslurm is not exercised in CI: it is built
against its own release of Slurm, and talks to no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from adapters.slurm import codes
from adapters.slurm import pyslurm_rows as rows
from adapters.slurm.options import Options
from adapters.slurm.pyslurm_process import Child
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
from adapters.slurm.rest.accounting import Ask, asked_for, association
from adapters.slurm.rest.rows import ENDED
from adapters.slurm.transport import (
    NoAccounting,
    NoAnswer,
    NotAuthenticated,
    NotKnown,
    NotReached,
    Refused,
    SlurmError,
)

R = TypeVar("R")
GOING = {"COMPLETING", "STAGE_OUT"}  # on their way out


@dataclass(frozen=True)
class Children:
    reads: Child
    writes: Child


class PyslurmTransport:
    """Safe in threads and in forked processes.  Nothing is started before the first call."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.time) -> None:
        self._options = options
        self._clock = clock
        self._by_process: dict[int, Children] = {}  # a forked process must not talk to its parent's
        self._cluster: Cluster | None = None

    @property
    def _children(self) -> Children:
        mine = os.getpid()
        if mine not in self._by_process:
            # setdefault is atomic: of two threads that come first, one's are used.
            self._by_process.setdefault(mine, Children(Child(self._options), Child(self._options)))
        return self._by_process[mine]

    def close(self) -> None:
        if children := self._by_process.pop(os.getpid(), None):
            children.reads.close()
            children.writes.close()

    # ---- asking --------------------------------------------------------------------------------------

    def _ask(self, call: str, **arguments: Any) -> Any:
        try:
            return value_of(self._children.reads.ask(call, arguments), NoAnswer)
        except (NoAnswer, NotAuthenticated, NotReached):
            self._cluster = None
            raise

    def _write(self, user: str, call: str, **arguments: Any) -> Any:
        answer = self._children.writes.ask(call, arguments)
        if answer.get("errno") == codes.ACCESS_DENIED and rows.user_of(user).pw_uid != os.geteuid():
            raise NotAuthenticated(f"{answer['said']} (the broker is not {user})", codes.ACCESS_DENIED)
        return value_of(answer, Refused)

    def _rows(self, what: str, wanted: Sequence[str], read: Callable[[rows.Row], R], **asked: Any) -> list[R]:
        return built(what, read, self._ask("rows", what=what, names=wanted, asked=asked))

    # ---- what it is ----------------------------------------------------------------------------------

    def cluster(self) -> Cluster:
        if (found := self._cluster) is None:
            about = self._ask("about")
            found = self._cluster = Cluster(
                name=about["name"],
                version=str(about["version"]),
                dialect=f"pyslurm {about['pyslurm']}",
                accounting="slurmdbd" in str(about["storage"]),
            )
        return found

    def ping(self) -> None:
        self._ask("backlog")  # a ping of pyslurm's fails when a spare controller is away

    # ---- jobs ----------------------------------------------------------------------------------------

    def submit(self, job: Submission) -> int:
        return int(self._write(job.user, "submit", fields=rows.keywords(job)))

    def cancel(self, job: str, user: str) -> None:
        if not job.isdecimal():
            raise rows.cannot(f"the cancel of a single task ({job})")
        said = self._write(user, "cancel", job_id=int(job))
        if not said and any(ENDED.union(GOING).isdisjoint(row.states) for row in self.job(int(job))):
            raise NoAnswer(f"pyslurm does not say whether it has cancelled {job}")

    def change(self, job: str, changes: Changes, user: str) -> None:
        """Held is by the administrator where the broker is one; a release lifts that as well."""
        fields = rows.changes(changes)
        if not job.isdecimal():
            raise rows.cannot(f"a change of a single task ({job})")
        if fields or changes.hold is not None:
            self._write(user, "change", job_id=int(job), fields=fields, hold=changes.hold)

    def jobs(self, changed_since: float | None = None) -> Listing:
        """Always all of them.  ``as_of`` is this machine's clock."""
        as_of = self._clock()
        return Listing(as_of=as_of, jobs=tuple(self._rows("jobs", rows.JOB, rows.job)))

    def states(self) -> Sequence[JobState]:
        raise rows.cannot("the listing of states alone")

    def job(self, job_id: int) -> Sequence[Job]:
        found = self._rows("job", rows.JOB, rows.job, job_id=job_id)
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
    ) -> Sequence[Job]:
        """pyslurm cannot ask by the time of submission, so that what was never eligible is missing unless it
        is asked for by its id; what of that the controller still has stands here as the controller's row.
        Of a job that was requeued only one run is told."""
        self._needs_accounting()
        ask = Ask(names=names, job_ids=job_ids, users=users, since=since)
        # Without a start it is the midnight before.
        asked: dict[str, Any] = {"start_time": int(since or 1)}
        asked |= {
            key: list(some) for key, some in (("names", names), ("ids", job_ids), ("users", users)) if some
        }
        found = self._rows("accounted", rows.ACCOUNTED, rows.job, **asked)
        known = {(row.id, row.submitted_at) for row in found}
        live = [row for row in self.jobs().jobs or () if (row.id, row.submitted_at) not in known]
        return [row for row in (*found, *live) if asked_for(row, ask)]

    # ---- what there is -------------------------------------------------------------------------------

    def accounting_backlog(self) -> int:
        return int(self._ask("backlog"))

    def associations(self) -> Sequence[Association]:
        """Of users on this cluster; those of whole accounts are left out."""
        self._needs_accounting()
        told = self._ask("rows", what="associations", names=rows.ASSOCIATION, asked={})
        here = [row for row in told if row["user"] and row["cluster"] == self.cluster().name]
        return built("associations", association, here)

    def qos(self) -> Sequence[Qos]:
        """Their names; pyslurm tells no limits."""
        self._needs_accounting()
        return self._rows("qos", ("name",), lambda row: Qos(name=str(row["name"])))

    def _needs_accounting(self) -> None:
        if not self.cluster().accounting:
            raise NoAccounting("the cluster has no accounting database")

    def nodes(self) -> Sequence[Node]:
        return self._rows("nodes", rows.NODE, rows.node)

    def partitions(self) -> Sequence[Partition]:
        return self._rows("partitions", rows.PARTITION, rows.partition)

    def reservations(self) -> Sequence[Reservation]:
        return self._rows("reservations", rows.RESERVATION, rows.reservation)

    def licenses(self) -> Sequence[License]:
        told = self._ask("licenses")
        return [
            License(name=name, total=int(row["total"]), used=int(row["in_use"])) for name, row in told.items()
        ]


def value_of(answer: Mapping[str, Any], otherwise: type[SlurmError]) -> Any:
    """``otherwise``: what it is when pyslurm itself complains, before it has sent anything."""
    if "value" in answer:
        return answer["value"]
    code = answer.get("errno")
    if code is None:
        raise otherwise(f"pyslurm: {answer['said']}")
    raise codes.kind_of(code)(str(answer["said"]), code)


def built(what: str, read: Callable[[rows.Row], R], told: Sequence[rows.Row]) -> list[R]:
    try:
        return [read(row) for row in told]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NoAnswer(f"what pyslurm says of {what} cannot be read: {error!r}") from error
