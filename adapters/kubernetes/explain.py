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
        reason, message = observations.waits_for(bundle)
        yield Refusal(reason, message or "the job is held")
        return
    if (refused := words.refused_pod(events)) is not None:
        yield Refusal(*refused)
    for pod in bundle.pods:
        if pod.live and not pod.has_started:
            reason, message = observations.why_pod_waits(pod)
            yield Refusal(reason, message or "a pod is being started")
    if kind == Kind.INFERENCE.value:
        reason, message = serving.shortfall(bundle)
        yield Refusal(reason, message or "a replica is being started")
    elif not bundle.pods:
        yield Refusal(Reason.STARTING, "its pods have not been made yet")
