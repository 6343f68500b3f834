"""What a machine cannot honour of a specification, each with its code, sentence and field.  Pure.

The backend runs plain processes of one user: it has no containers, no second node, and no mounts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.base import Inventory
from adapters.local.slots import Slots, need_of, shortage
from api_spec.decisions import Refusal
from api_spec.jobs import Fabric, JobSpec
from api_spec.reasons import Reason

PLACEMENT_OPTIONS = frozenset({"grace_s"})


def refusals(spec: JobSpec, inventory: Inventory | None, backend: str = "") -> Sequence[Refusal]:
    return [
        *_container(spec),
        *_resources(spec),
        *_volumes(spec),
        *_service(spec),
        *_options(spec, backend),
        *(_size(spec, inventory) if inventory is not None else ()),
    ]


def _unsupported(message: str, field: str) -> Refusal:
    return Refusal(Reason.UNSUPPORTED, message, field)


def _container(spec: JobSpec) -> Iterator[Refusal]:
    if spec.image is not None:
        yield _unsupported("names a container image; this backend runs plain processes", "/image")
    elif not spec.command and spec.script is None:
        yield Refusal(Reason.INVALID_SPEC, "has neither a command nor a script", "/command")


def _resources(spec: JobSpec) -> Iterator[Refusal]:
    wanted = spec.resources
    if wanted.nodes > 1:
        yield Refusal(
            Reason.NEVER_FITS, f"asks for {wanted.nodes} nodes; this backend is 1 machine", "/resources/nodes"
        )
    if wanted.tasks_per_node > 1:
        yield _unsupported(
            f"asks for {wanted.tasks_per_node} tasks a node; this backend starts 1 process for a job",
            "/resources/tasks_per_node",
        )
    if wanted.mig_profile is not None:
        yield _unsupported(
            "asks for a slice of a GPU; this backend gives whole ones", "/resources/mig_profile"
        )
    if wanted.fabric is not Fabric.NONE:
        yield _unsupported(f"asks for the fabric {wanted.fabric}; 1 machine has none", "/resources/fabric")


def _volumes(spec: JobSpec) -> Iterator[Refusal]:
    for number, volume in enumerate(spec.volumes):
        field = f"/volumes/{number}"
        if not volume.source.startswith("/"):
            yield _unsupported(
                f"mounts {volume.source}; this backend has the paths of its machine only", f"{field}/source"
            )
        elif volume.source.rstrip("/") != volume.mount_path.rstrip("/"):
            yield _unsupported(
                f"mounts {volume.source} as {volume.mount_path}; plain processes see a path where it is",
                f"{field}/mount_path",
            )
        if volume.read_only:
            yield _unsupported(
                "mounts a volume read-only; nothing keeps a plain process from writing", f"{field}/read_only"
            )


def _service(spec: JobSpec) -> Iterator[Refusal]:
    if spec.service is None:
        return
    if spec.service.scale_on is not None:
        yield _unsupported("scales by a metric; this backend scales when it is told to", "/service/scale_on")
    if spec.service.metrics is not None:
        message = f"shows metrics on port {spec.service.metrics.port}; nobody here collects any"
        yield _unsupported(message, "/service/metrics")
    if spec.service.health.live_path is not None:
        message = "is asked whether it lives; this backend starts a replica again when its process has ended"
        yield _unsupported(message, "/service/health/live_path")


def _options(spec: JobSpec, backend: str) -> Iterator[Refusal]:
    sources = (
        ("/placement/local", spec.placement.local),
        (f"/placement/options/{backend}", spec.placement.options.get(backend, {})),
    )
    for pointer, options in sources:
        for name in sorted(set(options) - PLACEMENT_OPTIONS):
            yield _unsupported(
                f"sets the option {name}, which this backend does not have", f"{pointer}/{name}"
            )
        grace = options.get("grace_s", 0)
        if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace <= 86400:
            yield Refusal(
                Reason.INVALID_SPEC,
                f"grace_s is {grace!r} and not a number of seconds up to a day",
                f"{pointer}/grace_s",
            )


def _size(spec: JobSpec, inventory: Inventory) -> Iterator[Refusal]:
    wanted = spec.resources
    for shape in inventory.shapes:
        whole = Slots(shape.cpus, shape.memory_mib, tuple(range(shape.gpus)))
        yield from shortage(need_of(wanted), whole, Reason.NEVER_FITS, "the machine has")
        if wanted.gpu_type is not None and wanted.gpu_type != shape.gpu_type:
            has = (
                f"has {shape.gpu_type}"
                if shape.gpu_type
                else "does not say which it has"
                if shape.gpus
                else "has none"
            )
            yield Refusal(
                Reason.NEVER_FITS,
                f"asks for GPUs of type {wanted.gpu_type}; the machine {has}",
                "/resources/gpu_type",
            )
