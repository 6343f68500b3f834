"""A transport's errors in the words of the contract: nothing of Slurm leaves the adapter but as a cause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.errors import Busy, OutcomeUnknown, Rejected
from adapters.slurm.transport import (
    NoAccounting,
    NoAnswer,
    NotAuthenticated,
    NotKnown,
    NotReached,
    Refused,
    SlurmError,
    TryLater,
)
from api_spec.reasons import Reason

# slurm_errno.h, where the sentence for people is a more exact one than "refused".
REASONS = {
    2004: Reason.NEVER_FITS,  # the nodes asked for are not in the partition
    2005: Reason.NEVER_FITS,  # more CPUs than there are
    2006: Reason.NEVER_FITS,  # more nodes than there are
    2014: Reason.NEVER_FITS,  # no node is like that
    2015: Reason.NEVER_FITS,  # the partition is not like that
    2051: Reason.NEVER_FITS,  # longer than the partition allows
}
LATER = {
    2050: Reason.QUOTA_EXCEEDED,
}
LATER_S = 10.0
RENEWAL_S = 15.0  # a token that was refused: time for whoever renews it


@contextmanager
def reading(name: str) -> Iterator[None]:
    """For calls that change nothing: whatever went wrong, asking again later is right."""
    try:
        yield
    except NoAccounting as error:
        raise Busy(f"{name}: {error}", LATER_S, Reason.BACKEND_DOWN) from error
    except TryLater as error:
        raise Busy(f"{name}: {error}", LATER_S) from error
    except NotAuthenticated as error:
        raise Busy(
            f"{name} does not take the broker's token: {error}", RENEWAL_S, Reason.BACKEND_DOWN
        ) from error
    except SlurmError as error:
        raise Busy(f"{name} does not answer: {error}", reason=Reason.BACKEND_DOWN) from error


@contextmanager
def writing(name: str) -> Iterator[None]:
    """For calls that change something: what nobody knows stays unknown.  ``NotKnown`` passes."""
    try:
        yield
    except NotKnown:
        raise
    except Refused as error:
        reason = REASONS.get(error.code or 0, Reason.REJECTED)
        raise Rejected(f"{name} refuses the job: {error}", reason) from error
    except TryLater as error:
        raise Busy(f"{name}: {error}", LATER_S, LATER.get(error.code or 0, Reason.CAPACITY)) from error
    except NotAuthenticated as error:
        raise Busy(
            f"{name} does not take the broker's token: {error}", RENEWAL_S, Reason.BACKEND_DOWN
        ) from error
    except NotReached as error:
        raise Busy(f"{name} cannot be reached: {error}", reason=Reason.BACKEND_DOWN) from error
    except NoAnswer as error:
        raise OutcomeUnknown(f"{name} did not answer: {error}") from error
