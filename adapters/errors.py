"""All that leaves an adapter when it cannot do what it was asked."""

from __future__ import annotations

from api_spec.reasons import Reason


class BackendError(Exception):
    """The message is fit for the user; a foreign exception is its ``__cause__``, never itself."""


class BadLogQuery(BackendError):
    """It goes on at a cursor that no page gave, or asks for a task (``parameter``) that is not there."""

    def __init__(self, message: str, parameter: str = "cursor") -> None:
        super().__init__(message)
        self.parameter = parameter


class LogGone(BackendError):
    """Nobody has the log any more, and asking again will not help."""


class Rejected(BackendError):
    """This backend will never take it."""

    def __init__(self, message: str, reason: Reason = Reason.REJECTED) -> None:
        super().__init__(message)
        self.reason = reason


class Busy(BackendError):
    """It did not act: refused connection, 401, 429, queue full, quota.  The same attempt may try later.

    ``reason`` BACKEND_DOWN says that no call will do better (not reached, not let in): after a few of them
    the backend is left alone for a while.  Any other is the answer of one that works.  ``is_local``: only
    this attempt, and others beside it, are concerned, so that the backend is not left alone for it.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float = 5.0,
        reason: Reason = Reason.CAPACITY,
        *,
        is_local: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.reason = reason
        self.is_local = is_local


class OutcomeUnknown(BackendError):
    """The backend did not answer; whether it acted is unknown.  Look the marker up."""


class CannotWait(BackendError):
    """It did not act, or nothing is left of it: what ``AttemptRef.after`` names is not there, or is over."""
