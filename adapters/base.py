"""The contract between the broker and a place where jobs run; what its calls raise is in ``errors``.

To add a backend type: one folder here, one row in ``broker/wiring.py``, one parameter in ``tests/contract``.
Adapters know neither each other nor the policies.  Times are seconds since the epoch on the backend's clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec, When
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

Handle = Mapping[str, Any]
"""What the backend calls an attempt: opaque JSON to everybody but its adapter."""


# ---- what goes in ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AttemptRef:
    """One attempt: the marker is its name everywhere, the handle the backend's own (None: not yet known).

    Backend ids are reused, so an adapter verifies the marker behind the handle before it writes.  The
    fields below the handle are carried by the backend's object, so that the broker's state can be rebuilt.
    """

    marker: str
    handle: Handle | None = None
    submitted_at: float | None = None  # on the broker's clock, written before the first call
    job_id: str = ""
    number: int = 1
    project: str = ""
    owner: str = ""
    kind: str = ""
    name: str = ""
    digest: str = ""  # of the canonical spec
    task_indices: tuple[int, ...] = ()  # array jobs: the tasks this attempt runs
    revision: int = 1
    replicas: int | None = None  # services: how many are wanted now
    after: tuple[Predecessor, ...] = ()  # NATIVE_DEPENDENCY: the backend starts it only after all of these


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """An attempt at the same backend that is to have ``SUCCEEDED`` or ``ENDED`` before another one starts."""

    ref: AttemptRef
    when: When


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    stream: str = "stdout"  # or stderr
    task_index: int | None = None
    replica: int | None = None
    node: int | None = None  # its rank, of a job on several
    cursor: str | None = None  # None: from the start; otherwise a cursor of an earlier page
    tail_bytes: int | None = None  # with no cursor: only the last bytes
    limit_bytes: int = 65536


# ---- what comes back ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TaskObservation:
    """One element of an array job; words and fields as in ``Observation``."""

    state: AttemptState
    outcome: JobState | None = None
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceObservation:
    endpoint: str | None = None
    wanted: int = 0
    updated: int = 0  # replicas of the newest revision
    ready: int = 0
    revision: int = 1
    message: str | None = None  # why ready differs from wanted, or what is wanted is left as it is


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a backend said about one attempt.  ``state`` None: a word we do not know; it moves nothing.  With
    the reason BACKEND_DOWN the backend does not let the broker see this one."""

    marker: str
    state: AttemptState | None  # QUEUED, RUNNING or ENDED
    outcome: JobState | None = None  # when ENDED: COMPLETED, FAILED or CANCELLED
    reason: Reason | None = None
    message: str | None = None
    native_state: str = ""
    native_reason: str | None = None
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    nodes: tuple[str, ...] = ()
    handle: Handle | None = None
    service: ServiceObservation | None = None
    tasks: Mapping[int, TaskObservation] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)  # name of an output -> its URI; once ENDED
    unfinished: bool = False  # what belongs to it is not all made yet: ``extras.Completes`` makes it
    logs_leave: bool = False  # some of its logs are about to go with what wrote them


@dataclass(frozen=True, kw_only=True)
class Observations:
    """One pass.  Only in a ``complete`` one is what it does not show absent, and absent is not FAILED."""

    as_of: float
    complete: bool
    found: Mapping[str, Observation] = field(default_factory=dict)  # by marker


@dataclass(frozen=True)
class Found:
    handle: Handle


@dataclass(frozen=True)
class Absent:
    """Proven: the look-up was complete and the settle time of the backend is over."""


@dataclass(frozen=True)
class Unsettled:
    """Not seen, but a request may still be on its way; ask again then."""

    until: float


@dataclass(frozen=True, kw_only=True)
class Ours:
    """An object at the backend that carries our marker, with what it can tell of its job."""

    ref: AttemptRef
    observation: Observation
    spec: JobSpec | None = None


@dataclass(frozen=True, kw_only=True)
class NodeShape:
    """``count`` nodes that are alike."""

    name: str
    count: int
    cpus: int
    memory_mib: int
    gpus: int = 0
    gpu_type: str | None = None  # as the backend calls it; None: unknown, or there are several
    gpus_by_type: Mapping[str, int] = field(default_factory=dict)  # by all names that a job may use for one
    slices: Mapping[str, int] = field(default_factory=dict)  # by MIG profile, beside the whole GPUs
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What a backend has; changes rarely.  ``limits`` are scalars by name, such as ``time_limit_s``;
    ``details`` is JSON of the adapter's own, for its ``refusals``."""

    as_of: float
    shapes: tuple[NodeShape, ...] = ()
    features: frozenset[str] = frozenset()
    limits: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShapeLoad:
    name: str  # of the shape
    free_nodes: int
    free_cpus: int
    free_memory_mib: int
    free_gpus: int = 0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is free and queued now, for each shape, with its age."""

    as_of: float
    shapes: tuple[ShapeLoad, ...] = ()
    queued_count: int = 0
    running_count: int = 0


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """``cursor`` continues after ``data``.  ``at_end``: all there is now; ``complete``: no more will come."""

    data: bytes
    cursor: str
    at_end: bool
    complete: bool
    note: str | None = None  # what a reader should know: the file was rotated, truncated, is gone


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of ``check``: what was looked at, whether it is well, and a sentence."""

    subject: str
    well: bool
    message: str


class Capability(StrEnum):
    LOGS = "logs"
    EXPLAIN = "explain_pending"
    UPDATE = "update"
    ADJUST = "adjust"
    HOLD = "hold"
    WATCH = "watch"
    USAGE = "usage"
    NATIVE_DEPENDENCY = "native_dependency"
    ARRAYS = "arrays"
    CANCEL_TASKS = "cancel_tasks"
    SERVICES = "services"


# ---- the contract ------------------------------------------------------------------------------------


class Adapter(Protocol):
    """Every method that calls may raise ``Busy`` (it did not act); those that write, ``OutcomeUnknown``.

    Every call has its own time-out and is safe from several threads and processes at once.
    """

    type: ClassVar[str]
    name: str
    capabilities: frozenset[Capability]

    def refusals(self, spec: JobSpec, inventory: Inventory | None, owner: str = "") -> Sequence[Refusal]:
        """What this backend cannot honour for ``owner``.  Pure; with no inventory only what holds for any."""

    def render(self, spec: JobSpec, ref: AttemptRef) -> str:
        """Pure: the exact script or manifest that ``submit`` sends."""

    def submit(self, ref: AttemptRef, spec: JobSpec) -> Handle:
        """Hand the attempt over.  Raises ``Rejected`` when this backend will never take it.

        Idempotent by ``ref.marker`` where the backend has unique names; elsewhere the caller looks the
        marker up (``find``) before it calls again.  With ``ref.after`` it raises ``CannotWait`` unless each
        is there, live and what its handle says; what can never start then ends CANCELLED, DependencyFailed.
        """

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        """Was it accepted?  ``since``: when the attempt was first submitted, on the broker's clock."""

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        """One round trip for all.  What a complete pass does not show is absent, not FAILED."""

    def list_ours(self, since: float) -> Sequence[Ours]:
        """Everything with a marker of this instance, ended ones included as far back as is known."""

    def cancel(self, ref: AttemptRef) -> None:
        """Ask for its end.  Cancelling twice, or what has ended or is absent, does nothing."""

    def cleanup(self, ref: AttemptRef) -> None:
        """The record of an ended attempt is no longer needed; repeated calls do nothing."""

    def inventory(self) -> Inventory: ...

    def load(self) -> Load: ...

    def check(self) -> Sequence[Finding]: ...


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """One configured backend as an adapter's constructor gets it; ``options`` are the adapter's own."""

    name: str
    type: str
    instance: str  # of the broker: part of every marker
    data_dir: str  # a directory that the adapter may use on this machine
    options: Mapping[str, Any] = field(default_factory=dict)
