"""What pods use now, where the cluster serves ``metrics.k8s.io``: over the last half minute or so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from adapters.base import AttemptRef
from adapters.kubernetes import names
from adapters.kubernetes.capacity import quantity
from adapters.kubernetes.errors import Forbidden, NotThere
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.resources import METRICS
from api_spec.usage import RunUsage

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

MIB = 1024.0**2


def of(client: Client, instance: str, refs: Collection[AttemptRef]) -> dict[str, RunUsage]:
    """By marker, all pods of an attempt together.  Empty where nobody measures, or the broker may not see it.

    Raises ``KubernetesError``."""
    found: dict[str, list[Manifest]] = defaultdict(list)
    for namespace in sorted({str((ref.handle or {}).get("namespace", "")) for ref in refs} - {""}):
        with suppress(NotThere, Forbidden):
            for one in client.items(METRICS.path(namespace), {"labelSelector": names.selector(instance)}):
                found[str(member(one, "metadata", "labels", names.MARKER))].append(one)
    wanted = {ref.marker for ref in refs}
    return {marker: usage(pods) for marker, pods in found.items() if marker in wanted}


def usage(pods: Collection[Manifest]) -> RunUsage:
    """Pure.  Injected containers count: they run on the job's account."""
    used = [member(one, "usage") for pod in pods for one in rows(pod.get("containers"))]
    return RunUsage(
        peak_cpus=sum(quantity(member(one, "cpu")) for one in used),
        peak_memory_mib=sum(quantity(member(one, "memory")) for one in used) / MIB,
    )
