"""Forget: jobs whose retention is over go, from their backends first and then from the store."""

from __future__ import annotations

import time
import uuid

from adapters.errors import BackendError
from broker.lifecycle import kept_logs
from broker.lifecycle.context import Context, log, ref_of
from broker.lifecycle.points import point
from broker.store.archive import Parts

CHUNK = 200
AGAIN_S = 60.0  # for one that is pinned, or whose backend does not answer


def forget(context: Context) -> int:
    """How many are gone.  One worker at a time, for half a lease at most."""
    leases, holder = context.store.leases, f"{context.holder}:{uuid.uuid4().hex[:8]}"
    leases.hint_taken("forget")
    point("forget_begun")
    if not leases.take_slot("forget", holder, 1, context.settings.lease_s):
        return 0
    point("forget_begun")
    try:
        kept_logs.drop_old(context)
        return _forget(context, time.monotonic() + context.settings.lease_s / 2)
    finally:
        leases.leave_slot("forget", holder)


def _forget(context: Context, deadline: float) -> int:
    store, gone = context.store, 0
    over_ms = int((store.now() - context.settings.retention_s) * 1000)
    while job_ids := store.archive.packed_before(over_ms, CHUNK):
        for job_id in job_ids:
            if time.monotonic() > deadline:
                return gone
            gone += _forget_one(context, job_id, over_ms + int(AGAIN_S * 1000))
            point("forgotten")
    return gone


def _forget_one(context: Context, job_id: str, again_at_ms: int) -> int:
    archive = context.store.archive
    parts = context.store.jobs.parts(job_id)
    if parts is None:
        archive.drop_dangling(job_id)
    elif _cleaned_up(context, parts):
        gone = archive.forget(parts, again_at_ms) == "ok"
        if gone:
            kept_logs.drop(context, job_id)
        return int(gone)
    else:
        archive.postpone(job_id, again_at_ms)
    return 0


def _cleaned_up(context: Context, parts: Parts) -> bool:
    """The backends forget its attempts first, so that nothing of ours is left that nobody knows."""
    for attempt in parts.attempts:
        adapter = context.adapters.get(attempt.backend)
        if adapter is None:
            continue
        try:
            adapter.cleanup(ref_of(parts.record, attempt))
        except BackendError as error:
            log.warning("%s could not be cleaned up: %s", attempt.marker, error)
            return False
        point("cleaned_up")
    return True
