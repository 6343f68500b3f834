"""What a Job and its pods say of an attempt, in our words: ordered rules, the first that holds decides.

Pure.  A short pod may never be seen running, and the condition of a Job may be seen before the last state of
its pods: so nothing here needs a state that has to be seen in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from adapters.base import AttemptRef, Handle, Observation, TaskObservation
from adapters.kubernetes import array_tasks, kueue, words
from adapters.kubernetes.names import MARKER, USER, Manifest, is_cancelled, member, why_withdrawn
from adapters.kubernetes.records import Condition, Pod, conditions, moment
from adapters.kubernetes.words import End
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A, J = AttemptState, JobState


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """One attempt's root object with its pods, the oldest first."""

    root: Manifest
    pods: Sequence[Pod]
    events: Sequence[Manifest] = ()  # read only where nothing else tells
    workload: Manifest | None = None  # Kueue's, of what is in a queue

    @property
    def conditions(self) -> dict[str, Condition]:
        return conditions(member(self.root, "status"))

    def holds(self, condition: str) -> bool:
        found = self.conditions.get(condition)
        return found is not None and found.holds

    @property
    def is_cancelled(self) -> bool:
        return is_cancelled(self.root)

    @property
    def started_at(self) -> float | None:
        return min((pod.started_at for pod in self.pods if pod.started_at), default=None)

    @property
    def logs_leave(self) -> bool:
        return any(pod.leaving and pod.has_started for pod in self.pods)

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(pod.node for pod in self.pods if pod.node))


def handle_of(root: Manifest) -> Handle:
    """Names are used again, a uid never is; ``id`` is what people look for, ``user`` as whom it was made."""
    metadata = member(root, "metadata")
    told = {key: member(metadata, key) for key in ("namespace", "name", "uid")}
    if (user := member(metadata, "annotations", USER)) is not None:
        told["user"] = str(user)
    return {"id": f"{told['namespace']}/{told['name']}", "kind": member(root, "kind"), **told}


def hidden(ref: AttemptRef, why: str) -> Observation:
    """Of what is where the broker may not look: neither seen nor absent, and nothing moves it."""
    message = f"the broker may not look at it: {why}"
    return Observation(
        marker=ref.marker,
        state=None,
        native_state="Hidden",
        native_reason="Forbidden",
        reason=Reason.BACKEND_DOWN,
        message=message,
        handle=ref.handle,
    )


def is_over(bundle: Bundle) -> bool:
    if bundle.holds("Complete") or bundle.holds("Failed"):
        return True
    # The controller has seen that it makes no more pods; before that it could still make one.
    stopped = bundle.holds("Suspended") and not kueue.could_start(bundle.root, bundle.workload)
    return bundle.is_cancelled and stopped and not any(pod.live for pod in bundle.pods)


def may_be_started(bundle: Bundle) -> bool:
    """By Kueue, which has made its Workload only after somebody held or cancelled the Job."""
    if bundle.workload is None or not kueue.must_wait(bundle.root):
        return False
    return bundle.is_cancelled or not any(pod.has_started for pod in bundle.pods)


def of_job(bundle: Bundle, tasks: Sequence[int] = ()) -> Observation:
    """``tasks``: of an array, the task behind each index."""
    table = array_tasks.table(bundle.root, bundle.pods, bundle.events, tasks, is_over(bundle))
    seen = Observation(
        marker=str(member(bundle.root, "metadata", "labels", MARKER)),
        state=None,
        native_state=_native_state(bundle),
        native_reason=_native_reason(bundle),
        restarts=kueue.restarts(bundle.workload, has_stopped=True),
        started_at=bundle.started_at,
        nodes=bundle.nodes,
        handle=handle_of(bundle.root),
        tasks=table,
        logs_leave=bundle.logs_leave,
    )
    if is_over(bundle):
        return _ended(seen, bundle, table)
    if _runs(bundle, is_array=bool(tasks)):
        restarts = kueue.restarts(bundle.workload, has_stopped=False)
        message = _being_taken(bundle) or (_why_others_wait(bundle) if tasks else None)
        return replace(seen, state=A.RUNNING, restarts=restarts, message=message)
    reason, message = waits_for(bundle)
    return replace(seen, state=A.QUEUED, reason=reason, message=message)


def _native_state(bundle: Bundle) -> str:
    for word in ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "Suspended"):
        if bundle.holds(word):
            return word
    return "Active" if bundle.pods else "Pending"


def _native_reason(bundle: Bundle) -> str | None:
    for word in ("Failed", "FailureTarget"):
        if bundle.holds(word):
            return bundle.conditions[word].reason
    return kueue.word(bundle.workload) if _is_suspended(bundle) else None


def _is_suspended(bundle: Bundle) -> bool:
    return member(bundle.root, "spec", "suspend") is True


# ---- while it lasts ----------------------------------------------------------------------------------


def _runs(bundle: Bundle, *, is_array: bool) -> bool:
    """A job on several nodes needs all of them; of an array one task is enough."""
    started = {pod.index for pod in bundle.pods if pod.has_started}
    wanted = member(bundle.root, "spec", "completions")
    needed = 1 if is_array or not isinstance(wanted, int) else wanted
    return len(started) >= needed


def _being_taken(bundle: Bundle) -> str | None:
    """A pod of a node that no longer answers stays so until the node is back or is removed."""
    for pod in bundle.pods:
        taken = pod.conditions.get("DisruptionTarget")
        if pod.live and taken is not None and taken.holds:
            return f"the pod on {pod.node} is being taken away: {taken.message or taken.reason}"
    return None


def _why_others_wait(bundle: Bundle) -> str | None:
    """Of an array that runs since one task does.  What merely starts is on its way, and says nothing."""
    told = [why_pod_waits(pod) for pod in bundle.pods if pod.live and not pod.has_started]
    refused = words.refused_pod(bundle.events) if lacks_pods(bundle) else None
    known = [one for one in (*told, refused) if one is not None and one[0] is not Reason.STARTING]
    if not known:
        return None
    return f"other tasks wait: {min(known, key=lambda one: words.order_of(one[0]))[1]}"


def waits_for(bundle: Bundle) -> tuple[Reason, str | None]:
    if (withdrawn := why_withdrawn(bundle.root)) is not None:
        return Reason.CAPACITY, f"it is being withdrawn: {withdrawn}"
    if _is_suspended(bundle):
        return kueue.why(bundle.root, bundle.workload) if kueue.queue_of(bundle.root) else (Reason.HELD, None)
    waiting = [pod for pod in bundle.pods if pod.live and not pod.has_started]
    if not waiting:
        return words.refused_pod(bundle.events) or (Reason.STARTING, _not_made(bundle))
    told = [why_pod_waits(pod) for pod in waiting]
    reason, message = min(told, key=lambda one: words.order_of(one[0]))
    started = len(bundle.pods) - len(waiting)
    if started:
        message = f"{started} of {len(bundle.pods)} pods have started; {message or 'one starts'}"
    return reason, message


def _not_made(bundle: Bundle) -> str | None:
    if not bundle.pods:
        return "its pods have not been made yet"
    wanted = _at_once(bundle)
    return f"{len(bundle.pods)} of {wanted} pods have been made" if len(bundle.pods) < wanted else None


def _at_once(bundle: Bundle) -> int:
    found = member(bundle.root, "spec", "parallelism")
    return found if isinstance(found, int) else 1


def lacks_pods(bundle: Bundle) -> bool:
    """What keeps them from being made, quota and Pod Security, is told by events alone."""
    live = sum(pod.live for pod in bundle.pods)
    return not _is_suspended(bundle) and not is_over(bundle) and live < _wanted_pods(bundle)


def _wanted_pods(bundle: Bundle) -> int:
    """At this time: those of tasks that are over are not made again."""
    in_all = member(bundle.root, "spec", "completions")
    if not isinstance(in_all, int):
        return _at_once(bundle)
    over: set[int | None] = {pod.index for pod in bundle.pods if pod.phase == "Succeeded"}
    for name in ("completedIndexes", "failedIndexes"):
        over |= array_tasks.places(bundle.root, name)
    return min(_at_once(bundle), in_all - len(over))


def why_pod_waits(pod: Pod) -> tuple[Reason, str | None]:
    placed = pod.conditions.get("PodScheduled")
    if placed is not None and not placed.holds:
        return words.named(placed.message, words.UNSCHEDULABLE, Reason.CAPACITY), placed.message
    if pod.waiting is not None:
        message = pod.waiting.message or pod.waiting.reason
        return words.WAITING.get(pod.waiting.reason, Reason.STARTING), message
    return Reason.STARTING, None


# ---- ends --------------------------------------------------------------------------------------------


def _ended(seen: Observation, bundle: Bundle, table: Mapping[int, TaskObservation]) -> Observation:
    seen = replace(seen, state=A.ENDED, ended_at=_ended_at(bundle))
    if bundle.holds("Complete"):
        return replace(seen, outcome=J.COMPLETED, reason=Reason.COMPLETED, exit_code=0)
    if (withdrawn := why_withdrawn(bundle.root)) is not None:  # its pods may count as failed by that
        return replace(seen, outcome=J.FAILED, reason=Reason.LAUNCH_FAILED, message=withdrawn)
    if not bundle.holds("Failed"):
        return replace(seen, outcome=J.CANCELLED, reason=Reason.CANCELLED)
    failed = [index for index, task in table.items() if task.outcome is J.FAILED]
    end = _end_of_job(bundle)
    message = end.message
    if failed:
        first = table[failed[0]]
        end = End(first.reason or end.reason, exit_code=first.exit_code, signal=first.signal)
        message = f"{len(failed)} of {len(table)} tasks failed, first task {failed[0]}"
    return replace(
        seen,
        outcome=J.FAILED,
        reason=end.reason,
        message=message,
        exit_code=end.exit_code,
        signal=end.signal,
    )


def _end_of_job(bundle: Bundle) -> End:
    """The pod that failed first is the cause; the others were ended with it."""
    condition = bundle.conditions["Failed"]
    told = words.end_of_job(condition.reason, condition.message)
    ends = [(pod, words.end_of_pod(pod)) for pod in bundle.pods if pod.phase == "Failed"]
    known = [(pod, end) for pod, end in ends if end is not None and end.reason is not Reason.COMPLETED]
    if not known:
        if (taken := words.taken_pod(bundle.events)) is not None:
            return taken
        return told or End(Reason.NODE_LOST, condition.message or "its pod is gone")
    named = [end for pod, end in known if f"/{pod.name} " in f"{condition.message} "]
    first = min(known, key=lambda one: (one[0].ended and one[0].ended.ended_at) or float("inf"))[1]
    return named[0] if named else first


def lost_its_pod(bundle: Bundle) -> bool:
    """A pod that was taken is soon gone, and the Job does not say by whom; of tasks, only which."""
    failed = bundle.conditions.get("Failed")
    taken = failed is not None and failed.holds and words.DISRUPTION_SAID in (failed.message or "")
    there = {pod.index for pod in bundle.pods if pod.phase == "Failed"}
    return (taken and not there) or bool(array_tasks.places(bundle.root, "failedIndexes") - there)


def is_ahead_of_its_pods(bundle: Bundle) -> bool:
    """It has ended, and of its pods that has not been told yet: another watch tells of them."""
    failed = bundle.holds("Failed")
    if not failed and not bundle.holds("Complete"):
        return False
    return any(pod.live for pod in bundle.pods) or (
        failed and not any(pod.phase == "Failed" for pod in bundle.pods)
    )


def _ended_at(bundle: Bundle) -> float | None:
    """Of the last process; where nobody knows, when the Job was seen to be over."""
    times = [pod.ended.ended_at for pod in bundle.pods if pod.ended and pod.ended.ended_at]
    if times:
        return max(times)
    known = [
        bundle.conditions[word].since for word in ("Complete", "Failed", "Suspended") if bundle.holds(word)
    ]
    return known[0] if known else moment(member(bundle.root, "status", "completionTime"))
