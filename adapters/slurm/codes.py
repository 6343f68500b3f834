"""Slurm's own numbers (slurm_errno.h) and which error each means, whoever passes them on.  Pure."""

from __future__ import annotations

from adapters.slurm.transport import (
    NoAnswer,
    NotAuthenticated,
    NotKnown,
    NotReached,
    Refused,
    SlurmError,
    TryLater,
)

ACCESS_DENIED = 2002

# fmt: off
KINDS: dict[int, type[SlurmError]] = {
    11:   TryLater,          # EAGAIN
    1007: NotAuthenticated,  # SLURM_PROTOCOL_AUTHENTICATION_ERROR
    1800: NotReached,        # SLURMCTLD_COMMUNICATIONS_CONNECTION_ERROR: who was asked could not connect
    1804: TryLater,          # SLURMCTLD_COMMUNICATIONS_BACKOFF: the controller limits the rate
    1805: TryLater,          # SLURMCTLD_COMMUNICATIONS_HARD_DROP
    2007: TryLater,          # ESLURM_ERROR_ON_DESC_TO_RECORD_COPY: MaxJobCount is reached
    2010: NotAuthenticated,  # ESLURM_USER_ID_MISSING: may not speak for this user
    2017: NotKnown,          # ESLURM_INVALID_JOB_ID
    2019: TryLater,          # ESLURM_WRITING_TO_FILE: the controller's disk is full, or fails
    2020: TryLater,          # ESLURM_TRANSITION_STATE_NO_UPDATE: it is just starting
    2027: TryLater,          # ESLURM_IN_STANDBY_MODE: a fail-over goes on
    2050: TryLater,          # ESLURM_ACCOUNTING_POLICY: so many jobs of this user or account may wait
    2070: TryLater,          # ESLURM_PARTITION_NOT_AVAIL: an administrator has closed it for a while
    2105: TryLater,          # ESLURM_SUBMISSIONS_DISABLED
    2131: TryLater,          # ESLURM_IN_STANDBY_USE_BACKUP
    6000: NotAuthenticated,  # ESLURM_AUTH_CRED_INVALID
    6001: NotAuthenticated,  # ESLURM_AUTH_EXPIRED
    7000: NotReached,        # ESLURM_DB_CONNECTION: slurmdbd does not run
    9008: NotAuthenticated,  # ESLURM_REST_AUTH_FAIL
}
# fmt: on
# ESLURM_*, ESLURMD_* about a job, and slurmrestd's own about what it could not parse.
SAID_NO = (range(2000, 2999), range(8000, 8999), range(9000, 9999))


def said_no(code: int | None) -> bool:
    return any((code or 0) in numbers for numbers in SAID_NO)


def kind_of(code: int) -> type[SlurmError]:
    """Where a number is all there is."""
    return KINDS.get(code) or (Refused if said_no(code) else NoAnswer)
