"""The tasks of an array, from its Indexed Job and the pods.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.base import TaskObservation
from adapters.kubernetes import words
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.records import Pod
from adapters.kubernetes.words import End
from api_spec.quantities import InvalidQuantity, expand_indices
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A, J = AttemptState, JobState


def table(
    root: Manifest, pods: Sequence[Pod], events: Sequence[Manifest], tasks: Sequence[int], over: bool
) -> dict[int, TaskObservation]:
    """``tasks``: the task behind each index of the Job.  ``over``: what has not ended was cancelled."""
    if not tasks:
        return {}
    latest = {pod.index: pod for pod in pods}  # a later pod of an index stands for it
    done, failed = places(root, "completedIndexes"), places(root, "failedIndexes")
    return {
        index: _task(
            latest.get(place), place in done, _taken(root, events, place) if place in failed else None, over
        )
        for place, index in enumerate(tasks)
    }


def places(root: Manifest, name: str) -> frozenset[int]:
    """Kubernetes writes them as "1,3-5,7"."""
    written = member(root, "status", name)
    try:
        return frozenset(expand_indices(written)) if isinstance(written, str) and written else frozenset()
    except InvalidQuantity:
        return frozenset()


def _taken(root: Manifest, events: Sequence[Manifest], place: int) -> End:
    """How a task ended that counts as failed and has no pod any more.  Pods are called NAME-INDEX-SUFFIX."""
    name = str(member(root, "metadata", "name"))
    those = [
        one
        for one in events
        if str(member(one, "involvedObject", "name")).rpartition("-")[0] == f"{name}-{place}"
    ]
    return words.taken_pod(those) or End(Reason.NODE_LOST, "its pod is gone")


def _task(pod: Pod | None, done: bool, taken: End | None, over: bool) -> TaskObservation:
    """``taken``: it counts as failed, by that if its pod tells of no fault of its own."""
    end = words.end_of_pod(pod) if pod is not None and not pod.live else None
    started_at = pod.started_at if pod is not None else None
    ended_at = pod.ended.ended_at if pod is not None and pod.ended is not None else None
    if done or (pod is not None and pod.phase == "Succeeded"):
        end, outcome = End(Reason.COMPLETED, exit_code=0), J.COMPLETED
    elif taken is not None:
        if end is None or end.reason is Reason.COMPLETED:
            end = taken
        outcome = J.FAILED
    elif over:
        end, outcome = End(Reason.CANCELLED), J.CANCELLED
    else:
        started = pod is not None and pod.has_started
        return TaskObservation(state=A.RUNNING if started else A.QUEUED, started_at=started_at)
    return TaskObservation(
        state=A.ENDED,
        outcome=outcome,
        reason=end.reason,
        exit_code=end.exit_code,
        signal=end.signal,
        started_at=started_at,
        ended_at=ended_at,
    )
