"""What can go wrong between us and an API server, and the same in the words of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import Busy, OutcomeUnknown, Rejected
from api_spec.reasons import Reason

RENEWAL_S = 15.0
"""A token that was refused: time for whoever renews it."""
RIGHTS_S = 60.0
"""A right that is missing: time for whoever grants it."""


class KubernetesError(Exception):
    """The message is what the API server said, or what became of the connection."""


class NotReached(KubernetesError):
    """No connection: nothing was done."""


class NoAnswer(KubernetesError):
    """Sent, and what became of it nobody knows; or an answer that no API server gives."""


class NotAuthenticated(KubernetesError):
    """401."""


class Forbidden(KubernetesError):
    """403: a right is missing, or an admission rule (quota, policy) refuses."""


class NotThere(KubernetesError):
    """404."""


class Conflict(KubernetesError):
    """409: the name is taken, or the object has changed or is another one by now."""


class Refused(KubernetesError):
    """400, 422 and their like: it will never be taken as it is."""


class TryLater(KubernetesError):
    """429, or 503 with a time: it did not act."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Expired(TryLater):
    """410: the moment that was asked about is no longer kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1.0)


class Changed(TryLater):
    """409 of an object that is still the one: somebody, the controller as well, got ahead of us."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 1.0)


QUOTA = "exceeded quota"
"""How a 403 for a ResourceQuota is told from one for a right."""
DENIED = ("denied the request", "denied request")
"""And one of a webhook or of a ValidatingAdmissionPolicy: it has read the object, and will say so again."""
NO_WEBHOOK = "failed calling webhook"
"""How a 500 tells that a webhook did not answer."""
TERMINATING = "because it is being terminated"
"""How a 403 tells of a namespace that is being removed: no right would help."""


@contextmanager
def reading(name: str, *, is_local: bool = False) -> Iterator[None]:
    """For calls that change nothing: whatever went wrong, asking again later is right.

    ``is_local``: for one attempt, whose namespace may be the only one that the broker may not read."""
    try:
        yield
    except TryLater as error:
        raise Busy(f"{name}: {error}", error.retry_after_s) from error
    except NotAuthenticated as error:
        raise _token(name, error) from error
    except Forbidden as error:
        raise _forbidden(name, error, is_local) from error
    except KubernetesError as error:
        raise Busy(f"{name} does not answer: {error}", reason=Reason.BACKEND_DOWN) from error


@contextmanager
def writing(name: str) -> Iterator[None]:
    """For calls that change something: what nobody knows stays unknown.

    ``NotThere`` and ``Conflict`` pass."""
    try:
        yield
    except (NotThere, Conflict):
        raise
    except Refused as error:
        raise Rejected(f"{name} refuses it: {error}") from error
    except Forbidden as error:
        raise _not_written(name, error) from error
    except TryLater as error:
        raise Busy(f"{name}: {error}", error.retry_after_s) from error
    except NotAuthenticated as error:
        raise _token(name, error) from error
    except NotReached as error:
        raise Busy(f"{name} cannot be reached: {error}", reason=Reason.BACKEND_DOWN) from error
    except NoAnswer as error:
        raise OutcomeUnknown(f"{name} did not answer: {error}") from error


def _token(name: str, error: NotAuthenticated) -> Busy:
    return Busy(f"{name} does not take the broker's token: {error}", RENEWAL_S, Reason.BACKEND_DOWN)


def _not_written(name: str, error: Forbidden) -> Busy | Rejected:
    """A right is the least of what a 403 may mean."""
    message = str(error)
    if QUOTA in message:
        return Busy(f"{name}: {message}", RIGHTS_S, Reason.QUOTA_EXCEEDED)
    if any(words in message for words in DENIED):
        return Rejected(f"{name} refuses it: {message}")
    if TERMINATING in message:
        return Busy(f"{name} is removing the namespace: {message}", RIGHTS_S)
    return _forbidden(name, error, True)


def _forbidden(name: str, error: Forbidden, is_local: bool) -> Busy:
    message = f"{name} forbids the broker: {error}"
    return Busy(message, RIGHTS_S, Reason.BACKEND_DOWN, is_local=is_local)
