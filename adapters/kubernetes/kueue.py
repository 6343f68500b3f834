"""Kueue's words in ours: which labels bring a job into a queue, and what its Workload says of it.  Pure.

Kueue makes a Workload of each Job, and of each pod of a Deployment, that bears the label of a queue.  It
alone says when a Job may start (``spec.suspend``); who wants it to wait sets ``spec.active`` of the Workload.
Written against the API of v1beta1 and v1beta2, and never run against Kueue itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from adapters.kubernetes import records
from adapters.kubernetes.names import HELD, Manifest, is_cancelled, member, rows
from adapters.kubernetes.options import Options
from adapters.kubernetes.records import Condition, Pod
from adapters.kubernetes.resources import Resource
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

GROUP = "kueue.x-k8s.io"
VERSIONS = ("v1beta2", "v1beta1")  # the newest first
QUEUE = f"{GROUP}/queue-name"
PRIORITY = f"{GROUP}/priority-class"
JOB_UID = f"{GROUP}/job-uid"

R = Reason
# fmt: off
# Why a Workload has no quota: the reasons of its condition QuotaReserved=False.
NOT_RESERVED: dict[str, Reason] = {
    "NoMatchingFlavor":             R.NEVER_FITS,
    "ExceedsMaxQuota":              R.NEVER_FITS,
    "Misconfigured":                R.INVALID_SPEC,   # its LocalQueue or ClusterQueue is not there
    "WaitingForQuota":              R.CAPACITY,
    "TopologyPlacementFailed":      R.CAPACITY,
    "WaitingForPreemptedWorkloads": R.CAPACITY,
    "WaitingForPodsReady":          R.PRIORITY,       # of others, which were admitted before it
    "Suspended":                    R.SUSPENDED,      # the queue is stopped
    "PendingEvaluation":            R.SUSPENDED,
    "OnHold":                       R.SUSPENDED,
    "AdmissionGated":               R.SUSPENDED,
    "Waiting":                      R.PRIORITY,       # as WaitingForPodsReady, in older releases
}

# Older releases say Pending or Inadmissible, and the rest in the message; the first that is in it decides.
# What is short now comes first: of several flavours one may yet become free.
SAID: tuple[tuple[str, Reason], ...] = (
    ("insufficient unused quota",   R.CAPACITY),
    ("maximum capacity",            R.NEVER_FITS),
    ("match node affinity",         R.NEVER_FITS),
    ("untolerated taint",           R.NEVER_FITS),
    ("unavailable in ClusterQueue", R.NEVER_FITS),
    ("doesn't exist",               R.INVALID_SPEC),
    ("is inactive",                 R.SUSPENDED),
    ("is stopped",                  R.SUSPENDED),
)

# Why it was sent back after it had been admitted: the reasons of its condition Evicted.
EVICTED: dict[str, Reason] = {
    "Preempted":                    R.PRIORITY,
    "FlavorMigration":              R.CAPACITY,
    "PodsReadyTimeout":             R.CAPACITY,
    "AdmissionCheck":               R.STARTING,
    "NodeFailures":                 R.CAPACITY,
    "ClusterQueueStopped":          R.SUSPENDED,
    "LocalQueueStopped":            R.SUSPENDED,
    "EvictedOnManagerCluster":      R.CAPACITY,
    "Deactivated":                  R.SUSPENDED,
}
# fmt: on
TOLD = "Deactivated"
"""By whoever set ``spec.active``; what Kueue itself deactivates has a cause behind the word."""
FOR_EVER = frozenset({R.NEVER_FITS, R.INVALID_SPEC})
VAGUE = frozenset({None, "Pending", "PendingEvaluation"})
"""Of one that was sent back, why it was says more."""
NOT_SEEN = "the broker sees no Workload of it yet"
NOTHING_SAID = "Kueue has not come to it yet, and others may be ahead of it"


# ---- what is asked --------------------------------------------------------------------------------------


def version(served: Collection[str]) -> str | None:
    """The newest that the broker knows of those that the cluster serves."""
    return next((one for one in VERSIONS if one in served), None)


def workloads(version: str) -> Resource:
    return Resource(kind="Workload", group=f"{GROUP}/{version}", plural="workloads")


def local_queues(version: str) -> Resource:
    return Resource(kind="LocalQueue", group=f"{GROUP}/{version}", plural="localqueues")


def labels(spec: JobSpec, options: Options, queue: str | None) -> dict[str, str]:
    """Of the root object."""
    if queue is None:
        return {}
    priority = options.queue_priorities.get(spec.priority.value)
    return {QUEUE: queue, **({PRIORITY: priority} if priority else {})}


def kept(there: Any, wanted: Mapping[str, str]) -> dict[str, str]:
    """Labels of what is changed: while replicas are ready, Kueue lets none leave its queue or come to one."""
    there = there if isinstance(there, Mapping) else {}
    ours = {name: one for name, one in wanted.items() if name not in (QUEUE, PRIORITY)}
    return ours | {name: str(there[name]) for name in (QUEUE, PRIORITY) if name in there}


def queue_of(root: Manifest) -> str | None:
    """Kueue itself may have put it into the default queue of its namespace."""
    found = member(root, "metadata", "labels", QUEUE)
    return found if isinstance(found, str) and found else None


def must_wait(root: Manifest) -> bool:
    """Somebody has held or cancelled it, and Kueue is not to start it."""
    return is_cancelled(root) or member(root, "metadata", "annotations", HELD) is not None


# ---- what is told ---------------------------------------------------------------------------------------


def by_owner(found: Iterable[Manifest]) -> dict[str, Manifest]:
    """By the uid of the Job or pod; of several the newest."""
    out = {}
    for one in sorted(found, key=lambda each: str(member(each, "metadata", "creationTimestamp"))):
        if isinstance(uid := member(one, "metadata", "labels", JOB_UID), str):
            out[uid] = one
    return out


def of_attempt(told: Mapping[str, Manifest], uid: str, pods: Iterable[Pod]) -> Manifest | None:
    """Of its Job; or, of a service, of a pod that Kueue keeps waiting."""
    waiting = [told[pod.uid] for pod in pods if pod.uid in told and is_gated(pod)]
    return told.get(uid) or (waiting[0] if waiting else None)


def is_gated(pod: Pod) -> bool:
    placed = pod.conditions.get("PodScheduled")
    return pod.live and placed is not None and placed.reason == "SchedulingGated"


def is_active(workload: Manifest) -> bool:
    return member(workload, "spec", "active") is not False


def could_start(root: Manifest, workload: Manifest | None) -> bool:
    """A cancelled one, that still has pods to make: until Kueue has been told."""
    has_pods = member(root, "spec", "parallelism") != 0
    return queue_of(root) is not None and has_pods and (workload is None or is_active(workload))


def restarts(workload: Manifest | None, *, has_stopped: bool) -> int:
    """How often it was sent back, but by whoever held or cancelled it.  Older releases do not count.

    Kueue counts when it decides; while its pods go the last time is not over, and is not counted here."""
    evicted = records.conditions(member(workload, "status")).get("Evicted")
    counted = _evictions(workload, evicted)
    is_going = evicted is not None and evicted.holds and evicted.reason != TOLD and not has_stopped
    return max(0, counted - is_going)


def _evictions(workload: Manifest | None, evicted: Condition | None) -> int:
    status = member(workload, "status")
    counted = rows(member(status, "schedulingStats", "evictions"))
    if counted:
        return sum(_count(one.get("count")) for one in counted if not _was_told(one))
    if evicted is None or evicted.reason == TOLD:
        return 0
    return max(1, _count(member(status, "requeueState", "count")))


def _was_told(eviction: Mapping[str, Any]) -> bool:
    return eviction.get("reason") == TOLD and not eviction.get("underlyingCause")


def _count(found: Any) -> int:
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else 0


def word(workload: Manifest | None) -> str | None:
    """Kueue's own, for why it waits."""
    told = _telling(records.conditions(member(workload, "status")))
    return told.reason if told is not None else None


def why(root: Manifest, workload: Manifest | None) -> tuple[Reason, str]:
    """Of one that Kueue has not started."""
    place = f"in the queue {queue_of(root)}"
    if must_wait(root):
        return R.HELD, f"{place}: held"
    if workload is None:
        return R.SUSPENDED, f"{place}: {NOT_SEEN}"
    found = records.conditions(member(workload, "status"))
    told = _telling(found)
    said = f"{place}: {(told.message or told.reason) if told is not None else NOTHING_SAID}"
    if not is_active(workload):
        return R.SUSPENDED, f"{said}; it is deactivated there"
    if told is None:
        return R.SUSPENDED, said
    if told.type == "Admitted":
        return R.STARTING, f"{place}: admitted" if told.holds else f"{said}{_checks(workload)}"
    reason = _reason(told)
    return reason, f"{said}; waiting changes nothing" if reason in FOR_EVER else said


def _telling(found: Mapping[str, Condition]) -> Condition | None:
    """The condition that says most of why it waits."""
    if (finished := found.get("Finished")) is not None and finished.holds:
        return finished  # Kueue could not start it, and will not try again
    admitted, reserved, evicted = (found.get(one) for one in ("Admitted", "QuotaReserved", "Evicted"))
    if evicted is not None and evicted.holds and (reserved is None or reserved.reason in VAGUE):
        return evicted
    if admitted is not None and (admitted.holds or (reserved is not None and reserved.holds)):
        return admitted
    if reserved is not None and reserved.holds:
        return Condition(
            type="Admitted", status="False", reason=None, message="quota is reserved", since=None
        )
    return reserved


def _reason(told: Condition) -> Reason:
    if told.type == "Finished":
        return R.INVALID_SPEC
    if told.type == "Evicted":
        first = next((one for one in EVICTED if (told.reason or "").startswith(one)), None)
        return EVICTED[first] if first else R.UNKNOWN
    if told.reason in NOT_RESERVED:
        return NOT_RESERVED[told.reason]
    return next((reason for words, reason in SAID if words in (told.message or "")), R.CAPACITY)


def _checks(workload: Manifest) -> str:
    """Those that it waits for, each with what it says."""
    waits = [
        one for one in rows(member(workload, "status", "admissionChecks")) if one.get("state") != "Ready"
    ]
    told = [f"{one.get('name')} is {one.get('state')} {one.get('message') or ''}".rstrip() for one in waits]
    return f": {', '.join(told)}" if told else ""
