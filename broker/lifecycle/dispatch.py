"""Drain: a worker takes what is due at one backend and moves each job one step.

What a claimed job needs follows from its state alone, so a job is always picked up where the last worker,
living or dead, left it.  The submit lane holds jobs that are to be decided; it is never closed, because a job
whose backend takes nothing now has to go elsewhere, or to say why it waits.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from api_spec.errors import StoreUnavailable
from api_spec.reasons import Reason
from api_spec.states import JobState
from broker.lifecycle.act import act
from broker.lifecycle.context import ACT, SUBMIT, Context, log
from broker.lifecycle.pending import Pending, carry_out, carry_out_together
from broker.lifecycle.place import place
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import Snapshots
from broker.lifecycle.submit import resolve
from broker.logs import bound
from broker.store.changes import Change, Guard
from broker.store.jobs import Claim, ClaimLimits

QUARANTINE_AFTER = 8  # claims that achieved nothing: the job itself breaks its workers
AGAIN_MAX_S = 60.0


def drain(context: Context, snapshots: Snapshots, backend: str) -> int:
    """How many jobs were handled.  Runs until nothing is due, or half a lease is over."""
    leases = context.store.leases
    leases.hint_taken(f"drain:{backend}")
    point("drain_begun")
    holder = f"{context.holder}:{uuid.uuid4().hex[:8]}"
    at_once = context.settings.caps_of(backend).max_drains
    if not leases.take_slot(f"drain:{backend}", holder, at_once, context.settings.lease_s):
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
        # A server that has lost writes has lost who was sent where: looked at before anything is sent.
        context.store.notice_restart()
        point("run_checked")
        snapshots.forget()  # a binding decision is made on fresh facts
        run = _Run(context, snapshots, backend)
        for number, claim in enumerate(claims):
            if time.monotonic() > deadline + context.settings.lease_s / 4:
                _give_back(context, claims[number:])  # before its lease is over and it could be done twice
                break
            handled += run.handle(claim)
        run.end()
    context.hint(f"drain:{backend}")
    return handled


def _open_lanes(context: Context, backend: str) -> tuple[str, ...]:
    if backend not in context.adapters:
        return (SUBMIT,)  # no backend, or one that left the configuration: only to be decided anew
    asleep = context.store.backends.read(backend).not_before > context.store.now() * 1000
    return (SUBMIT,) if asleep else (ACT, SUBMIT)


def _claim(context: Context, lane: str, backend: str) -> list[Claim]:
    settings = context.settings
    limits = ClaimLimits(
        count=settings.drain_batch,
        lease_s=settings.lease_s,
        per_s=settings.caps_of(backend).max_submits_per_s,
    )
    claims = context.store.jobs.claim(lane, backend, limits)
    point("claimed" if claims else "nothing_due")
    return claims


def _give_back(context: Context, claims: Sequence[Claim]) -> None:
    """Nobody has tried them: a slow backend must not make jobs look as if they broke their workers."""
    for record in (claim.record for claim in claims):
        if record.queue is not None:
            change = Change(due=(record.queue, 0), quiet=True)
            context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)
            point("step_done")


class _Run:
    """The claimed jobs, one after the other.  The last write of each, its handle, waits for the first of the
    next, a moment later: a trip to the store and to its disk costs more than what is written on it."""

    def __init__(self, context: Context, snapshots: Snapshots, backend: str) -> None:
        self._context = context
        self._snapshots = snapshots
        self._backend = backend
        self._left: Pending | None = None

    def handle(self, claim: Claim) -> int:
        """How many jobs were handled: one or none."""
        context, record = self._context, claim.record
        try:
            if record.state is not JobState.ACCEPTED or record.waits:
                self.end()  # this one may take its time, or look at what was written
            with bound(job=record.id, attempt=record.attempt):
                self._step(claim)
        except StoreUnavailable:
            raise
        except Exception as error:
            # One bad job must not keep the others from their turn.
            log.exception("job %s could not be handled", record.id)
            context.store.count("drain_failures")
            _again_later(context, claim, error)
            return 0
        point("step_done")
        return 1

    def _step(self, claim: Claim) -> None:
        context, state = self._context, claim.record.state
        if state is JobState.ACCEPTED and claim.record.tries > QUARANTINE_AFTER:
            _set_aside(context, claim)
        elif state is JobState.ACCEPTED:
            self._begin(place(context, self._snapshots, self._backend, claim))
        elif state is JobState.SUBMITTING:
            resolve(context, claim)
        else:
            act(context, claim)

    def _begin(self, first: Pending | None) -> None:
        if first is not None:
            left, self._left = self._left, None
            self._left = carry_out_together(self._context.store.jobs, left, first)

    def end(self) -> None:
        """Write what is left to write."""
        left, self._left = self._left, None
        carry_out(self._context.store.jobs, left)


def _again_later(context: Context, claim: Claim, error: Exception) -> None:
    """Later each time, and with a word to the user once it is no accident any more."""
    record = claim.record
    if record.queue is None:
        return
    delay_s = min(AGAIN_MAX_S, 0.5 * 2 ** min(record.tries, 8))
    message = f"the broker failed on it {record.tries} times, last with: {error!r}"[:500]
    tell = record.tries >= QUARANTINE_AFTER and record.reason is not Reason.UNKNOWN
    change = Change(
        set={"reason": Reason.UNKNOWN, "message": message} if tell else {},
        quiet=not tell,
        no_progress=True,
        due=(record.queue, delay_s),
    )
    context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)


def _set_aside(context: Context, claim: Claim) -> None:
    """A job that breaks every worker that touches it must not do so for ever; people have to look."""
    record = claim.record
    message = f"set aside after {record.tries} tries that came to nothing; the log of the workers says why"
    change = Change(
        set={"held": True, "reason": Reason.HELD, "message": message},
        no_due=True,
        events=(("held", {"by": "broker", "message": message}),),
    )
    context.store.jobs.move(record.id, Guard(epoch=record.epoch), change)
