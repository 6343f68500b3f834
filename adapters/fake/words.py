"""What the fake says, in our words.  Pure: the only module that knows both vocabularies.

Its words are unlike those of any real backend on purpose, so that nothing else can come to rely on them.
"""

from __future__ import annotations

from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A, J, R = AttemptState, JobState, Reason

# fmt: off
STATES: dict[str, tuple[AttemptState, JobState | None, Reason | None]] = {
    "WAITING":   (A.QUEUED,  None,        None),             # its native reason says why
    "HELD":      (A.QUEUED,  None,        R.HELD),
    "LAUNCHING": (A.QUEUED,  None,        R.STARTING),       # a service without a ready replica
    "ACTIVE":    (A.RUNNING, None,        None),
    "PAUSED":    (A.RUNNING, None,        R.SUSPENDED),
    "DONE":      (A.ENDED,   J.COMPLETED, R.COMPLETED),
    "BROKE":     (A.ENDED,   J.FAILED,    R.NON_ZERO_EXIT),
    "KILLED":    (A.ENDED,   J.FAILED,    R.SIGNALLED),
    "NO_MEMORY": (A.ENDED,   J.FAILED,    R.OUT_OF_MEMORY),
    "OVERTIME":  (A.ENDED,   J.FAILED,    R.TIME_LIMIT),
    "NODE_GONE": (A.ENDED,   J.FAILED,    R.NODE_LOST),
    "EVICTED":   (A.ENDED,   J.FAILED,    R.PREEMPTED),
    "NO_IMAGE":  (A.ENDED,   J.FAILED,    R.IMAGE_ERROR),
    "NO_START":  (A.ENDED,   J.FAILED,    R.LAUNCH_FAILED),
    "STOPPED":   (A.ENDED,   J.CANCELLED, R.CANCELLED),
    "IN_VAIN":   (A.ENDED,   J.CANCELLED, R.DEPENDENCY_FAILED),
}

WAITS_FOR: dict[str, Reason] = {
    "Limit":  R.QUOTA_EXCEEDED,
    "Hold":   R.HELD,
    "After":  R.DEPENDENCY_NOT_MET,
    "Booked": R.RESERVATION,
    "Ahead":  R.PRIORITY,
    "Slots":  R.CAPACITY,
    "Pull":   R.IMAGE_PULL,
    "Begin":  R.STARTING,
}
# fmt: on


def in_our_words(word: str, why: str | None) -> tuple[AttemptState | None, JobState | None, Reason | None]:
    """A word that is not in the table moves nothing: its state is None."""
    state, outcome, reason = STATES.get(word, (None, None, R.UNKNOWN))
    if word == "WAITING" and why is not None:
        reason = WAITS_FOR.get(why, R.UNKNOWN)
    return state, outcome, reason
