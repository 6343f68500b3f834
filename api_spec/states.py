"""Where a job and an attempt can be, and which moves are legal: the two state machines as tables."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    ACCEPTED = "ACCEPTED"
    SUBMITTING = "SUBMITTING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class AttemptState(StrEnum):
    SUBMITTING = "SUBMITTING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WITHDRAWING = "WITHDRAWING"  # told to go; until the backend says that it is gone it may still run
    ENDED = "ENDED"


S, A = JobState, AttemptState

# Forward in the order of life.  RUNNING -> QUEUED is a requeue by the backend: legal only when the
# observation's ``restarts`` rose.  A move to ACCEPTED means that an attempt ended and another will follow.
# fmt: off
MOVES: dict[JobState, frozenset[JobState]] = {
    S.ACCEPTED:   frozenset({S.SUBMITTING, S.FAILED, S.CANCELLED}),
    S.SUBMITTING: frozenset({S.ACCEPTED, S.QUEUED, S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.QUEUED:     frozenset({S.ACCEPTED, S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.RUNNING:    frozenset({S.ACCEPTED, S.QUEUED, S.COMPLETED, S.FAILED, S.CANCELLED}),
    S.COMPLETED:  frozenset(),
    S.FAILED:     frozenset(),
    S.CANCELLED:  frozenset(),
}

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    A.SUBMITTING:  frozenset({A.QUEUED, A.RUNNING, A.WITHDRAWING, A.ENDED}),
    A.QUEUED:      frozenset({A.RUNNING, A.WITHDRAWING, A.ENDED}),
    A.RUNNING:     frozenset({A.QUEUED, A.WITHDRAWING, A.ENDED}),
    A.WITHDRAWING: frozenset({A.ENDED}),
    A.ENDED:       frozenset(),
}
# fmt: on

FINAL = frozenset(state for state, moves in MOVES.items() if not moves)
LIVE_AT_A_BACKEND = frozenset({S.SUBMITTING, S.QUEUED, S.RUNNING})
AT_A_BACKEND = (S.QUEUED, S.RUNNING)  # and known there by a handle


def may_move(before: JobState, after: JobState) -> bool:
    """Staying where one is, is not a move and always legal."""
    return before is after or after in MOVES[before]
