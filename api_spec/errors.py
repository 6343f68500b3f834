"""Every error that a user can meet: one class, one stable code, one HTTP status.

The message is fit for the user.  ``pointer`` is a JSON pointer into what was sent (RFC 6901).  Docstrings are
shown to users too, on the page ``/docs/errors``; ``extra`` members are added to the problem document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what was sent."""

    pointer: str
    message: str


def summary_of(faults: Sequence[Fault], whole: str = "what was sent") -> str:
    """The first fault in words, and how many there are.  ``whole``: how what has no pointer is called."""
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0].pointer or whole} {faults[0].message}{more}"


class BrokerError(Exception):
    """The reason stands in the broker's log under the request_id."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    title: ClassVar[str] = "The broker failed"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), **extra: Any) -> None:
        super().__init__(message)
        self.faults = tuple(faults)
        self.extra = extra


class InvalidRequest(BrokerError):
    code, http_status, title = "invalid_request", 400, "The request cannot be read"


def bad_event_id(text: str, pointer: str) -> InvalidRequest:
    message = f'"{text[:40]}" is not the id of an event'
    return InvalidRequest(message, faults=[Fault(pointer, message)])


def bad_cursor() -> InvalidRequest:
    message = "is not one that this list gave out"
    return InvalidRequest(f"the cursor {message}", faults=[Fault("?cursor", message)])


class InvalidSpec(BrokerError):
    code, http_status, title = "invalid_spec", 422, "The specification is not valid"


class NothingFits(BrokerError):
    """Proven impossible at every backend; the member "decision" says why, backend by backend."""

    code, http_status, title = "nothing_fits", 422, "No backend can run this job"


class Unauthenticated(BrokerError):
    code, http_status, title = "unauthenticated", 401, "A valid token is needed"


class Forbidden(BrokerError):
    code, http_status, title = "forbidden", 403, "The token does not allow this"


class NotFound(BrokerError):
    code, http_status, title = "not_found", 404, "There is no such thing"


class MethodNotAllowed(BrokerError):
    code, http_status, title = "method_not_allowed", 405, "The resource does not know this method"


class Conflict(BrokerError):
    """The job is not in a state that allows this, or somebody else was faster."""

    code, http_status, title = "conflict", 409, "The state does not allow this"


class Gone(BrokerError):
    """A cursor or event id that is no longer kept; the member "oldest" is the oldest one that is."""

    code, http_status, title = "gone", 410, "This is no longer kept"


class LogGone(BrokerError):
    """Its backend has forgotten the attempt, and with it what it printed."""

    code, http_status, title = "log_gone", 410, "The log is no longer kept"


class PreconditionFailed(BrokerError):
    code, http_status, title = "precondition_failed", 412, "The resource has changed"


class TooLarge(BrokerError):
    code, http_status, title = "too_large", 413, "The request is too large"


class UnsupportedMediaType(BrokerError):
    code, http_status, title = "unsupported_media_type", 415, "The content type is not supported"


class IdempotencyConflict(BrokerError):
    code, http_status, title = "idempotency_conflict", 422, "The idempotency key was used for another request"


class RateLimited(BrokerError):
    code, http_status, title, retryable = "rate_limited", 429, "Too many requests", True


class TooManyStreams(BrokerError):
    """The process has no thread left for another stream; reading by page still works."""

    code, http_status, title, retryable = "too_many_streams", 503, "Too many streams are open", True


class StoreUnavailable(BrokerError):
    """Redis does not answer, is full, or is not fit; nothing was changed unless said so."""

    code, http_status, title, retryable = "store_unavailable", 503, "The state cannot be reached", True


class NotSupported(BrokerError):
    """The backend of this job cannot do that (a capability it does not have)."""

    code, http_status, title = "not_supported", 501, "The backend cannot do this"


class BackendUnavailable(BrokerError):
    """Only for what needs a backend's answer at once, such as reading a log."""

    code, http_status, title, retryable = "backend_unavailable", 503, "The backend does not answer", True


class LogReaderUnavailable(BrokerError):
    """The worker that alone sees the logs of this backend is not there or does not answer; the message says
    what to do. The job is not concerned."""

    code, http_status, title, retryable = "log_reader_unavailable", 503, "Nobody can read this log now", True


class InvalidConfiguration(BrokerError):
    """A setting, a policy file or a backend's configuration is wrong; a process does not start with it."""

    code, http_status, title = "invalid_configuration", 500, "The configuration is not valid"


def all_errors() -> Iterator[type[BrokerError]]:
    """Every class that has a code of its own, base included."""
    pending: list[type[BrokerError]] = [BrokerError]
    while pending:
        kind = pending.pop()
        yield kind
        pending.extend(kind.__subclasses__())
