"""Observe: ask a backend about everything that is live there, in one pass, and write what has changed."""

from __future__ import annotations

import time
from dataclasses import replace

from adapters.base import Absent, AttemptRef, BackendError, Found, Observation, Observations
from adapters.extras import Explains, PlacesOutputs
from api_spec.errors import StoreUnavailable
from api_spec.reasons import Reason
from api_spec.schemas import unpack_spec
from api_spec.states import AttemptState, JobState
from broker.lifecycle import kept_logs, native, tasks
from broker.lifecycle.context import Context, log, ref_of
from broker.lifecycle.health import answered, failed
from broker.lifecycle.keeping import Kept, kept
from broker.lifecycle.points import point
from broker.lifecycle.progress import Seen, Step, fingerprint, lost, progress
from broker.store.changes import Guard, Live
from broker.store.jobs import Written

SLOWER_WHEN_DOWN = 5  # a backend that does not answer is asked less often
REST_MAX_S = 10.0  # also after a pass in which everything had changed
REST = 10  # times the processor time of a pass: 10,000 idle jobs cost a tenth of a core, not half of one
ITS_REST_MAX_S = 60.0  # a cluster of 10,000 jobs may need 13 s for one listing
ITS_REST = 4  # times what the backend took to answer: we have it busy for a fifth of the time at most


def observe(context: Context, backend: str) -> int:
    """How many observations were written.  One observer at a time: its writes carry the lease's epoch."""
    context.store.leases.hint_taken(f"observe:{backend}")
    point("observe_begun")
    if backend not in context.adapters:
        return 0
    with kept(context, f"observe:{backend}") as lease:
        point("observe_leased")
        if lease is None:
            return 0
        written = _Pass(context, backend, lease).run()
        point("observe_done")
    point("observe_left")
    return written


class _Pass:
    def __init__(self, context: Context, backend: str, lease: Kept) -> None:
        self.context = context
        self.backend = backend
        self.lease = lease
        self.adapter = context.adapter(backend)
        self.store = context.store

    def run(self) -> int:
        began, worked, asked = self.store.now(), time.thread_time(), time.monotonic()
        # An attempt without a handle is an unconfirmed submission: the dispatcher's, with its settle time.
        # Read before the backend is asked: what is submitted later is not absent, only newer than the pass.
        live = {id_: entry for id_, entry in self.store.backends.live(self.backend).items() if entry.handle}
        refs = {job_id: self._ref(job_id, entry) for job_id, entry in live.items()}
        try:
            seen = self.adapter.observe(list(refs.values()))
        except BackendError as error:
            failed(self.context, self.backend, error)
            self._rest(SLOWER_WHEN_DOWN * self.context.settings.poll_s)
            return 0
        slow_s = self._slow_s(time.monotonic() - asked)
        point("observed")
        by_job = {job_id: seen.found.get(ref.marker) for job_id, ref in refs.items()}
        logs_leave = kept_logs.ask(self.context, self.backend, live, by_job)
        written = 0
        for job_id, entry in live.items():
            if self.lease.lost:
                log.warning("another observer of %s has taken over", self.backend)
                return written
            written += self._look(job_id, entry, refs[job_id], seen)
        answered(self.context, self.backend, began if seen.complete else None)
        if logs_leave:
            self.context.hint(f"keep:{self.backend}")
        rest_s = min(REST_MAX_S, REST * (time.thread_time() - worked))
        self._rest(max(self.context.settings.poll_s, rest_s, min(ITS_REST_MAX_S, ITS_REST * slow_s)))
        return written

    def _slow_s(self, took_s: float) -> float:
        """One slow answer is no slow backend: it may have been starting.  Two in a row are."""
        before_s = self.context.pass_s.get(self.backend, 0.0)
        self.context.pass_s[self.backend] = took_s
        return min(before_s, took_s)

    def _rest(self, seconds: float) -> None:
        self.store.backends.postpone(self.backend, "observe_at", int((self.store.now() + seconds) * 1000))

    def _ref(self, job_id: str, entry: Live) -> AttemptRef:
        marker = self.context.marker(job_id, entry.attempt)
        return AttemptRef(marker=marker, handle=entry.handle, job_id=job_id, number=entry.attempt)

    def _look(self, job_id: str, entry: Live, ref: AttemptRef, seen: Observations) -> int:
        observation = seen.found.get(ref.marker)
        if observation is not None:
            return self._apply(job_id, entry, observation)
        return self._investigate(job_id, entry) if seen.complete else 0

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
            self.store.count("observe_failures")
            return 0

    def _apply_one(self, job_id: str, entry: Live, observation: Observation) -> int:
        seen = self._read(job_id, entry, observation)
        if seen is None:
            # The job has gone on, and its entry was left behind: nothing may be waiting for it.
            self.store.backends.change_live(self.backend, job_id, entry, None)
            point("observation_applied")
            return 0
        if observation.state is None and observation.reason is Reason.BACKEND_DOWN:
            log.warning("%s was not shown: %s", observation.marker, observation.message)
        elif observation.state is None:
            log.warning("%s says %r, which is not known", self.backend, observation.native_state)
            self.store.count("unknown_words")
        step = progress(seen)
        if step is None:
            after = replace(entry, fingerprint=fingerprint(observation))
            self.store.backends.change_live(self.backend, job_id, entry, after)
            point("observation_applied")
            return 0
        return self._write(seen, step)

    def _read(self, job_id: str, entry: Live, observation: Observation) -> Seen | None:
        """None: the job is no longer at this attempt."""
        parts = self.store.jobs.parts(job_id)
        if parts is None or parts.record.ended_for_good or parts.record.attempt != entry.attempt:
            return None
        record, spec, mark = parts.record, unpack_spec(parts.spec), fingerprint(observation)
        attempt = next(one for one in parts.attempts if one.number == entry.attempt)
        if observation.state is AttemptState.QUEUED and isinstance(self.adapter, Explains):
            observation = self._explained(ref_of(record, attempt), observation)
        if observation.outcome is JobState.COMPLETED and isinstance(self.adapter, PlacesOutputs):
            outputs = self.adapter.outputs(spec, ref_of(record, attempt))
            observation = replace(observation, outputs=outputs)
        table = tasks.table_of(spec, parts.tasks)
        return Seen(
            record=record, attempt=attempt, spec=spec, table=table, observation=observation, mark=mark
        )

    def _explained(self, ref: AttemptRef, observation: Observation) -> Observation:
        """Why it waits, in the backend's numbers; kept, so that reading it calls no backend."""
        assert isinstance(self.adapter, Explains)  # noqa: S101 - the caller has looked
        try:
            told = self.adapter.explain_pending(ref)
        except BackendError:
            return observation
        return replace(observation, reason=told[0].code, message=told[0].message) if told else observation

    def _write(self, seen: Seen, step: Step) -> int:
        jobs = self.store.jobs
        guard = Guard(version=seen.record.version, lease=self.lease.guard)
        write = jobs.end if step.ends else jobs.move
        written = write(seen.record.id, guard, step.change)
        point("observation_applied")
        if written is Written.STALE:
            self.lease.lost = True
        if written is Written.OK and step.change.judged:
            point("taken_back")
            native.hint(self.context)
        if written is Written.OK and (step.ends or step.change.wake):
            self.context.hint("release")
        if written is Written.OK and step.change.due:
            self.context.hint("drain:" + step.change.due[0].partition(":")[2])
        return int(written is Written.OK)

    def _investigate(self, job_id: str, entry: Live) -> int:
        """A complete pass did not show it.  It is absent only if a look-up for its marker proves that."""
        attempt = self.store.jobs.attempt(job_id, entry.attempt)
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
