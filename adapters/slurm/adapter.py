"""A Slurm cluster as the broker sees it: each verb of the contract over one transport.

Slurm has no unique names and reuses its ids, so every write asks first what is behind the id.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from adapters import carried, secret_files
from adapters.base import (
    Absent,
    AttemptRef,
    BackendConfig,
    Capability,
    Finding,
    Found,
    Handle,
    Inventory,
    Load,
    LogPage,
    LogQuery,
    Observation,
    Observations,
    Ours,
    Unsettled,
)
from adapters.errors import BackendError, Busy, Rejected
from adapters.extras import Usage
from adapters.slurm import (
    capacity,
    checks,
    checks_here,
    explain,
    folders,
    loading,
    logs,
    observations,
    refusals,
    render,
    single_tasks,
    transports,
    usage,
    waiting,
)
from adapters.slurm.attempts import Attempts
from adapters.slurm.errors import reading, writing
from adapters.slurm.live import LiveQueue
from adapters.slurm.observations import Reading
from adapters.slurm.records import Changes, Job, Submission
from adapters.slurm.transport import NotKnown, SlurmError, Transport
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason
from api_spec.usage import RunUsage

RECENT_S = 2.0  # how busy the cluster is may be told from a listing that is this old
EXPLAINED_S = 60.0  # and why a job waits from the one that showed it waiting: a pass may take so long


class SlurmAdapter:
    type: ClassVar[str] = "slurm"
    capabilities = frozenset(
        {
            Capability.LOGS,
            Capability.EXPLAIN,
            Capability.HOLD,
            Capability.ADJUST,
            Capability.ARRAYS,
            Capability.CANCEL_TASKS,
            Capability.USAGE,
            Capability.NATIVE_DEPENDENCY,
        }
    )

    def __init__(self, config: BackendConfig, transport: Transport | None = None) -> None:
        """Calls nothing.  Raises ``ValueError`` for options that are wrong."""
        self.name = config.name
        self.options = loading.load(config.options, config.name)
        if not self.options.native_dependencies:
            self.capabilities = self.capabilities - {Capability.NATIVE_DEPENDENCY}
        if self.options.transport == "pyslurm":
            self.capabilities -= {Capability.CANCEL_TASKS}  # it cancels by a job's own number alone
        self._prefix = f"wb-{config.instance}-"
        self._given = transport
        self._told: Mapping[str, tuple[Job, Observation]] = {}  # of single jobs, by the row, in the last pass

    @cached_property
    def transport(self) -> Transport:
        return self._given or transports.open_transport(self.options)

    @cached_property
    def _queue(self) -> LiveQueue:
        return LiveQueue(self.transport)

    @cached_property
    def _attempts(self) -> Attempts:
        return Attempts(self.transport, self._queue, self.options.settle_s)

    def close(self) -> None:
        """Connections go; the next call makes new ones."""
        self.transport.close()

    # ---- pure ----------------------------------------------------------------------------------------

    def refusals(self, spec: JobSpec, inventory: Inventory | None, owner: str = "") -> Sequence[Refusal]:
        return refusals.refusals(spec, inventory, self.options, self.name, owner)

    def render(self, spec: JobSpec, ref: AttemptRef) -> str:
        return render.text(render.submission(spec, ref, self.options, self.name), spec.secrets)

    def outputs(self, spec: JobSpec, ref: AttemptRef) -> Mapping[str, str]:
        return folders.outputs(spec, ref, self.options)

    # ---- attempts ------------------------------------------------------------------------------------

    def submit(self, ref: AttemptRef, spec: JobSpec) -> Handle:
        found = self.refusals(spec, None, ref.owner)
        if found:
            raise Rejected("; ".join(one.message for one in found), found[0].code)
        job = self._with_secrets(render.submission(spec, ref, self.options, self.name), spec, ref)
        with writing(self.name):
            cluster = self._the_right_cluster() or self._named_by_its_jobs()
        with reading(self.name):
            waiting.expect_live(ref.after, self._attempts, cluster)
        with writing(self.name):
            folders.make(job.stdout, job.user, self.options)
            try:
                job_id = waiting.submit(job, ref.after, self.transport, self._attempts, self.name)
            finally:
                self._queue.changed()
        if cluster is None:
            with suppress(SlurmError, Busy):  # the job is there, whatever the cluster is called
                cluster = self._named_by_its_jobs()
        return {"cluster": cluster, "id": job_id, "user": job.user}

    def _with_secrets(self, job: Submission, spec: JobSpec, ref: AttemptRef) -> Submission:
        if not spec.secrets:
            return job
        directory = folders.of_secrets(ref.project, self.options)
        try:
            values = secret_files.values(spec.secrets, directory)
        except secret_files.Missing as error:
            raise Rejected(str(error)) from error
        return render.with_secrets(job, values)

    def _the_right_cluster(self) -> str | None:
        """A new controller behind an old address must get nothing that was meant for another one, and what it
        does not know is not lost.  None: it has not said what it is called."""
        name = self.transport.cluster().name
        if self.options.cluster and name not in (None, self.options.cluster):
            message = f"{self.name} is the cluster {name} and not {self.options.cluster}"
            raise Busy(message, 60.0, Reason.BACKEND_DOWN)
        return name

    def _named_by_its_jobs(self) -> str | None:
        """Before v0.0.40 slurmrestd names its cluster in the rows of jobs alone; with none, nobody knows."""
        self._queue.listed(time.time() - RECENT_S)
        return self._the_right_cluster()

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        with reading(self.name):
            answer = self._attempts.find(marker, since)
            self._the_right_cluster()
            return answer

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        as_of = time.time()
        if not refs:
            return Observations(as_of=as_of, complete=True)
        with reading(self.name):
            seen = self._attempts.seen(refs)
            cluster = self._the_right_cluster()
        for marker, found in seen.found.items():
            self._end_copies(marker, found)
        expected = {ref.marker: ref.task_indices for ref in refs}
        found_ones = {
            marker: self._told_before(marker, found)
            or self._observation(marker, found, cluster, expected[marker])
            for marker, found in seen.found.items()
        }
        self._told = {
            marker: (row, found_ones[marker])
            for marker, found in seen.found.items()
            if (row := found.single) is not None
        }
        elsewhere = {ref.marker: one for ref in refs if (one := observations.elsewhere(ref, cluster))}
        return Observations(as_of=as_of, complete=seen.complete, found={**elsewhere, **found_ones})

    def _told_before(self, marker: str, found: Reading) -> Observation | None:
        """Of a job that has not changed since the last pass: its row is still the same object."""
        row, observation = self._told.get(marker, (None, None))
        return observation if row is not None and row is found.single else None

    def _observation(
        self, marker: str, found: Reading, cluster: str | None, expected: Sequence[int] = ()
    ) -> Observation:
        if not expected and observations.is_array(found.rows):
            expected = _carried(marker, found).task_indices
        accounted = self.transport.cluster().accounting
        return observations.observation(marker, found, cluster, expected, accounted=accounted)

    def _end_copies(self, marker: str, found: Reading) -> None:
        """What waits beside it would only take a place in the queue.  Of two that have started, the guard in
        the script ends one: which one, it alone knows."""
        for row in {one.group: one for one in found.copies}.values():
            ref = AttemptRef(marker=marker, handle={"id": row.group, "user": row.user})
            with suppress(SlurmError):  # the next pass tries again
                now = self._attempts.live(ref).get(row.group, ())
                if now and (not self.options.guard or all(map(observations.waits, now))):
                    self.transport.cancel(str(row.group), row.user)
                    self._queue.changed(row.group)

    def list_ours(self, since: float) -> Sequence[Ours]:
        with reading(self.name):
            cluster = self._the_right_cluster()
            found = list(self._attempts.all_ours(self._prefix, since))
        out = []
        for marker, seen in found:
            observation = self._observation(marker, seen, cluster)
            ref = replace(
                _carried(marker, seen), handle=observation.handle, submitted_at=seen.rows[0].submitted_at
            )
            out.append(Ours(ref=ref, observation=observation))
        return out

    def cancel(self, ref: AttemptRef) -> None:
        with writing(self.name):
            for group, rows in self._attempts.live(ref).items():
                with suppress(NotKnown):
                    self.transport.cancel(str(group), rows[0].user)
                self._queue.changed(group)

    def cancel_tasks(self, ref: AttemptRef, indices: Collection[int]) -> Collection[int]:
        gone = []
        with writing(self.name):
            for group in self._attempts.live(ref):
                rows = self._attempts.of_group(group, ref.marker)
                gone.append(single_tasks.cancel(self.transport, rows, indices))
                self._queue.changed(group)
        return frozenset.intersection(*gone) if gone else ()

    def hold(self, ref: AttemptRef) -> None:
        self._change(ref, Changes(hold=True))

    def release(self, ref: AttemptRef) -> None:
        self._change(ref, Changes(hold=False))

    def adjust(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._change(ref, render.adjusted(spec, self.options, self.name), running_too=True)

    def _change(self, ref: AttemptRef, changes: Changes, running_too: bool = False) -> None:
        """Slurm neither holds nor releases what runs."""
        with writing(self.name):
            for group, rows in self._attempts.live(ref).items():
                if running_too or any(observations.waits(row) for row in rows):
                    with suppress(NotKnown):
                        self.transport.change(str(group), changes, rows[0].user)
                self._queue.changed(group)

    def cleanup(self, ref: AttemptRef) -> None:
        """Its logs and outputs stay: they are the user's."""
        with writing(self.name):
            if self._attempts.live(ref):
                return
        folders.forget(ref, self.options)

    # ---- the cluster ---------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        with reading(self.name):
            return capacity.inventory(self.transport, time.time(), self.options)

    def load(self) -> Load:
        with reading(self.name):
            return capacity.load(
                self.transport, self._queue.listed(time.time() - RECENT_S), time.time(), self.options
            )

    def check(self) -> Sequence[Finding]:
        return checks.findings(self.transport, self.options)

    # ---- optional ------------------------------------------------------------------------------------

    def logs(self, ref: AttemptRef, query: LogQuery) -> LogPage:
        with reading(self.name):
            rows = self._attempts.known(ref)
        if not rows and ref.handle is None:
            raise BackendError("the backend does not know this attempt; it has no log")
        return logs.page(rows, ref, query, self.options)

    def check_files(self) -> Sequence[Finding]:
        return checks_here.about_files(self.options)

    def usage(self, since: float, until: float) -> Sequence[Usage]:
        with reading(self.name):
            rows = self.transport.history(since=max(0.0, since - usage.LONGEST_S))
        return usage.by_account(rows, since, until)

    def accounted(self, refs: Collection[AttemptRef]) -> Mapping[str, RunUsage]:
        with reading(self.name):
            if not self.transport.cluster().accounting:
                return {ref.marker: RunUsage() for ref in refs}
            return usage.of_attempts(self._attempts.recorded(refs))

    def explain_pending(self, ref: AttemptRef) -> Sequence[Refusal]:
        with reading(self.name):
            queue = self._queue.showing(ref.marker, time.time() - EXPLAINED_S)
        found = observations.reading(queue.named(ref.marker))
        return explain.reasons(found.rows, queue) if found else ()


def _carried(marker: str, found: Reading) -> AttemptRef:
    """The comment has it all; where the database keeps no comments, the marker is what is left."""
    read = (carried.read(marker, row.comment) for row in found.rows)
    return next((ref for ref in read if ref is not None), AttemptRef(marker=marker))
