"""Kubernetes' words in ours, as tables: why a pod waits, how a container and a Job end.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.records import Ended, Pod
from api_spec.reasons import PENDING, Reason

R = Reason

# fmt: off
# Why a container waits: the kubelet's reasons.  None of them ever ends a pod by itself.
WAITING: dict[str, Reason] = {
    "ContainerCreating":          R.STARTING,
    "PodInitializing":            R.STARTING,
    "ErrImagePull":               R.IMAGE_PULL,
    "ImagePullBackOff":           R.IMAGE_PULL,
    "ErrImageNeverPull":          R.IMAGE_PULL,
    "InvalidImageName":           R.IMAGE_PULL,
    "ImageInspectError":          R.IMAGE_PULL,
    "RegistryUnavailable":        R.IMAGE_PULL,
    "SignatureValidationFailed":  R.IMAGE_PULL,
    "CreateContainerConfigError": R.INVALID_SPEC,     # a Secret or ConfigMap that is not there; root
    "CreateContainerError":       R.STARTING,
    "RunContainerError":          R.STARTING,
    "CrashLoopBackOff":           R.STARTING,
}

# How a container ended, beside its exit code.
TERMINATED: dict[str, Reason] = {
    "OOMKilled":                  R.OUT_OF_MEMORY,
    "StartError":                 R.LAUNCH_FAILED,
    "ContainerCannotRun":         R.LAUNCH_FAILED,
    "ContainerStatusUnknown":     R.NODE_LOST,
}

# Why a pod was taken: the reasons of its condition DisruptionTarget.
DISRUPTED: dict[str, Reason] = {
    "PreemptionByScheduler":      R.PREEMPTED,
    "EvictionByEvictionAPI":      R.PREEMPTED,        # a drain, or somebody's balance
    "DeletionByTaintManager":     R.NODE_LOST,
    "DeletionByPodGC":            R.NODE_LOST,
    "TerminationByKubelet":       R.NODE_LOST,        # the node is short of something, or shuts down
}

# Why the kubelet refused or ended a whole pod: its status.reason.
POD_REASONS: dict[str, Reason] = {
    "DeadlineExceeded":           R.TIME_LIMIT,
    "Evicted":                    R.NODE_LOST,
    "NodeLost":                   R.NODE_LOST,
    "NodeShutdown":               R.NODE_LOST,
    "Terminated":                 R.NODE_LOST,
    "Preempting":                 R.PREEMPTED,
    "UnexpectedAdmissionError":   R.LAUNCH_FAILED,
    "NodeAffinity":               R.LAUNCH_FAILED,
}

# Why a Job failed: its condition Failed.  ``None``: its pods know better.
JOB_FAILED: dict[str, Reason | None] = {
    "DeadlineExceeded":           R.TIME_LIMIT,
    "BackoffLimitExceeded":       None,
    "PodFailurePolicy":           None,
    "FailedIndexes":              None,
    "MaxFailedIndexesExceeded":   None,
    "FailedJobs":                 None,               # of a JobSet, and the next too
    "ReachedMaxRestarts":         None,
}

# What an event on a pod that is gone says of who took it.
TAKEN: dict[str, Reason] = {
    "Preempted":                  R.PREEMPTED,
    "TaintManagerEviction":       R.NODE_LOST,
}

# What an event on a Job or ReplicaSet says of pods that could not be made: in its text.
FAILED_CREATE: tuple[tuple[str, Reason], ...] = (
    ("exceeded quota",            R.QUOTA_EXCEEDED),
    ("failed quota",              R.QUOTA_EXCEEDED),
    ("violates PodSecurity",      R.INVALID_SPEC),
    ("is forbidden",              R.INVALID_SPEC),
)

# What the scheduler counts, in its message; the first that is in it decides.
UNSCHEDULABLE: tuple[tuple[str, Reason], ...] = (
    ("scheduling gates",          R.SUSPENDED),        # Kueue's, of the pods of a service
    ("persistentvolumeclaim",     R.INVALID_SPEC),
    ("device class",              R.INVALID_SPEC),     # of a claim, which does not exist
    ("unbound immediate",         R.STARTING),
    ("Insufficient",              R.CAPACITY),
    ("free ports",                R.CAPACITY),
    ("untolerated taint",         R.CAPACITY),
    ("node affinity",             R.CAPACITY),
    ("pod affinity",              R.CAPACITY),
    ("topology spread",           R.CAPACITY),
)
# fmt: on

LAST_WORDS = 200
"""Characters of a log's last line."""
SIGNALS = range(129, 129 + 64)
SAID = re.compile(r"failed with exit code (\d+)")
DISRUPTION_SAID = "has condition DisruptionTarget"


@dataclass(frozen=True)
class End:
    reason: Reason
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None


def end_of_container(ended: Ended) -> End:
    """An exit code above 128 is a signal, as every shell and container runtime counts."""
    if ended.reason in TERMINATED:
        known = TERMINATED[ended.reason]
        code = ended.exit_code if known is R.LAUNCH_FAILED else None
        return End(known, ended.message, code, 9 if known is R.OUT_OF_MEMORY else None)
    return end_of_code(ended.exit_code)


def end_of_code(code: int) -> End:
    if code == 0:
        return End(R.COMPLETED, exit_code=0)
    if code in SIGNALS:
        return End(R.SIGNALLED, signal=code - 128)
    return End(R.NON_ZERO_EXIT, exit_code=code)


def told_end(ended: Ended) -> str:
    """For a sentence, with the last line of its log, where that is kept."""
    end = end_of_container(ended)
    if end.reason is R.OUT_OF_MEMORY:
        how = "was killed for want of memory"
    elif end.reason is R.LAUNCH_FAILED:
        how = "could not be started"
    elif end.signal is not None:
        how = f"was ended by signal {end.signal}"
    elif end.exit_code is not None:
        how = f"has ended with exit code {end.exit_code}"
    else:
        how = "was lost with its container"
    lines = (ended.message or "").strip().splitlines()
    return f'{how} (its last words: "{lines[-1].strip()[:LAST_WORDS]}")' if lines else how


def end_of_pod(pod: Pod) -> End | None:
    """Who took it first, then what the kubelet says, then the container."""
    taken = pod.conditions.get("DisruptionTarget")
    if taken is not None and taken.holds:
        return End(DISRUPTED.get(taken.reason or "", R.NODE_LOST), taken.message)
    if pod.reason in POD_REASONS:
        return End(POD_REASONS[pod.reason], pod.message)
    if pod.reason is not None and pod.reason.startswith("OutOf"):  # OutOfcpu: the node had no room after all
        return End(R.LAUNCH_FAILED, pod.message)
    return end_of_container(pod.ended) if pod.ended is not None else None


def end_of_job(reason: str | None, message: str | None) -> End | None:
    """What the condition of a Job keeps of a pod that is gone."""
    if (known := JOB_FAILED.get(reason or "")) is not None:
        return End(known, message)
    if found := SAID.search(message or ""):
        return end_of_code(int(found[1]))
    if DISRUPTION_SAID in (message or ""):
        return End(R.NODE_LOST, message)
    return None


def refused_pod(events: Sequence[Manifest]) -> tuple[Reason, str] | None:
    """Why no pod could be made: what was said last."""
    told = [one for one in events if member(one, "reason") == "FailedCreate"]
    if not told:
        return None
    last = max(told, key=lambda one: str(member(one, "lastTimestamp") or ""))
    message = str(member(last, "message") or "a pod could not be made")
    return named(message, FAILED_CREATE, R.UNKNOWN), message


def taken_pod(events: Sequence[Manifest]) -> End | None:
    for one in events:
        if (reason := TAKEN.get(str(member(one, "reason")))) is not None:
            return End(reason, str(member(one, "message") or "") or None)
    return None


def named(text: str | None, table: tuple[tuple[str, Reason], ...], otherwise: Reason) -> Reason:
    return next((reason for words, reason in table if words in (text or "")), otherwise)


def order_of(reason: Reason) -> int:
    """Of several that hold at once, the smallest is shown."""
    return PENDING.index(reason)
