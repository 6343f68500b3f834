"""What a user submits: one specification, frozen.

Units are name suffixes here (``_mib``, ``_s``); on the wire they are written as people write them and are
parsed by ``api_spec.schemas``.  A ``None`` means "the user did not say", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from api_spec.frozen import quick


class Kind(StrEnum):
    TRAINING = "training"
    BATCH = "batch"
    INFERENCE = "inference"


class Priority(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


class Fabric(StrEnum):
    NONE = "none"
    RDMA = "rdma"
    GPUDIRECT = "gpudirect"


class Preset(StrEnum):
    """Inference servers whose habits are known; what each means is ``api_spec.presets``'."""

    VLLM = "vllm"
    TRITON = "triton"
    KSERVE = "kserve"  # every server of the Open Inference Protocol
    HTTP = "http"


class Measured(StrEnum):
    """Where the metric of an autoscaler comes from."""

    REPLICAS = "replicas"  # each replica has its own value, and the target is their average
    EXTERNAL = (
        "external"  # one value for all, such as the length of a queue; the target is each replica's share
    )


class When(StrEnum):
    """What has to happen to a predecessor before the dependant may start."""

    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ENDED = "ended"
    READY = "ready"  # an inference job with a ready replica


@dataclass(frozen=True, kw_only=True)
class Resources:
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    memory_per_node_mib: int | None = None
    gpus_per_node: int = 0
    gpu_type: str | None = None
    mig_profile: str | None = None
    fabric: Fabric = Fabric.NONE

    @property
    def cpus_per_node(self) -> int:
        return self.tasks_per_node * self.cpus_per_task


@dataclass(frozen=True, kw_only=True)
class Array:
    """Many tasks of one job: either indices, or one task for each set of parameters (indices from 0)."""

    indices: str | None = None  # "0-99:2" in canonical form
    parameters: tuple[Mapping[str, Any], ...] = ()
    max_running: int | None = None

    @property
    def task_indices(self) -> tuple[int, ...]:
        from api_spec.quantities import expand_indices

        if self.indices is None:
            return tuple(range(len(self.parameters)))
        return expand_indices(self.indices)


@dataclass(frozen=True, kw_only=True)
class Dependency:
    """``name`` means a job of the same submission; once accepted it is replaced by the id in ``job``."""

    job: str | None = None
    name: str | None = None
    when: When = When.SUCCEEDED


@dataclass(frozen=True, kw_only=True)
class Retry:
    """``on`` holds reasons; an attempt that ended for one of them is followed by another attempt."""

    max_attempts: int = 1
    on: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SecretRef:
    name: str
    key: str


@dataclass(frozen=True, kw_only=True)
class Volume:
    source: str
    mount_path: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class OutputOf:
    """An output of another job: an id, or the name of a job in the same submission."""

    job: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Input:
    """Either ``uri`` or ``from_output``; the broker resolves the latter before it submits."""

    name: str
    uri: str | None = None
    from_output: OutputOf | None = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """A relative ``path`` is below ``BROKER_OUTPUT_DIR``."""

    name: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Replicas:
    min: int = 1
    max: int = 1


@dataclass(frozen=True, kw_only=True)
class ScaleOn:
    metric: str
    target: float
    measured: Measured = Measured.REPLICAS
    selector: tuple[tuple[str, str], ...] = ()  # labels of the series, of an external metric, sorted


@dataclass(frozen=True, kw_only=True)
class Health:
    """``path``: it can be called.  ``live_path``: it has not to be started again; None: the same."""

    path: str = "/health"
    live_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Where each replica shows its own, in Prometheus' format."""

    port: int
    path: str = "/metrics"


@dataclass(frozen=True, kw_only=True)
class Model:
    uri: str


@dataclass(frozen=True, kw_only=True)
class Service:
    """How an inference job is reached.  ``replicas.min`` run unless ``scale_on`` asks for more."""

    port: int
    replicas: Replicas = field(default_factory=Replicas)
    scale_on: ScaleOn | None = None
    health: Health = field(default_factory=Health)
    model: Model | None = None
    preset: Preset | None = None  # what it fills is filled in already
    metrics: Metrics | None = None


@dataclass(frozen=True, kw_only=True)
class Placement:
    """What the user says of the place: allowed backends, options by type and by backend name."""

    backends: tuple[str, ...] = ()
    slurm: Mapping[str, Any] = field(default_factory=dict)
    kubernetes: Mapping[str, Any] = field(default_factory=dict)
    local: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@quick
@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """One job as submitted.  Exactly one of ``command`` and ``script`` is set, or neither with an image."""

    kind: Kind
    name: str
    project: str | None = None  # None: the project of the token that submits
    image: str | None = None
    command: tuple[str, ...] = ()
    script: str | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    working_directory: str | None = None
    resources: Resources = field(default_factory=Resources)
    time_limit_s: int | None = None
    priority: Priority = Priority.NORMAL
    preemptible: bool = False
    array: Array | None = None
    depends_on: tuple[Dependency, ...] = ()
    retry: Retry = field(default_factory=Retry)
    volumes: tuple[Volume, ...] = ()
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    hold: bool = False
    service: Service | None = None  # inference only, and always there

    @property
    def is_service(self) -> bool:
        return self.kind is Kind.INFERENCE
