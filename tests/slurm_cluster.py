"""A cluster in memory behind the transport's seam, for what a real one cannot be made to show on demand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapters.slurm.observations import waiting_indices
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
from adapters.slurm.transport import NoAccounting, NoAnswer, NotKnown, SlurmError


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class InMemory:
    """Jobs are rows that a test puts or changes; each call is counted in ``asked``."""

    clock: Clock = field(default_factory=Clock)
    name: str | None = "hpc"
    named_by_jobs: bool = False  # as v0.0.38: nameless until the queue has shown a job
    accounting: bool = True
    has_states: bool = False
    backlog: int = 0
    rows: dict[int, Job] = field(default_factory=dict)  # what the controller has, by id
    recorded: list[Job] = field(default_factory=list)  # what the database has
    asked: list[str] = field(default_factory=list)
    failure: SlurmError | None = None  # raised by every call while it is set
    loses_the_answer: bool = False  # of the next submit
    late: list[Job] = field(default_factory=list)  # accepted, but not in the queue yet
    cancelled: list[str] = field(default_factory=list)
    changed_at: float = 0.0
    next_id: int = 1

    def _ask(self, name: str) -> None:
        self.asked.append(name)
        if self.failure is not None:
            raise self.failure

    def put(self, *rows: Job) -> None:
        self.rows.update({row.id: row for row in rows})
        self.changed_at = self.clock.now

    def move(self, job_id: int, *states: str, **fields: Any) -> None:
        self.put(replace(self.rows[job_id], states=states, **fields))

    def forget(self, job_id: int) -> Job:
        self.changed_at = self.clock.now
        return self.rows.pop(job_id)

    # ---- the transport

    def cluster(self) -> Cluster:
        return Cluster(
            name=None if self.named_by_jobs else self.name,
            version="24.11.5",
            dialect="memory",
            accounting=self.accounting,
            has_states=self.has_states,
        )

    def ping(self) -> None:
        self._ask("ping")

    def submit(self, job: Submission) -> int:
        self._ask("submit")
        row = Job(
            id=self.next_id,
            name=job.name,
            user=job.user,
            states=("PENDING",),
            submitted_at=self.clock.now,
            comment=job.comment,
            stdout=job.stdout,
            stderr=job.stderr,
        )
        self.next_id += 1
        self.put(row)
        if self.loses_the_answer:
            self.loses_the_answer = False
            raise NoAnswer("the answer was lost")
        return row.id

    def cancel(self, job: str, user: str) -> None:
        self._ask("cancel")
        if int(job) not in self.rows:
            raise NotKnown(f"there is no job {job}", 2017)
        self.cancelled.append(job)
        self.move(int(job), "CANCELLED")

    def change(self, job: str, changes: Changes, user: str) -> None:
        self._ask("change")
        if changes.hold is not None:
            self.move(int(job), "PENDING", reason="JobHeldUser" if changes.hold else "Priority")

    def jobs(self, changed_since: float | None = None) -> Listing:
        self._ask("jobs")
        self.named_by_jobs = self.named_by_jobs and not self.rows
        unchanged = changed_since is not None and self.changed_at < changed_since
        return Listing(as_of=self.clock.now, jobs=None if unchanged else tuple(self.rows.values()))

    def states(self) -> Sequence[JobState]:
        self._ask("states")
        return [
            JobState(id=row.id, states=row.states, task=task)  # as v0.0.41 and later
            for row in self.rows.values()
            for task in ([row.task] if row.waiting_tasks is None else waiting_indices(row.waiting_tasks, ()))
        ]

    def job(self, job_id: int) -> Sequence[Job]:
        self._ask("job")
        found = [row for row in self.rows.values() if row.group == job_id or row.id == job_id]
        if not found:
            raise NotKnown(f"there is no job {job_id}", 2017)
        return found

    def history(
        self,
        names: Collection[str] = (),
        job_ids: Collection[int] = (),
        users: Collection[str] = (),
        since: float | None = None,
    ) -> Sequence[Job]:
        self._ask("history")
        if not self.accounting:
            raise NoAccounting("there is no database")
        return [
            row
            for row in self.recorded
            if (not names or row.name in names)
            and (not job_ids or row.group in job_ids)
            and (since is None or (row.submitted_at or 0.0) >= since)
        ]

    def accounting_backlog(self) -> int:
        self._ask("accounting_backlog")
        return self.backlog

    def associations(self) -> Sequence[Association]:
        return [Association(user="ana", account="vision", qos=("normal",), is_default=True)]

    def qos(self) -> Sequence[Qos]:
        return [Qos(name="normal")]

    def nodes(self) -> Sequence[Node]:
        return [Node(name="n1", states=("IDLE",), cpus=8, memory_mib=16000, partitions=("train",))]

    def partitions(self) -> Sequence[Partition]:
        return [Partition(name="train", up=True, default=True, nodes=("n1",), time_limit_min=60)]

    def reservations(self) -> Sequence[Reservation]:
        return []

    def licenses(self) -> Sequence[License]:
        return []

    def close(self) -> None:
        pass
