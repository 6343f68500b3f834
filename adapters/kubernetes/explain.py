"""Why an attempt waits, best reason first, with the cluster's own sentences as evidence.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.kubernetes import observations, serving, words
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.observations import Bundle
from api_spec.decisions import Refusal
from api_spec.jobs import Kind
from api_spec.reasons import Reason


def reasons(bundle: Bundle, events: Sequence[Manifest], kind: str) -> list[Refusal]:
    """``events``: of the root object, where no pod could be made; nothing else tells why."""
    found = list(_found(bundle, events, kind))
    unique = {(one.code, one.message): one for one in found}
    return sorted(unique.values(), key=lambda one: words.order_of(one.code))


def _found(bundle: Bundle, events: Sequence[Manifest], kind: str) -> Iterator[Refusal]:
    if member(bundle.root, "spec", "suspend") is True:
        yield Refusal(Reason.HELD, "the job is held")
        return
    yield from refused_pods(events)
    for pod in bundle.pods:
        if pod.live and not observations.has_started(pod):
            reason, message = observations.why_pod_waits(pod)
            yield Refusal(reason, message or "a pod is being started")
    if kind == Kind.INFERENCE.value:
        reason, message = serving.shortfall(bundle)
        yield Refusal(reason, message or "a replica is being started")
    elif not bundle.pods:
        yield Refusal(Reason.STARTING, "its pods have not been made yet")


def refused_pods(events: Sequence[Manifest]) -> Iterator[Refusal]:
    """Quota and Pod Security leave a Job without any condition: only these events say so."""
    told = [one for one in events if member(one, "reason") == "FailedCreate"]
    for event in sorted(told, key=lambda one: str(member(one, "lastTimestamp")), reverse=True)[:1]:
        message = str(member(event, "message") or "a pod could not be made")
        yield Refusal(words.named(message, words.FAILED_CREATE, Reason.UNKNOWN), message)
