"""What a job asks of APIs that not every cluster has, Kueue, JobSet, DRA: does this one have them?  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from adapters.base import Inventory
from adapters.kubernetes import devices, job_sets, kueue, names, native
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import DEVICE_CLASSES, JOB_SETS
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

Served = Mapping[str, Sequence[str]]
"""Group to the versions of it that the cluster serves; empty: nobody may tell."""


def lacks(served: Served, group_and_version: str) -> bool:
    """Certainly: of what nobody may tell the cluster may have it."""
    group, _, version = group_and_version.partition("/")
    return bool(served) and version not in served.get(group, ())


def lacks_kueue(served: Served) -> bool:
    return bool(served) and kueue.version(served.get(kueue.GROUP, ())) is None


def refusals(spec: JobSpec, inventory: Inventory, options: Options, backend: str) -> Iterator[Refusal]:
    """Of a job whose native options can be read."""
    yield from _queue(spec, inventory, options, native.chosen(spec, options, backend).queue)
    served = inventory.details.get("apis", {})
    if job_sets.wanted(spec, options) and lacks(served, JOB_SETS.group):
        message = (
            f"runs on several nodes, as a JobSet here (option job_sets); the cluster has no {JOB_SETS.group}"
        )
        yield Refusal(Reason.UNSUPPORTED, message, "/resources/nodes")
    if devices.are_claimed(spec, options):
        yield from _devices(spec, inventory, options, served)


def _queue(spec: JobSpec, inventory: Inventory, options: Options, queue: str | None) -> Iterator[Refusal]:
    if queue is None:
        return
    field = "/placement/kubernetes/queue"
    if lacks_kueue(inventory.details.get("apis", {})):
        message = f"goes to the queue {queue}; the cluster has no {kueue.GROUP}/{kueue.VERSIONS[0]}"
        yield Refusal(Reason.UNSUPPORTED, message, field)
        return
    namespace = names.namespace_of(spec.project or "", options)
    known = inventory.details.get("tenancy", {}).get(namespace, {}).get("queues")
    if known is not None and queue not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        message = f"goes to the queue {queue}, which {namespace} does not have; {has}"
        yield Refusal(Reason.UNSUPPORTED, message, field)


def _devices(spec: JobSpec, inventory: Inventory, options: Options, served: Served) -> Iterator[Refusal]:
    if lacks(served, DEVICE_CLASSES.group):
        message = f"claims GPUs as devices (option device_class); the cluster has no {DEVICE_CLASSES.group}"
        yield Refusal(Reason.UNSUPPORTED, message, "/resources/gpus_per_node")
        return
    wanted, known = devices.class_of(spec, options), inventory.details.get("device_classes")
    if known is not None and wanted not in known:
        has = f"it has {', '.join(known)}" if known else "it has none"
        message = f"claims GPUs of the DeviceClass {wanted}, which the cluster does not have; {has}"
        yield Refusal(Reason.UNSUPPORTED, message, "/resources/gpus_per_node")
