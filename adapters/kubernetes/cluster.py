"""What a cluster is asked about itself.  Every function raises ``KubernetesError``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters.kubernetes import autoscaling, capacity, kueue, limit_ranges, names, node_groups, tenancy
from adapters.kubernetes.errors import Forbidden, NotThere
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    CLAIMS,
    DEVICE_CLASSES,
    LIMITS,
    NODES,
    PODS,
    QUOTAS,
    Resource,
)
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client


def nodes(client: Client, options: Options) -> list[capacity.Node]:
    return client.read(NODES.path(), partial(capacity.node, options=options))


def expected_nodes(client: Client, options: Options) -> list[capacity.Node]:
    """With those that an autoscaler may bring."""
    found = nodes(client, options)
    return [*found, *node_groups.absent(found, options)]


def namespaces(client: Client, options: Options) -> list[str] | None:
    """Those of ours that there are, and stay; ``None``: the broker may not ask."""
    found = []
    for name in names.all_namespaces(options):
        try:
            there = client.get(f"/api/v1/namespaces/{name}")
        except NotThere:
            continue
        except Forbidden:
            return None
        if not is_going(there):
            found.append(name)
    return found


def is_gone(client: Client, namespace: str) -> bool:
    """A namespace that is removed goes when all in it has gone.  The broker's rights in it go before, so what
    it may not read may be nothing any more."""
    try:
        client.get(f"/api/v1/namespaces/{namespace}")
    except NotThere:
        return True
    except Forbidden:
        return False
    return False


def is_going(namespace: Manifest) -> bool:
    """Nothing new can be made in it."""
    return bool(member(namespace, "status", "phase") == "Terminating")


def allowed(
    client: Client, options: Options, served: Mapping[str, Sequence[str]]
) -> dict[str, dict[str, Any]]:
    """What each namespace of ours allows, as far as the broker may read it."""
    found: dict[str, dict[str, Any]] = {}
    version = kueue.version(served.get(kueue.GROUP, ()))
    queues = [("queues", kueue.local_queues(version), tenancy.named)] if version is not None else []
    for namespace in names.all_namespaces(options):
        for part, resource, read in [*PARTS, *queues]:
            with suppress(Forbidden, NotThere):
                rows = client.items(resource.path(namespace))
                found.setdefault(namespace, {})[part] = read(rows)
    return found


def apis(client: Client) -> dict[str, list[str]]:
    """Group to the versions of it that are served: what is installed here, such as ``kueue.x-k8s.io``.
    Empty where the broker may not ask, which Kubernetes allows everybody who has credentials."""
    try:
        groups = rows(client.get("/apis").get("groups"))
    except Forbidden:
        return {}
    named = {str(one.get("name")): rows(one.get("versions")) for one in groups}
    return {name: [str(member(one, "version")) for one in versions] for name, versions in named.items()}


def not_served(client: Client, spec: JobSpec) -> list[Refusal]:
    """What an update would need and the cluster does not have now; a new job is placed by the inventory."""
    service = spec.service
    if service is None or service.scale_on is None:
        return []
    return list(autoscaling.not_served(service, apis(client)))


PARTS: tuple[tuple[str, Resource, Callable[[Sequence[Manifest]], list[Any]]], ...] = (
    ("quotas", QUOTAS, tenancy.quotas),
    ("limits", LIMITS, limit_ranges.read),
    ("claims", CLAIMS, tenancy.named),
)


def device_classes(client: Client, served: Mapping[str, Sequence[str]]) -> list[str] | None:
    """``None``: there is no DRA, or the broker may not ask."""
    group, _, version = DEVICE_CLASSES.group.partition("/")
    if version not in served.get(group, ()):
        return None
    try:
        return tenancy.named(client.items(DEVICE_CLASSES.path()))
    except (Forbidden, NotThere):
        return None


def pods(client: Client, options: Options) -> list[Manifest]:
    """Of everybody where the broker may see them, else of those of its own namespaces that it may read."""
    try:
        return client.items(PODS.path())
    except Forbidden:
        found: list[Manifest] = []
        for space in names.all_namespaces(options):
            with suppress(Forbidden):
                found += client.items(PODS.path(space))
        return found
