"""What a Deployment and its pods say of a service, in our words.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.base import Observation, ServiceObservation
from adapters.kubernetes import kueue, words
from adapters.kubernetes.belongings import Belonging
from adapters.kubernetes.names import MARKER, Manifest, member, revision_of
from adapters.kubernetes.observations import Bundle, handle_of, why_pod_waits
from adapters.kubernetes.records import Pod
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A = AttemptState


def is_over(bundle: Bundle) -> bool:
    """The controller has seen that none is wanted, and the last pod is gone: whom it told to go may go on
    answering for its time of grace.  A pod that was evicted has no process, and stays."""
    lives = any(pod.live for pod in bundle.pods)
    return bundle.is_cancelled and _is_current(bundle.root) and not lives and not _counted(bundle.root)


def of_service(bundle: Bundle, belongings: Sequence[Belonging], domain: str) -> Observation:
    seen = Observation(
        marker=str(member(bundle.root, "metadata", "labels", MARKER)),
        state=A.RUNNING,
        native_state=_native_state(bundle),
        native_reason=_native_reason(bundle),
        started_at=bundle.started_at,
        nodes=bundle.nodes,
        handle=handle_of(bundle.root),
        service=_service(bundle, belongings, domain),
        logs_leave=bundle.logs_leave,
    )
    if is_over(bundle):
        service = _service(bundle, (), domain)
        return replace(
            seen, state=A.ENDED, outcome=JobState.CANCELLED, reason=Reason.CANCELLED, service=service
        )
    if _serves(bundle):
        return seen
    reason, message = shortfall(bundle)
    return replace(seen, state=A.QUEUED, reason=reason, message=message)


def _serves(bundle: Bundle) -> bool:
    """A replica is ready, or all of one revision once were: a service that lost its last replica for a while
    has not gone back to the queue."""
    if any(pod.ready and not pod.leaving for pod in bundle.pods):
        return True
    progress = bundle.conditions.get("Progressing")
    return progress is not None and progress.reason == "NewReplicaSetAvailable" and bool(bundle.pods)


def _is_current(root: Manifest) -> bool:
    """The controller has read what is wanted now."""
    wanted = member(root, "metadata", "generation")
    seen = member(root, "status", "observedGeneration")
    return isinstance(seen, int) and isinstance(wanted, int) and seen >= wanted


def _counted(root: Manifest) -> int:
    found = member(root, "status", "replicas")
    return found if isinstance(found, int) else 0


def _native_state(bundle: Bundle) -> str:
    if bundle.is_cancelled:
        return "ScaledDown"
    return "Available" if bundle.holds("Available") else "Progressing"


def _native_reason(bundle: Bundle) -> str | None:
    for word in ("ReplicaFailure", "Progressing"):
        if word in bundle.conditions:
            return bundle.conditions[word].reason
    return None


def _service(bundle: Bundle, belongings: Sequence[Belonging], domain: str) -> ServiceObservation:
    name, namespace = member(bundle.root, "metadata", "name"), member(bundle.root, "metadata", "namespace")
    wanted = member(bundle.root, "spec", "replicas")
    revision = revision_of(bundle.root)
    staying = [pod for pod in bundle.pods if pod.live and not pod.leaving]
    ready = sum(1 for pod in staying if pod.ready)
    wanted = wanted if isinstance(wanted, int) else 0
    port = next((one.port for one in belongings if one.port is not None), None)
    idle = next((one.idle for one in belongings if one.idle is not None), None)
    is_settled = ready == wanted and all(pod.revision == revision for pod in staying)
    return ServiceObservation(
        endpoint=f"http://{name}.{namespace}.svc.{domain}:{port}" if port is not None else None,
        wanted=wanted,
        updated=sum(1 for pod in staying if pod.revision == revision),
        ready=ready,
        revision=revision,
        message=(None if is_settled else shortfall(bundle)[1]) or idle,
    )


def shortfall(bundle: Bundle) -> tuple[Reason, str | None]:
    """Why fewer replicas are ready than are wanted: what keeps pods from being made, then the worst pod."""
    failure = bundle.conditions.get("ReplicaFailure")
    if failure is not None and failure.holds:
        return words.named(failure.message, words.FAILED_CREATE, Reason.UNKNOWN), failure.message
    staying = [pod for pod in bundle.pods if pod.live and not pod.leaving]
    missing = [pod for pod in staying if not pod.ready]
    if not missing:
        return Reason.STARTING, _counts(bundle, len(staying))
    told = [_not_ready(pod) for pod in missing]
    if bundle.workload is not None:
        told.append(kueue.why(bundle.root, bundle.workload))
    return min(told, key=lambda one: words.order_of(one[0]))


def _counts(bundle: Bundle, made: int) -> str | None:
    """Nothing is wrong with any pod that is there."""
    wanted = member(bundle.root, "spec", "replicas")
    if wanted == 0:
        return "no replica is wanted now"
    if not made:
        return "its pods have not been made yet"
    if isinstance(wanted, int) and made < wanted:
        return f"{made} of {wanted} pods have been made"
    return f"{made - wanted} replicas are about to go" if isinstance(wanted, int) and made > wanted else None


def _not_ready(pod: Pod) -> tuple[Reason, str | None]:
    if pod.ended is not None and pod.restarts:
        times = "once" if pod.restarts == 1 else f"{pod.restarts} times"
        return Reason.STARTING, f"a replica {words.told_end(pod.ended)} and was started again {times}"
    if pod.started_at is not None:
        return Reason.STARTING, "a replica runs and does not answer its health check yet"
    return why_pod_waits(pod)
