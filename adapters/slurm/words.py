"""Slurm's words in ours: states, flags and reasons of all versions from 22.05 to 25.11, as tables.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A, J, R = AttemptState, JobState, Reason


@dataclass(frozen=True)
class Word:
    """``reason`` None: the exit code says it (at an end), or Slurm's own reason (while it waits)."""

    state: AttemptState
    outcome: JobState | None = None
    reason: Reason | None = None


# fmt: off
# Every base state of job_state_string() in Slurm's src/common.
BASES: dict[str, Word] = {
    "PENDING":       Word(A.QUEUED),
    "RUNNING":       Word(A.RUNNING),
    "SUSPENDED":     Word(A.RUNNING, reason=R.SUSPENDED),
    "COMPLETED":     Word(A.ENDED, J.COMPLETED, R.COMPLETED),
    "CANCELLED":     Word(A.ENDED, J.CANCELLED, R.CANCELLED),
    "FAILED":        Word(A.ENDED, J.FAILED),
    "TIMEOUT":       Word(A.ENDED, J.FAILED, R.TIME_LIMIT),
    "DEADLINE":      Word(A.ENDED, J.FAILED, R.TIME_LIMIT),
    "NODE_FAIL":     Word(A.ENDED, J.FAILED, R.NODE_LOST),
    "BOOT_FAIL":     Word(A.ENDED, J.FAILED, R.NODE_LOST),
    "PREEMPTED":     Word(A.ENDED, J.FAILED, R.PREEMPTED),
    "OUT_OF_MEMORY": Word(A.ENDED, J.FAILED, R.OUT_OF_MEMORY),
}

# Every flag, the one that decides first.  Older dialects show a flag alone, in place of the base state: one
# that can hide any base (COMPLETING until the epilog is over) must not be taken for an end.
FLAGS: dict[str, Word] = {
    "REVOKED":       Word(A.ENDED, J.FAILED, R.LOST),     # federation: another cluster has started it
    "REQUEUE_HOLD":  Word(A.QUEUED, reason=R.HELD),
    "SPECIAL_EXIT":  Word(A.QUEUED, reason=R.HELD),
    "RESV_DEL_HOLD": Word(A.QUEUED, reason=R.HELD),       # its reservation was deleted
    "LAUNCH_FAILED": Word(A.QUEUED, reason=R.HELD),       # requeued and held after it could not be launched
    "RECONFIG_FAIL": Word(A.QUEUED, reason=R.HELD),       # the same, after a change of the node's features
    "REQUEUE_FED":   Word(A.QUEUED),
    "REQUEUED":      Word(A.QUEUED),
    "CONFIGURING":   Word(A.QUEUED, reason=R.STARTING),   # nodes are booting
    "POWER_UP_NODE": Word(A.QUEUED, reason=R.STARTING),
    "COMPLETING":    Word(A.RUNNING),
    "STAGE_OUT":     Word(A.RUNNING),
    "STOPPED":       Word(A.RUNNING, reason=R.SUSPENDED),
    "SIGNALING":     Word(A.RUNNING),
    "RESIZING":      Word(A.RUNNING),
    "EXPEDITING":    Word(A.QUEUED),                      # 25.11: requeued, ahead of others
}

# Of job_state_reason_string().  Limits of QOS, associations and accounts are 180 words of one form: FAMILIES.
PENDING: dict[str, Reason] = {
    "None":                    R.PRIORITY,                # not looked at yet
    "Priority":                R.PRIORITY,
    "SchedDefer":              R.PRIORITY,
    "Resources":               R.CAPACITY,
    "Licenses":                R.CAPACITY,
    "BurstBufferResources":    R.CAPACITY,
    "JobArrayTaskLimit":       R.CAPACITY,                # the job's own throttle
    "NvidiaImexChannels":      R.CAPACITY,
    "MpiPortsBusy":            R.CAPACITY,
    "MaxPoweredUpNodes":       R.CAPACITY,
    "PowerNotAvail":           R.CAPACITY,
    "PowerReserved":           R.CAPACITY,
    "FedJobLock":              R.CAPACITY,
    "Dependency":              R.DEPENDENCY_NOT_MET,
    "DependencyNeverSatisfied": R.NEVER_FITS,
    "JobHeldUser":             R.HELD,
    "JobHeldAdmin":            R.HELD,
    "JobHoldMaxRequeue":       R.HELD,
    "BeginTime":               R.STARTING,                # also the two minutes after a requeue
    "Cleaning":                R.STARTING,
    "Prolog":                  R.STARTING,
    "BurstBufferOperation":    R.STARTING,
    "BurstBufferStageIn":      R.STARTING,
    "Reservation":             R.RESERVATION,
    "ReservationDeleted":      R.RESERVATION,
    "ReservationInvalid":      R.RESERVATION,
    "ReqNodeNotAvail":         R.CAPACITY,
    "NodeDown":                R.CAPACITY,
    "FrontEndDown":            R.CAPACITY,
    "PartitionDown":           R.CAPACITY,
    "PartitionInactive":       R.CAPACITY,
    "BlockMaxError":           R.CAPACITY,
    "BlockFreeAction":         R.CAPACITY,
    "PartitionConfig":         R.NEVER_FITS,
    "PartitionNodeLimit":      R.NEVER_FITS,
    "PartitionTimeLimit":      R.NEVER_FITS,
    "BadConstraints":          R.NEVER_FITS,
    "Constraints":             R.CAPACITY,
    "AccountNotAllowed":       R.NEVER_FITS,
    "InvalidAccount":          R.NEVER_FITS,
    "InvalidQOS":              R.NEVER_FITS,
    "QOSNotAllowed":           R.NEVER_FITS,
    "AccountingPolicy":        R.QUOTA_EXCEEDED,
    "QOSUsageThreshold":       R.QUOTA_EXCEEDED,
    "DeadLine":                R.NEVER_FITS,
    "InactiveLimit":           R.UNKNOWN,                 # of an end, shown while it goes on
    "JobLaunchFailure":        R.STARTING,                # of the run before a requeue
    "NonZeroExitCode":         R.STARTING,
    "OutOfMemory":             R.STARTING,
    "RaisedSignal":            R.STARTING,
    "SystemFailure":           R.STARTING,
    "TimeLimit":               R.STARTING,
}

FAMILIES = re.compile(r"QOS\w+|Assoc\w+|Max\w+Per(Account|User|Limit)")

# Reasons that an ended job carries and that say more than its state.
ENDINGS: dict[str, Reason] = {
    "JobLaunchFailure":         R.LAUNCH_FAILED,
    "DependencyNeverSatisfied": R.DEPENDENCY_FAILED,
    "OutOfMemory":              R.OUT_OF_MEMORY,
    "NodeDown":                 R.NODE_LOST,
    "SystemFailure":            R.NODE_LOST,
    "TimeLimit":                R.TIME_LIMIT,
    "InactiveLimit":            R.TIME_LIMIT,
    "DeadLine":                 R.TIME_LIMIT,
}
# fmt: on


@lru_cache(maxsize=1024)  # a few combinations, in thousands of rows
def word(states: tuple[str, ...]) -> Word | None:
    """None: nothing that we know.  An unknown word may say the opposite of those beside it."""
    names = [name.upper() for name in states]
    if not names or any(name not in BASES and name not in FLAGS for name in names):
        return None
    base = next((BASES[name] for name in names if name in BASES), None)
    flag = next((FLAGS[name] for name in FLAGS if name in names), None)
    if flag is None:
        return base
    if base is not None and base.state is A.QUEUED and flag.state is A.RUNNING:
        return base  # requeued while its last run is still being cleaned up
    return flag


def pending_reason(native: str | None) -> Reason:
    """Why it waits.  ``Unknown`` for a word of a version that we do not know."""
    if not native:
        return R.PRIORITY
    if native in PENDING:
        return PENDING[native]
    return R.QUOTA_EXCEEDED if FAMILIES.fullmatch(native) else R.UNKNOWN
