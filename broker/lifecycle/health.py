"""What a call of a backend told about the backend itself: up, down, and who has to know."""

from __future__ import annotations

from adapters.errors import Busy, Rejected
from api_spec.reasons import Reason
from broker.lifecycle.context import UNPLACED, Context
from broker.store.records import TASKS, JobRecord

CANCEL_AGAIN_S = 60.0  # at most: a busy backend is not left alone for longer with a cancel


def answered(context: Context, backend: str, seen_at: float | None = None) -> None:
    """``seen_at``: when a complete pass began.  Back after a silence, what waited for it is decided anew."""
    seen_at_ms = None if seen_at is None else int(seen_at * 1000)
    if context.store.backends.answered(backend, seen_at_ms):
        context.store.events.tell_operator("backend_up", {"backend": backend})
        context.hint(f"drain:{UNPLACED}")
        context.hint(f"drain:{backend}")


def failed(context: Context, backend: str, error: Exception) -> None:
    """A call did not come to its end.  A backend that is down keeps its jobs' states, and their age grows."""
    if says_that_it_is_down(error) and context.store.backends.failed(
        backend, str(error), int(context.store.now() * 1000)
    ):
        context.store.events.tell_operator("backend_down", {"backend": backend, "message": str(error)[:500]})


def says_that_it_is_down(error: Exception) -> bool:
    """Who answers that it is too busy, full or unwilling is there: leaving it alone would keep the others'
    cancels and look-ups from it."""
    if isinstance(error, Busy):
        return error.reason is Reason.BACKEND_DOWN and not error.is_local
    return not isinstance(error, Rejected)


def wait_s(record: JobRecord, error: Exception, otherwise_s: float) -> float:
    """How long the backend is left alone with this job.  ``otherwise_s``: when it does not say."""
    asked_for_s = error.retry_after_s if isinstance(error, Busy) else otherwise_s
    return min(asked_for_s, CANCEL_AGAIN_S) if record.cancel or TASKS in record.act else asked_for_s
