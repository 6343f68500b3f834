"""Drain: a worker takes what is due at one backend and moves each job one step.

What a claimed job needs follows from its state alone, so a job is always picked up where the last worker,
living or dead, left it.
"""

from __future__ import annotations

import time
import uuid

from api_spec.states import JobState
from broker.lifecycle.act import act
from broker.lifecycle.context import ACT, SUBMIT, UNPLACED, Context, log
from broker.lifecycle.place import place
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import Snapshots
from broker.lifecycle.submit import resolve
from broker.logs import bound
from broker.store.jobs import Claim, ClaimLimits

DRAINS_AT_ONCE = 2  # of one backend; one that hangs then holds at most two threads of all workers


def drain(context: Context, snapshots: Snapshots, backend: str) -> int:
    """How many jobs were handled.  Runs until nothing is due, or half a lease is over."""
    leases = context.store.leases
    leases.hint_taken(f"drain:{backend}")
    point("drain_begun")
    holder = f"{context.holder}:{uuid.uuid4().hex[:8]}"
    if not leases.take_slot(f"drain:{backend}", holder, DRAINS_AT_ONCE, context.settings.lease_s):
        return 0
    point("drain_entered")
    context.store.count("drains")
    try:
        return _drain_lanes(context, snapshots, backend)
    finally:
        point("drain_left")
        leases.leave_slot(f"drain:{backend}", holder)


def _drain_lanes(context: Context, snapshots: Snapshots, backend: str) -> int:
    deadline = time.monotonic() + context.settings.lease_s / 2
    handled = 0
    while time.monotonic() < deadline:
        claims = [claim for lane in _open_lanes(context, backend) for claim in _claim(context, lane, backend)]
        if not claims:
            return handled
        snapshots.forget()  # a binding decision is made on fresh facts
        for claim in claims:
            if time.monotonic() > deadline + context.settings.lease_s / 4:
                return handled  # the rest comes back when its lease is over, before it could be done twice
            handled += _handle(context, snapshots, backend, claim)
    context.hint(f"drain:{backend}")
    return handled


def _open_lanes(context: Context, backend: str) -> tuple[str, ...]:
    if backend == UNPLACED:
        return (SUBMIT,)
    known = context.store.backends.read(backend)
    if known.not_before > context.store.now() * 1000 or backend not in context.adapters:
        return ()
    return (ACT,) if known.paused else (ACT, SUBMIT)


def _claim(context: Context, lane: str, backend: str) -> list[Claim]:
    settings = context.settings
    limits = ClaimLimits(
        count=settings.drain_batch,
        lease_s=settings.lease_s,
        max_live=settings.max_live_jobs,
        per_s=settings.max_submits_per_s,
    )
    claims = context.store.jobs.claim(lane, backend, limits)
    point("claimed" if claims else "nothing_due")
    return claims


def _handle(context: Context, snapshots: Snapshots, backend: str, claim: Claim) -> int:
    try:
        with bound(job=claim.record.id, attempt=claim.record.attempt):
            _step(context, snapshots, backend, claim)
    except Exception:
        # One bad job must not keep the others from their turn.  It comes back when its lease is over.
        log.exception("job %s could not be handled", claim.record.id)
        context.store.count("drain_failures")
        return 0
    point("step_done")
    return 1


def _step(context: Context, snapshots: Snapshots, backend: str, claim: Claim) -> None:
    state = claim.record.state
    if state is JobState.ACCEPTED:
        place(context, snapshots, backend, claim)
    elif state is JobState.SUBMITTING:
        resolve(context, claim)
    else:
        act(context, claim)
