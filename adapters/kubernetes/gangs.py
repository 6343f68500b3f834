"""A plain Job has no gang: of several nodes some may start, and hold their GPUs while they wait for the rest.

Where the operator says for how long (``partial_start_s``), such a Job is told to end, as a cancel does it:
its pods go, the object stays as the record and bears the reason.  So no second copy can run beside it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from adapters.kubernetes import names, observations
from adapters.kubernetes.attempts import Attempts, Root
from adapters.kubernetes.errors import KubernetesError
from adapters.kubernetes.names import member
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.resources import JOBS


def verdict(bundle: Bundle, limit_s: float, now: float) -> str | None:
    """Why it is to be withdrawn; ``None``: it is whole, has not begun, or has time left.  Pure.

    The time counts from the start of the first pod that still runs: before that it holds no node idle.
    """
    wanted = member(bundle.root, "spec", "completions")
    if not isinstance(wanted, int) or bundle.is_cancelled or _is_ending(bundle):
        return None
    begun = [pod for pod in bundle.pods if pod.has_started]
    started = {pod.index for pod in begun}
    since = min((pod.started_at for pod in begun if pod.live and pod.started_at), default=None)
    if since is None or len(started) >= wanted or now - since < limit_s:
        return None
    why = observations.waits_for(bundle)[1] or "the others have not started"
    return f"withdrawn after {limit_s:g} s, so that its nodes are free: {_told(len(started), wanted, why)}"


def _is_ending(bundle: Bundle) -> bool:
    """Or may be: one that was whole and has lost a pod fails by itself, and for a reason of its own.  A pod
    does not go before its Job has counted it."""
    if any(one.leaving or one.phase == "Failed" for one in bundle.pods):
        return True
    counted = member(bundle.root, "status", "failed") or member(bundle.root, "spec", "suspend")
    return bool(counted) or any(bundle.holds(word) for word in ("Complete", "Failed", "FailureTarget"))


def _told(started: int, wanted: int, why: str) -> str:
    """The sentence of one that waits counts the pods that there are; some may not have been made."""
    _, counted, rest = why.partition(" pods have started; ")
    return f"{started} of {wanted} pods have started; {rest if counted else why}"


def withdraw(attempts: Attempts, root: Root, why: str) -> None:
    """Only while it is as it was seen: the last pod may have started since.  Raises ``KubernetesError``."""
    marks = {names.CANCELLED: datetime.now(UTC).isoformat(), names.WITHDRAWN: why}
    attempts.note(root, marks, {"suspend": True}, as_seen=True)


def kept_whole(attempts: Attempts, root: Root, bundle: Bundle, limit_s: float | None) -> str | None:
    """A service has no whole, a queue and a JobSet have rules of their own.  A fault is a sentence, and the
    next look tries again."""
    if limit_s is None or root.resource is not JOBS or root.is_queued:
        return None
    why = verdict(bundle, limit_s, time.time())
    try:
        if why:
            withdraw(attempts, root, why)
    except KubernetesError as error:
        return f"{why}; which has not been done yet: {error}"
    return None
