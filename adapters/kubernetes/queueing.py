"""Kueue's Workloads on a cluster, read and switched.  Every method raises ``KubernetesError``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from adapters.kubernetes import kueue
from adapters.kubernetes.errors import Conflict, Forbidden, NotThere
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.resources import Resource

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client


class Workloads:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: Resource | None = None

    def of(self, namespace: str) -> Mapping[str, Manifest]:
        """By the uid of whose they are; empty where there is no Kueue, or the broker may not see them."""
        resource = self._resource()
        if resource is None:
            return {}
        try:
            return kueue.by_owner(self._client.items(resource.path(namespace)))
        except NotThere:  # another version by now, or none
            self._known = None
            return {}
        except Forbidden:
            return {}

    def switch(self, namespace: str, workload: Manifest | None, active: bool) -> None:
        """What is so, or gone, stays so."""
        resource = self._resource()
        if workload is None or resource is None or kueue.is_active(workload) is active:
            return
        metadata = {"uid": member(workload, "metadata", "uid")}
        name = str(member(workload, "metadata", "name"))
        with suppress(NotThere, Conflict):
            self._client.merge(
                resource.path(namespace, name), {"metadata": metadata, "spec": {"active": active}}
            )

    def _resource(self) -> Resource | None:
        """Asked once for all, and again only where there was none."""
        if self._known is None:
            try:
                served = rows(self._client.get(f"/apis/{kueue.GROUP}").get("versions"))
            except (NotThere, Forbidden):
                return None
            version = kueue.version([str(one.get("version")) for one in served])
            self._known = kueue.workloads(version) if version is not None else None
        return self._known
