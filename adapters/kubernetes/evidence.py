"""What only events tell of an attempt: why its pods cannot be made, and who took one that is gone."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.kubernetes import job_sets, observations, records
from adapters.kubernetes.errors import Forbidden
from adapters.kubernetes.names import Manifest, member
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.resources import EVENTS

if TYPE_CHECKING:
    from adapters.kubernetes.attempts import Root, Seen
    from adapters.kubernetes.client import Client

UNUSUAL_S = 2.0


def added(client: Client, namespace: str, found: Seen) -> Seen:
    """Events are read, once for all, only where some attempt lacks what nothing else tells."""
    out = dict(found)
    for reason, wants in EVIDENCE.items():
        lacking = {marker for marker, (root, bundle) in found.items() if wants(root, bundle)}
        events = _events(client, namespace, reason) if lacking else {}
        for marker in lacking & set(events):
            root, bundle = out[marker]
            out[marker] = root, replace(bundle, events=events[marker])
    return out


def is_wanted(root: Root, bundle: Bundle) -> bool:
    return any(wants(root, bundle) for wants in EVIDENCE.values())


def is_new(root: Root) -> bool:
    """The controller may still be making its pods."""
    created = records.moment(member(root.object, "metadata", "creationTimestamp")) or 0.0
    return time.time() - created <= UNUSUAL_S


def _events(client: Client, namespace: str, reason: str) -> dict[str, list[Manifest]]:
    """By marker: what they are about has it for a name, or its name begins with it."""
    found: dict[str, list[Manifest]] = defaultdict(list)
    with suppress(Forbidden):
        for one in client.items(EVENTS.path(namespace), {"fieldSelector": f"reason={reason}"}):
            about = str(member(one, "involvedObject", "name"))
            of_a_pod = member(one, "involvedObject", "kind") == "Pod"
            named = about.rsplit("-", 2)[0] if of_a_pod else about
            found[job_sets.marker_of(named)].append(one)
    return found


def _lacks_pods(root: Root, bundle: Bundle) -> bool:
    """For longer than the controller needs to make them."""
    return not root.is_service and not is_new(root) and observations.lacks_pods(bundle)


def _lost_its_pod(root: Root, bundle: Bundle) -> bool:
    return not root.is_service and observations.lost_its_pod(bundle)


EVIDENCE: Mapping[str, Callable[[Root, Bundle], bool]] = {
    "FailedCreate": _lacks_pods,
    "Preempted": _lost_its_pod,
}
"""Reasons of events, and which attempts want them."""
