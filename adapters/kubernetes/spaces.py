"""Many attempts, namespace by namespace: one that the broker may not read hides no attempt of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from adapters.base import AttemptRef
from adapters.kubernetes import cluster, names, records
from adapters.kubernetes.attempts import Attempts, Root
from adapters.kubernetes.belongings import Belonging
from adapters.kubernetes.client import Client
from adapters.kubernetes.errors import Forbidden
from adapters.kubernetes.observations import Bundle
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import PODS


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one pass has shown."""

    seen: dict[str, tuple[Root, Bundle]] = field(default_factory=dict)
    belongings: dict[str, list[Belonging]] = field(default_factory=dict)
    hidden: dict[str, str] = field(default_factory=dict)
    """Attempts that may be where the broker may not look, and what it was told there."""


def look(client: Client, attempts: Attempts, refs: Collection[AttemptRef], options: Options) -> Look:
    """Raises ``KubernetesError``; ``Forbidden`` only when no namespace of the broker's is left to read."""
    looked, hidden = Look(), dict[str, str]()
    forbidden: dict[str, Forbidden] = {}
    for namespace, some in _by_namespace(refs, options).items():
        try:
            seen = attempts.seen(namespace, some)
            has_services = any(root.is_service for root, _ in seen.values())
            looked.belongings.update(attempts.belongings(namespace) if has_services else {})
            looked.seen.update(seen)
        except Forbidden as error:
            if cluster.is_gone(client, namespace):
                continue
            forbidden[namespace] = error
            hidden |= {ref.marker: str(error) for ref in some}
    if forbidden and forbidden.keys() >= _known(refs, options):
        raise next(iter(forbidden.values()))
    looked.hidden.update({marker: why for marker, why in hidden.items() if marker not in looked.seen})
    return looked


def _by_namespace(refs: Collection[AttemptRef], options: Options) -> Mapping[str, list[AttemptRef]]:
    """Where it was made, also after the namespace has left the options; without a handle it may be in any."""
    found: dict[str, list[AttemptRef]] = defaultdict(list)
    for ref in refs:
        own = of_handle(ref)
        for space in [own] if own else names.all_namespaces(options):
            found[space].append(ref)
    return found


def _known(refs: Collection[AttemptRef], options: Options) -> set[str]:
    return {*names.all_namespaces(options), *filter(None, map(of_handle, refs))}


def of_handle(ref: AttemptRef) -> str | None:
    found = (ref.handle or {}).get("namespace")
    return str(found) if found else None


def is_running_on(client: Client, options: Options, marker: str, namespace: str | None) -> bool:
    """Pods outlast a Job that somebody has deleted: for their time of grace, or for ever as orphans.

    Raises ``KubernetesError``."""
    spaces = [namespace] if namespace else names.all_namespaces(options)
    return any(_has_live_pods(client, space, marker) for space in spaces)


def _has_live_pods(client: Client, namespace: str, marker: str) -> bool:
    chosen = {"labelSelector": f"{names.MARKER}={marker}"}
    try:
        return any(pod.live for pod in client.read(PODS.path(namespace), records.pod, chosen))
    except Forbidden:
        if cluster.is_gone(client, namespace):
            return False
        raise
