"""Observe: ask a backend about everything that is live there, in one pass, and write what has changed.

Where a watch tells of changes (``watch``) passes are rarer, and still the only ones to prove an absence.
"""

from __future__ import annotations

import time

from adapters.base import Absent, AttemptRef, Found, Observations
from adapters.errors import BackendError
from broker.lifecycle import kept_logs
from broker.lifecycle.apply import Writer
from broker.lifecycle.context import Context, log
from broker.lifecycle.health import answered, failed
from broker.lifecycle.keeping import kept
from broker.lifecycle.points import point
from broker.lifecycle.progress import lost
from broker.store.changes import Live
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


class _Pass(Writer):
    def run(self) -> int:
        began, worked, asked = self.store.now(), time.thread_time(), time.monotonic()
        # An attempt without a handle is an unconfirmed submission: the dispatcher's, with its settle time.
        # Read before the backend is asked: what is submitted later is not absent, only newer than the pass.
        live = {id_: entry for id_, entry in self.store.backends.live(self.backend).items() if entry.handle}
        refs = {job_id: self.context.ref(job_id, entry) for job_id, entry in live.items()}
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
        rest_s = max(self.context.settings.poll_s, rest_s, min(ITS_REST_MAX_S, ITS_REST * slow_s))
        self._rest(rest_s, max(rest_s, self.context.settings.watched_poll_s))
        return written

    def _slow_s(self, took_s: float) -> float:
        """One slow answer is no slow backend: it may have been starting.  Two in a row are."""
        before_s = self.context.pass_s.get(self.backend, 0.0)
        self.context.pass_s[self.backend] = took_s
        return min(before_s, took_s)

    def _rest(self, seconds: float, watched_s: float | None = None) -> None:
        """``watched_s``: as long as a watch tells what changes."""
        now = self.store.now()
        at_ms, watched_at_ms = (int((now + one) * 1000) for one in (seconds, watched_s or seconds))
        self.store.backends.rest(self.backend, at_ms, watched_at_ms)

    def _look(self, job_id: str, entry: Live, ref: AttemptRef, seen: Observations) -> int:
        observation = seen.found.get(ref.marker)
        if observation is not None:
            return int(self.apply(job_id, entry, observation) is Written.OK)
        return self._investigate(job_id, entry) if seen.complete else 0

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
            return int(self.apply(job_id, entry, lost(attempt.marker)) is Written.OK)
        if isinstance(answer, Found) and dict(answer.handle) != dict(entry.handle or {}):
            log.warning("%s is now known as %s", attempt.marker, dict(answer.handle))
        return 0
