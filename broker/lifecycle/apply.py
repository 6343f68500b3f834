"""Apply: what a backend has said of one attempt is written, whoever heard it, a pass or the watch.

Each compares with what was written last, and writes only while that still stands: of two that have seen
different moments, the one that looked at the store before the other wrote is refused.
"""

from __future__ import annotations

from dataclasses import replace

from adapters.base import AttemptRef, Observation
from adapters.errors import BackendError
from adapters.extras import Completes, Explains, PlacesOutputs
from api_spec.errors import StoreUnavailable
from api_spec.packing import unpack_spec
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.lifecycle import native, tasks
from broker.lifecycle.context import Context, log, ref_of
from broker.lifecycle.keeping import Kept
from broker.lifecycle.points import point
from broker.lifecycle.progress import Seen, Step, fingerprint, progress
from broker.store.changes import Guard, Live
from broker.store.jobs import Written


class Writer:
    """Under a lease, whose epoch its writes carry; ``lease.lost`` once one was refused for that."""

    def __init__(self, context: Context, backend: str, lease: Kept) -> None:
        self.context = context
        self.backend = backend
        self.lease = lease
        self.adapter = context.adapter(backend)
        self.store = context.store

    def apply(self, job_id: str, entry: Live, observation: Observation) -> Written | None:
        """None: there was nothing to write, or it cannot be."""
        if observation.unfinished and isinstance(self.adapter, Completes):
            self._complete(job_id, entry, self.adapter)
        if fingerprint(observation) == entry.fingerprint:
            return None
        try:
            return self._apply_one(job_id, entry, observation)
        except StoreUnavailable:
            raise
        except Exception:
            # One odd observation must not hide the others of this pass.
            log.exception("the observation of %s could not be applied", observation.marker)
            self.store.count("observe_failures")
            return None

    def _complete(self, job_id: str, entry: Live, adapter: Completes) -> None:
        """With all that the broker knows of the job; what fails is tried again when it is next seen so."""
        parts = self.store.jobs.parts(job_id)
        attempts = parts.attempts if parts is not None and not parts.record.ended_for_good else ()
        for attempt in attempts:
            if parts is not None and attempt.number == entry.attempt:
                try:
                    adapter.complete(ref_of(parts.record, attempt))
                except BackendError as error:
                    log.warning("%s is not finished: %s", attempt.marker, error)

    def _apply_one(self, job_id: str, entry: Live, observation: Observation) -> Written | None:
        seen = self._read(job_id, entry, observation)
        if seen is None:
            # The job has gone on, and its entry was left behind: nothing may be waiting for it.
            return self._change_live(job_id, entry, None)
        if observation.state is None and observation.reason is Reason.BACKEND_DOWN:
            log.warning("%s was not shown: %s", observation.marker, observation.message)
        elif observation.state is None:
            log.warning("%s says %r, which is not known", self.backend, observation.native_state)
            self.store.count("unknown_words")
        step = progress(seen)
        if step is None:
            return self._change_live(job_id, entry, replace(entry, fingerprint=fingerprint(observation)))
        return self._write(seen, step, entry)

    def _change_live(self, job_id: str, entry: Live, after: Live | None) -> Written | None:
        changed = self.store.backends.change_live(self.backend, job_id, entry, after)
        point("observation_applied")
        return None if changed else Written.CHANGED

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

    def _write(self, seen: Seen, step: Step, entry: Live) -> Written:
        jobs = self.store.jobs
        # Another may have seen something newer meanwhile, and written it: a pass, or the watch.
        version, unchanged = seen.record.version, (self.backend, entry.dump())
        guard = Guard(version=version, lease=self.lease.guard, live=unchanged)
        write = jobs.end if step.ends else jobs.move
        written = write(seen.record.id, guard, step.change)
        point("observation_applied")
        if written is Written.STALE:
            self.lease.lost = True
        if written is Written.OK and step.ends:
            said = {name: step.change.set.get(name) for name in ("state", "reason")}
            told = {"attempt": entry.attempt, "backend": self.backend, **said}
            log.info("ended", extra={"job": seen.record.id, **told})
        if written is Written.OK and step.change.judged:
            point("taken_back")
            native.hint(self.context)
        if written is Written.OK and (step.ends or step.change.wake):
            self.context.hint("release")
        if written is Written.OK and step.change.due:
            self.context.hint("drain:" + step.change.due[0].partition(":")[2])
        return written
