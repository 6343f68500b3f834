"""``broker backends check`` of what not every cluster has: queues, JobSets, devices that are claimed.

Every function raises ``KubernetesError``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from adapters.base import Finding
from adapters.kubernetes import cluster, extensions, kueue, names
from adapters.kubernetes.errors import Forbidden
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    CLAIM_TEMPLATES,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    JOB_SETS,
    JOBS,
    PODS,
    SCALED_OBJECTS,
    SERVICES,
    Resource,
)

if TYPE_CHECKING:
    from adapters.kubernetes.client import Client

WRITES = ("get", "list", "create", "patch", "delete")
Right = tuple[Resource, str, tuple[str, ...]]
"""To a kind, or a part of it, and its verbs."""


def rights(options: Options) -> tuple[Right, ...]:
    """That are needed beside the others, in each namespace."""
    found: list[Right] = []
    if options.queue or options.queues:
        version = kueue.VERSIONS[0]  # rights are to groups, whatever the version
        found += [
            (kueue.workloads(version), "", ("list", "patch")),
            (kueue.local_queues(version), "", ("list",)),
        ]
    if options.job_sets:
        found.append((JOB_SETS, "", WRITES))
    if options.device_class:
        found.append((CLAIM_TEMPLATES, "", WRITES))
    if options.prometheus is not None:
        found.append((SCALED_OBJECTS, "", WRITES))
    if options.watch:
        watched = (JOBS, DEPLOYMENTS, SERVICES, PODS, *([JOB_SETS] if options.job_sets else []))
        found += [(one, "", ("watch",)) for one in watched]
    return tuple(found)


def findings(client: Client, options: Options) -> Iterator[Finding]:
    served = cluster.apis(client)
    if options.queue or options.queues:
        yield from _queues(client, options, served)
    elif kueue.GROUP in served:
        yield _found("queues", True, "the cluster has Kueue; no option brings jobs into its queues")
    if options.job_sets:
        lacks = extensions.lacks(served, JOB_SETS.group)
        told = f"job_sets is on, and the cluster has {'no ' if lacks else ''}{JOB_SETS.group}"
        yield _found("job sets", not lacks, f"{told}: jobs on several nodes are refused" if lacks else told)
    if options.device_class:
        yield from _devices(client, options, served)


def _found(subject: str, well: bool, message: str) -> Finding:
    return Finding(subject=subject, well=well, message=message)


def _queues(client: Client, options: Options, served: extensions.Served) -> Iterator[Finding]:
    version = kueue.version(served.get(kueue.GROUP, ()))
    if version is None:
        message = "jobs go to queues, and the cluster has no Kueue that the broker knows: they are refused"
        yield _found("queues", False, message)
        return
    by_namespace: dict[str, set[str]] = {}
    if options.namespace and options.queue:
        by_namespace[options.namespace] = {options.queue}
    for project in {*options.queues, *options.namespaces}:
        queue = options.queues.get(project, options.queue)
        if (namespace := names.namespace_of(project, options)) and queue:
            by_namespace.setdefault(namespace, set()).add(queue)
    for namespace, wanted in sorted(by_namespace.items()):
        yield from _of_namespace(client, version, namespace, wanted)


def _of_namespace(client: Client, version: str, namespace: str, wanted: set[str]) -> Iterator[Finding]:
    try:
        found = client.items(kueue.local_queues(version).path(namespace))
    except Forbidden:
        yield _found("queues", False, f"the broker may not see the queues of {namespace}")
        return
    known = {str(names.member(one, "metadata", "name")) for one in found}
    for queue in sorted(wanted):
        told = f"{namespace} has {'the' if queue in known else 'no'} queue {queue} (Kueue {version})"
        yield _found("queues", queue in known, told if queue in known else f"{told}: its jobs are refused")


def _devices(client: Client, options: Options, served: extensions.Served) -> Iterator[Finding]:
    if extensions.lacks(served, DEVICE_CLASSES.group):
        lacks = f"device_class is set, and the cluster has no {DEVICE_CLASSES.group}"
        yield _found("devices", False, f"{lacks}: jobs with GPUs are refused")
        return
    known = cluster.device_classes(client, served)
    if known is None:
        yield _found("devices", False, "the broker may not see the DeviceClasses")
        return
    for wanted in sorted({str(options.device_class), *options.device_classes.values()}):
        told = f"there is {'the' if wanted in known else 'no'} DeviceClass {wanted}"
        yield _found("devices", wanted in known, told if wanted in known else f"{told}: its GPUs are refused")
