"""Why a job is where it is: one enumeration over all backends, each with a sentence for people.

One fact, one code, whichever backend said it.  ``PENDING`` is in order of precedence: of several reasons
that hold at once, the first is shown.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    # why a job waits
    INVALID_SPEC = "InvalidSpec"
    NEVER_FITS = "NeverFits"
    QUOTA_EXCEEDED = "QuotaExceeded"
    HELD = "Held"
    DEPENDENCY_NOT_MET = "DependencyNotMet"
    BACKEND_DOWN = "BackendDown"
    SUBMIT_UNCONFIRMED = "SubmitUnconfirmed"
    RESERVATION = "Reservation"
    PRIORITY = "Priority"
    CAPACITY = "Capacity"
    IMAGE_PULL = "ImagePull"
    STARTING = "Starting"
    SUSPENDED = "Suspended"
    UNKNOWN = "Unknown"
    # how it ended
    COMPLETED = "Completed"
    NON_ZERO_EXIT = "NonZeroExit"
    SIGNALLED = "Signalled"
    OUT_OF_MEMORY = "OutOfMemory"
    TIME_LIMIT = "TimeLimit"
    NODE_LOST = "NodeLost"
    PREEMPTED = "Preempted"
    CANCELLED = "Cancelled"
    IMAGE_ERROR = "ImageError"
    LAUNCH_FAILED = "LaunchFailed"
    REJECTED = "Rejected"
    DEPENDENCY_FAILED = "DependencyFailed"
    LOST = "Lost"
    # why a backend loses a placement
    UNSUPPORTED = "Unsupported"
    NOT_ALLOWED = "NotAllowed"
    POLICY = "Policy"
    DRAINED = "Drained"


R = Reason

# fmt: off
PENDING: tuple[Reason, ...] = (
    R.INVALID_SPEC, R.NEVER_FITS, R.QUOTA_EXCEEDED, R.HELD, R.DEPENDENCY_NOT_MET, R.BACKEND_DOWN,
    R.SUBMIT_UNCONFIRMED, R.RESERVATION, R.PRIORITY, R.CAPACITY, R.IMAGE_PULL, R.STARTING, R.SUSPENDED,
    R.UNKNOWN,
)
ENDINGS: tuple[Reason, ...] = (
    R.COMPLETED, R.NON_ZERO_EXIT, R.SIGNALLED, R.OUT_OF_MEMORY, R.TIME_LIMIT, R.NODE_LOST, R.PREEMPTED,
    R.CANCELLED, R.IMAGE_ERROR, R.LAUNCH_FAILED, R.REJECTED, R.DEPENDENCY_FAILED, R.LOST,
)
REFUSALS: tuple[Reason, ...] = (
    R.UNSUPPORTED, R.NOT_ALLOWED, R.POLICY, R.DRAINED, R.NEVER_FITS, R.QUOTA_EXCEEDED, R.BACKEND_DOWN,
    R.INVALID_SPEC, R.REJECTED,
)

SENTENCES: dict[Reason, str] = {
    R.INVALID_SPEC:       "The backend cannot read the specification.",
    R.NEVER_FITS:         "No node of the backend is large enough, however long the job waits.",
    R.QUOTA_EXCEEDED:     "A quota or limit of the project, account or namespace is used up.",
    R.HELD:               "The job is held; release it to go on.",
    R.DEPENDENCY_NOT_MET: "The job waits for another job.",
    R.BACKEND_DOWN:       "The backend does not answer; the last known state is shown, with its age.",
    R.SUBMIT_UNCONFIRMED: "The job was handed over and the answer was lost; the broker is looking for it.",
    R.RESERVATION:        "The job waits for a reservation, or a reservation holds the nodes.",
    R.PRIORITY:           "Jobs with a higher priority are ahead.",
    R.CAPACITY:           "The job fits, but not now: the backend is busy.",
    R.IMAGE_PULL:         "The container image is being pulled, or cannot be pulled yet.",
    R.STARTING:           "The job is being started.",
    R.SUSPENDED:          "The backend has suspended the job.",
    R.UNKNOWN:            "The backend gives a reason that the broker does not know; see the native reason.",
    R.COMPLETED:          "The job ended with exit code 0.",
    R.NON_ZERO_EXIT:      "The job ended with an exit code other than 0.",
    R.SIGNALLED:          "The job was ended by a signal.",
    R.OUT_OF_MEMORY:      "The job used more memory than it had asked for.",
    R.TIME_LIMIT:         "The job ran into its time limit.",
    R.NODE_LOST:          "A node of the job failed.",
    R.PREEMPTED:          "The job gave way to another one.",
    R.CANCELLED:          "The job was cancelled.",
    R.IMAGE_ERROR:        "The container image does not exist or may not be pulled.",
    R.LAUNCH_FAILED:      "The job could not be started.",
    R.REJECTED:           "The backend refused the job for good.",
    R.DEPENDENCY_FAILED:  "A job that this one waited for can no longer do what was waited for.",
    R.LOST:               "The backend no longer knows the job, and nobody knows how it ended.",
    R.UNSUPPORTED:        "The backend cannot honour a field of the job.",
    R.NOT_ALLOWED:        "The job does not allow this backend.",
    R.POLICY:             "A rule of the placement policy speaks against it.",
    R.DRAINED:            "The backend takes no new jobs at the moment.",
}

# What a retry may name, and what the user's own program is to blame for.
RETRYABLE = frozenset(ENDINGS) - {R.COMPLETED, R.CANCELLED, R.DEPENDENCY_FAILED, R.REJECTED}
# fmt: on
