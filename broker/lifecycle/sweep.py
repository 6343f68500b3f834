"""Sweep: hints for what is overdue, and the last steps of ended jobs: cleaned up, packed, forgotten."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import BackendError
from broker.lifecycle.context import UNPLACED, Context, log, ref_of
from broker.lifecycle.points import point
from broker.store.archive import Parts

CHUNK = 200


def tick(context: Context) -> int:
    """Hints for everything that is overdue and not hinted yet.  Any number of controllers may do this."""
    hints = context.store.leases.tick([*context.adapters, UNPLACED])
    point("hint_marked")
    for hint in hints:
        context.publish(hint)
        point("hint_sent")
    return len(hints)


@dataclass
class Sweeper:
    """One at a time, under a lease; a second one does no harm, every step is guarded."""

    context: Context

    def sweep(self) -> None:
        context = self.context
        if context.store.leases.acquire("sweeper", context.holder, 6 * context.settings.sweep_s) is None:
            return
        point("swept")
        if context.store.notice_restart():
            log.warning(
                "a new incarnation of the store has begun; attempts are looked up before they are sent"
            )
        point("swept")
        now_ms = int(context.store.now() * 1000)
        self._pack(now_ms - int(context.settings.pack_after_s * 1000))
        self._forget(now_ms - int(context.settings.retention_s * 1000))

    def _pack(self, before_ms: int) -> None:
        archive = self.context.store.archive
        for job_id in archive.ended_before(before_ms, CHUNK):
            parts = self.context.store.jobs.parts(job_id)
            if parts is None:
                archive.drop_dangling(job_id)
            else:
                archive.pack(parts)
            point("swept")

    def _forget(self, before_ms: int) -> None:
        archive = self.context.store.archive
        for job_id in archive.packed_before(before_ms, CHUNK):
            parts = self.context.store.jobs.parts(job_id)
            if parts is None:
                archive.drop_dangling(job_id)
            elif self._cleaned_up(parts):
                archive.forget(parts)
            point("swept")

    def _cleaned_up(self, parts: Parts) -> bool:
        """The backends forget its attempts first, so that nothing of ours is left that nobody knows."""
        for attempt in parts.attempts:
            adapter = self.context.adapters.get(attempt.backend)
            if adapter is None:
                continue
            try:
                adapter.cleanup(ref_of(parts.record, attempt))
            except BackendError as error:
                log.warning("%s could not be cleaned up: %s", attempt.marker, error)
                return False
            point("cleaned_up")
        return True
