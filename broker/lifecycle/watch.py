"""Watch: hear what changes at a backend and write it at once.  One worker at a time does it, under a lease.

It writes as a pass does (``apply``).  Passes go on and are rarer, for as long as the watch says in the store
that it misses nothing; where it stops saying so, for whatever reason, they come as often as without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence
from contextlib import closing, suppress

from adapters.base import AttemptRef, Capability
from adapters.extras import Watch, Watches
from api_spec.errors import StoreUnavailable
from api_spec.ids import parse_marker
from broker.lifecycle import kept_logs
from broker.lifecycle.apply import Writer
from broker.lifecycle.context import Context, log
from broker.lifecycle.keeping import Kept, kept
from broker.store.changes import Live
from broker.store.connection import errors_in_our_words
from broker.store.jobs import Written

WAIT_S = 1.0  # for a change, and so for the order to stop
ANSWERS_FOR_S = 5.0  # several times that: a busy machine is no broken watch
AT_ONCE = 100  # attempts; between two such heaps it says that it is there
AGAIN_S = 1.0  # a submission whose handle is just being written
CHANGED_S = 0.1  # somebody else has written to the job meanwhile


def watched(context: Context) -> tuple[str, ...]:
    """The backends that can be."""
    return tuple(
        name
        for name, adapter in context.adapters.items()
        if Capability.WATCH in adapter.capabilities and isinstance(adapter, Watches)
    )


def watch(context: Context, backend: str, stop: threading.Event) -> bool:
    """Returns when it is told to stop or has lost its lease.  False: somebody else watches."""
    adapter = context.adapter(backend)
    if not isinstance(adapter, Watches):
        return False
    with kept(context, f"watch:{backend}") as lease:
        if lease is None:
            return False
        log.info("the watch of %s begins", backend)
        with closing(adapter.watch()) as told:
            _Watching(context, backend, lease, told).run(stop)
    return True


class _Watching(Writer):
    def __init__(self, context: Context, backend: str, lease: Kept, told: Watch) -> None:
        super().__init__(context, backend, lease)
        self.told = told
        self._answered: tuple[float, bool | None] = (0.0, None)  # when, and whether it answers for all

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set() and not self.lease.lost:
                fault = self.told.fault  # before it is asked: what it then tells, it knew
                changed = sorted(self.told.changed(WAIT_S))
                for start in range(0, len(changed), AT_ONCE):
                    if stop.is_set() or self.lease.lost:
                        return
                    self._look_at(changed[start : start + AT_ONCE])
                    if self._answered[1]:
                        self._answer(fault)
                self._answer(fault)
        finally:
            if not self.lease.lost:
                with suppress(StoreUnavailable), errors_in_our_words():
                    self.store.backends.watched(self.backend, 0)

    def _answer(self, fault: str | None) -> None:
        """Says, about once a second, that no change goes unnoticed, and at once when some may."""
        at, well = self._answered
        now = time.monotonic()
        if well is (fault is None) and now - at < WAIT_S:
            return
        if well is not (fault is None):
            self._tell(fault, well)
        until_ms = int((self.store.now() + ANSWERS_FOR_S) * 1000) if fault is None else 0
        self.store.backends.watched(self.backend, until_ms)
        self._answered = now, fault is None

    def _tell(self, fault: str | None, before: bool | None) -> None:
        if fault is None:
            log.info("the watch of %s tells of every change", self.backend)
        elif before:
            log.warning("the watch of %s is broken: %s", self.backend, fault)
            self.store.count("watch_failures")

    def _look_at(self, markers: Sequence[str]) -> None:
        live = self._live(markers)
        refs: dict[str, AttemptRef] = {}
        for job_id, entry in live.items():
            if entry.handle:  # as in a pass: without one it is the dispatcher's
                refs[job_id] = self.context.ref(job_id, entry)
            else:
                self.told.again([self.context.marker(job_id, entry.attempt)], AGAIN_S)
        if not refs:
            return
        seen = self.told.observe(list(refs.values()))
        by_job = {job_id: seen.found.get(ref.marker) for job_id, ref in refs.items()}
        logs_leave = kept_logs.ask(self.context, self.backend, live, by_job)
        for job_id, ref in refs.items():
            observation = seen.found.get(ref.marker)
            if observation is None:
                continue
            written = self.apply(job_id, live[job_id], observation)
            if self.lease.lost:
                return
            if written not in (None, Written.OK):
                self.told.again([ref.marker], CHANGED_S)
        if logs_leave:
            self.context.hint(f"keep:{self.backend}")

    def _live(self, markers: Collection[str]) -> dict[str, Live]:
        """What of them is live here, and is that attempt: an earlier one of the job may change as well."""
        wanted = {one[1:] for one in map(parse_marker, markers) if one is not None}
        found = self.store.backends.live_of(self.backend, sorted({job_id for job_id, _ in wanted}))
        return {job_id: entry for job_id, entry in found.items() if (job_id, entry.attempt) in wanted}
