"""Sweep: hints for what is overdue, and ended jobs are packed.  Calls no backend."""

from __future__ import annotations

from broker.lifecycle.context import UNPLACED, Context, log
from broker.lifecycle.points import point

CHUNK = 200


def tick(context: Context) -> int:
    """Hints for everything that is overdue and not hinted yet.  Any number of controllers may do this."""
    configured = tuple(context.adapters)
    gone = set(context.store.backends.names()) - set(configured)
    hints = context.store.leases.tick(configured, (UNPLACED, *sorted(gone)))
    point("hint_marked")
    for hint in hints:
        context.publish(hint)
        point("hint_sent")
    return len(hints)


def sweep(context: Context) -> None:
    """One at a time, under a lease; a second one does no harm, since every step is guarded."""
    if context.store.leases.acquire("sweeper", context.holder, 6 * context.settings.sweep_s) is None:
        return
    point("swept")
    context.store.swept()
    if context.store.notice_restart():
        log.warning("a new incarnation of the store has begun; attempts are looked up first")
    point("swept")
    _pack(context, int((context.store.now() - context.settings.pack_after_s) * 1000))


def _pack(context: Context, before_ms: int) -> None:
    archive = context.store.archive
    while job_ids := archive.ended_before(before_ms, CHUNK):
        for job_id in job_ids:
            parts = context.store.jobs.parts(job_id)
            if parts is None:
                archive.drop_dangling(job_id)
            elif archive.pack(parts) == "changed":
                return  # somebody writes to an ended job: the next sweep looks again
            point("swept")
        if len(job_ids) < CHUNK:
            return
