"""What a cluster cannot honour of a specification, each with its code, sentence and field.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.base import Inventory
from adapters.kubernetes import (
    autoscaling,
    canary,
    devices,
    environment,
    fits,
    names,
    native,
    topology,
    volumes,
)
from adapters.kubernetes.options import Options
from api_spec.decisions import Refusal
from api_spec.jobs import Array, Fabric, JobSpec, Priority
from api_spec.reasons import Reason

LONGEST_SCRIPT = 128 * 1024
LONGEST_TABLE = 112 * 1024
"""They travel in annotations, of which all together may have 256 KiB."""


def refusals(spec: JobSpec, inventory: Inventory | None, options: Options, backend: str) -> Sequence[Refusal]:
    return [
        *_container(spec),
        *_names(spec),
        *_resources(spec, options),
        *_priority(spec, options, backend),
        *devices.refusals(spec, options),
        *_groups(spec),
        *_volumes(spec, options),
        *_service(spec, options),
        *_tenancy(spec, options),
        *_native(spec, inventory, options, backend),
        *(fits.refusals(spec, inventory, options, backend) if inventory is not None else ()),
    ]


def _unsupported(message: str, field: str) -> Refusal:
    return Refusal(Reason.UNSUPPORTED, message, field)


def _container(spec: JobSpec) -> Iterator[Refusal]:
    if spec.image is None:
        yield _unsupported("names no container image; this backend runs containers", "/image")
    if spec.script is not None and len(spec.script.encode()) > LONGEST_SCRIPT:
        size = len(spec.script.encode()) >> 10
        yield _unsupported(
            f"has a script of {size} KiB; this backend carries {LONGEST_SCRIPT >> 10}", "/script"
        )


def _names(spec: JobSpec) -> Iterator[Refusal]:
    for field, variables in (("environment", spec.environment), ("secrets", spec.secrets)):
        for name in variables:
            if not environment.NAME.fullmatch(name) or environment.RESERVED.fullmatch(name):
                message = f"sets {name}, which the broker, Kubernetes or the container runtime says itself"
                yield _unsupported(message, f"/{field}/{name}")
    for variable, secret in spec.secrets.items():
        if not volumes.NAME.fullmatch(secret.name):
            message = f"takes {variable} from {secret.name}, which cannot be the name of a Secret"
            yield _unsupported(message, f"/secrets/{variable}/name")


def _resources(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    wanted = spec.resources
    if wanted.tasks_per_node > 1:
        message = f"asks for {wanted.tasks_per_node} tasks a node; this backend starts 1 process in a pod"
        yield _unsupported(message, "/resources/tasks_per_node")
    if wanted.fabric is not Fabric.NONE and wanted.fabric.value not in options.fabrics:
        message = f"asks for the fabric {wanted.fabric}; this backend has no table for it in its fabrics"
        yield _unsupported(message, "/resources/fabric")


def _priority(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    """A queue may know priorities that the nodes do not."""
    if spec.priority is Priority.NORMAL or spec.priority.value in options.priorities:
        return
    readable = not list(native.refusals(spec, backend))
    in_a_queue = readable and native.chosen(spec, options, backend).queue is not None
    if not (in_a_queue and spec.priority.value in options.queue_priorities):
        message = (
            f"has the priority {spec.priority}; this backend has no PriorityClass for it in its priorities"
        )
        yield _unsupported(message, "/priority")


def _groups(spec: JobSpec) -> Iterator[Refusal]:
    if spec.array and spec.resources.nodes > 1:
        yield _unsupported("is an array of jobs on several nodes; a Job has one index", "/resources/nodes")
    if spec.is_service and spec.resources.nodes > 1:
        yield _unsupported("is a service on several nodes; a replica is one pod", "/resources/nodes")
    if spec.array:
        yield from _looked_up(spec, spec.array)


def _looked_up(spec: JobSpec, array: Array) -> Iterator[Refusal]:
    """By a shell, which a table tells what each task is."""
    if not spec.command and spec.script is None and (why := _why_a_shell(spec, array)):
        message = f"{why} and no command; what a task is, is told by a shell, which must know the command"
        yield _unsupported(message, "/command")
    if array.parameters:
        size = len(environment.of_tasks(array, array.task_indices).encode())
        if size > LONGEST_TABLE:
            has = f"has {len(array.parameters)} tasks, whose parameters are {size >> 10} KiB"
            yield _unsupported(f"{has}; this backend carries {LONGEST_TABLE >> 10}", "/array/parameters")


def _why_a_shell(spec: JobSpec, array: Array) -> str | None:
    """Kubernetes counts from 0, and of tasks that are tried again, too."""
    if array.parameters:
        return "has parameters"
    if array.task_indices != tuple(range(len(array.task_indices))):
        return "has tasks that are not counted from 0"
    return "has tasks that may be tried again" if spec.retry.max_attempts > 1 else None


def _volumes(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    for number, volume in enumerate(spec.volumes):
        try:
            volumes.source_of(volume)
        except volumes.CannotMount as error:
            yield _unsupported(str(error), f"/volumes/{number}/source")
        path = volume.mount_path.rstrip("/") or "/"
        if path == "/" or any(path == own or path.startswith(f"{own}/") for own in volumes.OWN):
            message = f"mounts something at {volume.mount_path}, which is the broker's"
            yield _unsupported(message, f"/volumes/{number}/mount_path")
    if spec.outputs and options.outputs_claim is None:
        message = "has outputs; this backend keeps none (option outputs_claim)"
        yield _unsupported(message, "/outputs")


def _service(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    if spec.service is None:
        return
    yield from autoscaling.refusals(spec.service, options)
    if spec.time_limit_s is not None:
        yield _unsupported("is a service with a time limit; it runs until it is cancelled", "/time_limit")


def _native(spec: JobSpec, inventory: Inventory | None, options: Options, backend: str) -> Iterator[Refusal]:
    """What cannot be read cannot be looked at either."""
    if unread := list(native.refusals(spec, backend)):
        yield from unread
        return
    yield from topology.refusals(spec, options, backend)
    yield from canary.refusals(spec, inventory, options, backend)


def _tenancy(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    if names.namespace_of(spec.project or "", options) is None:
        message = f"belongs to the project {spec.project}, which has no namespace here"
        yield Refusal(Reason.NOT_ALLOWED, message, "/project")
