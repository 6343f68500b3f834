"""Observe: ask a backend about everything that is live there, in one pass, and write what has changed."""

from __future__ import annotations

import uuid
from dataclasses import replace

from adapters.base import Absent, AttemptRef, BackendError, Found, Observation
from api_spec.errors import StoreUnavailable
from api_spec.schemas import unpack_spec
from broker.lifecycle import tasks
from broker.lifecycle.context import Context, log
from broker.lifecycle.points import point
from broker.lifecycle.progress import Seen, Step, fingerprint, lost, progress
from broker.store.changes import Guard, Live
from broker.store.jobs import Written

SLOWER_WHEN_DOWN = 5  # a backend that does not answer is asked less often


def observe(context: Context, backend: str) -> int:
    """How many observations were written.  One observer at a time: its writes carry the lease's epoch."""
    context.store.leases.hint_taken(f"observe:{backend}")
    point("observe_begun")
    if backend not in context.adapters:
        return 0
    name, holder = f"observe:{backend}", f"{context.holder}:{uuid.uuid4().hex[:8]}"
    epoch = context.store.leases.acquire(name, holder, context.settings.lease_s)
    if epoch is None:
        return 0
    point("observe_leased")
    try:
        written = _Pass(context, backend, (name, epoch)).run()
        point("observe_done")
        return written
    finally:
        context.store.leases.release(name, holder)
        point("observe_left")


class _Pass:
    def __init__(self, context: Context, backend: str, lease: tuple[str, int]) -> None:
        self.context = context
        self.backend = backend
        self.lease = lease
        self.adapter = context.adapter(backend)

    def run(self) -> int:
        store, settings = self.context.store, self.context.settings
        now = store.now()
        # Read before the backend is asked: what is submitted later is not absent, only newer than the pass.
        # An attempt without a handle is an unconfirmed submission: the dispatcher's, with its settle time.
        live = {id_: entry for id_, entry in store.backends.live(self.backend).items() if entry.handle}
        refs = {job_id: self._ref(job_id, entry) for job_id, entry in live.items()}
        try:
            seen = self.adapter.observe(list(refs.values()))
        except BackendError as error:
            store.backends.failed(self.backend, str(error), int(now * 1000))
            pause_s = settings.poll_s * SLOWER_WHEN_DOWN
            store.backends.postpone(self.backend, "observe_at", int((now + pause_s) * 1000))
            return 0
        point("observed")
        written = 0
        for job_id, entry in live.items():
            observation = seen.found.get(refs[job_id].marker)
            if observation is not None:
                written += self._apply(job_id, entry, observation)
            elif seen.complete:
                written += self._investigate(job_id, entry)
        store.backends.answered(self.backend, int(now * 1000) if seen.complete else None)
        store.backends.postpone(self.backend, "observe_at", int((now + settings.poll_s) * 1000))
        return written

    def _ref(self, job_id: str, entry: Live) -> AttemptRef:
        marker = self.context.marker(job_id, entry.attempt)
        return AttemptRef(marker=marker, handle=entry.handle, job_id=job_id, number=entry.attempt)

    def _apply(self, job_id: str, entry: Live, observation: Observation) -> int:
        if fingerprint(observation) == entry.fingerprint:
            return 0
        try:
            return self._apply_one(job_id, entry, observation)
        except StoreUnavailable:
            raise
        except Exception:
            # One odd observation must not hide the others of this pass.
            log.exception("the observation of %s could not be applied", observation.marker)
            self.context.store.count("observe_failures")
            return 0

    def _apply_one(self, job_id: str, entry: Live, observation: Observation) -> int:
        seen = self._read(job_id, entry, observation)
        if seen is None:
            return 0
        if observation.state is None:
            log.warning("%s says %r, which is not known", self.backend, observation.native_state)
            self.context.store.count("unknown_words")
        step = progress(seen)
        if step is None:
            entry = replace(entry, fingerprint=fingerprint(observation))
            self.context.store.backends.note_fingerprint(self.backend, job_id, entry)
            return 0
        return self._write(seen, step)

    def _read(self, job_id: str, entry: Live, observation: Observation) -> Seen | None:
        """None: the job has gone on since."""
        parts = self.context.store.jobs.parts(job_id)
        if parts is None or parts.record.ended_for_good or parts.record.attempt != entry.attempt:
            return None
        spec = unpack_spec(parts.spec)
        attempt = next(one for one in parts.attempts if one.number == entry.attempt)
        table = tasks.table_of(spec, parts.tasks)
        return Seen(record=parts.record, attempt=attempt, spec=spec, table=table, observation=observation)

    def _write(self, seen: Seen, step: Step) -> int:
        jobs = self.context.store.jobs
        guard = Guard(version=seen.record.version, lease=self.lease)
        write = jobs.end if step.ends else jobs.move
        written = write(seen.record.id, guard, step.change)
        point("observation_applied")
        if written is Written.STALE:
            log.warning("this observer of %s is no longer the one; its write was refused", self.backend)
        if written is Written.OK and (step.ends or step.change.wake):
            self.context.hint("release")
        if written is Written.OK and step.change.due:
            self.context.hint("drain:" + step.change.due[0].partition(":")[2])
        return int(written is Written.OK)

    def _investigate(self, job_id: str, entry: Live) -> int:
        """A complete pass did not show it.  It is absent only if a look-up for its marker proves that."""
        attempt = self.context.store.jobs.attempt(job_id, entry.attempt)
        if attempt is None:
            return 0
        try:
            answer = self.adapter.find(attempt.marker, attempt.submitted_at)
        except BackendError:
            return 0
        finally:
            point("looked_up")
        if isinstance(answer, Absent):
            point("absence_proven")
            return self._apply(job_id, entry, lost(attempt.marker))
        if isinstance(answer, Found) and dict(answer.handle) != dict(entry.handle or {}):
            log.warning("%s is now known as %s", attempt.marker, dict(answer.handle))
        return 0
