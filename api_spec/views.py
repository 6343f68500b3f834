"""What is read back: jobs, attempts, tasks, events and backends as the API shows them.

Times are seconds since the epoch, UTC, on the clock of Redis unless a field says otherwise; on the wire
they are RFC 3339.  ``None`` means "not known" or "not yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from api_spec.decisions import Decision
from api_spec.frozen import quick
from api_spec.jobs import JobSpec, Kind
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from api_spec.usage import RunUsage

T = TypeVar("T")


OLDEST, LATEST = "oldest", "latest"  # where a reader of events begins, beside an event's id


@dataclass(frozen=True, kw_only=True)
class ServiceView:
    endpoint: str | None
    wanted: int
    updated: int
    ready: int
    revision: int
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class AttemptView:
    number: int
    marker: str
    backend: str
    state: AttemptState
    outcome: JobState | None = None
    reason: Reason | None = None
    message: str | None = None
    native_id: str | None = None
    native_state: str | None = None
    native_reason: str | None = None
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    submitted_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    nodes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)  # name -> URI for this attempt: the lineage
    outputs: Mapping[str, str] = field(default_factory=dict)
    task_indices: str | None = None


@dataclass(frozen=True, kw_only=True)
class UsageView(RunUsage):
    attempt: int
    backend: str


@dataclass(frozen=True, kw_only=True)
class JobSummary:
    """A row of a list."""

    id: str
    kind: Kind
    name: str
    project: str
    owner: str
    state: JobState
    reason: Reason | None
    backend: str | None
    labels: Mapping[str, str]
    created_at: float
    ended_at: float | None
    message: str | None = None
    service: ServiceView | None = None


@quick
@dataclass(frozen=True, kw_only=True)
class JobView:
    """One job, whole.  ``version`` rises with every change and is the ETag."""

    id: str
    version: int
    spec: JobSpec
    project: str
    owner: str
    submitter: str
    state: JobState
    reason: Reason | None
    message: str | None
    backend: str | None
    attempt: int  # 0: none yet
    created_at: float
    updated_at: float
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    ended_by: str | None = None  # who or what caused the end: "user:ana", "backend:hpc", "broker"
    cancel_requested: bool = False
    held: bool = False
    revision: int = 1
    replicas_wanted: int | None = None
    service: ServiceView | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)  # array jobs: how many tasks are in each state
    observed_at: float | None = None
    backend_reachable: bool | None = None
    recovered: bool = False
    resubmit_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskView:
    index: int
    state: JobState
    attempt: int
    reason: Reason | None = None
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    cancel_requested: bool = False  # and it is not over yet
    cancelled_by: str | None = None  # who asked the broker for its end; None: nobody did


@dataclass(frozen=True, kw_only=True)
class TaskCancel:
    """What became of a cancel of single tasks; index lists, None for no task."""

    job: JobView
    requested: str | None  # they end, or never run
    ended_before: str | None  # nothing was done to them


@dataclass(frozen=True, kw_only=True)
class EventView:
    """``id`` is ``<incarnation>-<sequence>``; the sequence is dense within a project and incarnation."""

    id: str
    at: float
    type: str  # accepted, submitting, queued, running, completed, failed, cancelled, held, released, ...
    job: str | None
    data: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What the broker asks of one backend at most, over all workers."""

    max_drains: int  # at the same time
    max_submits_per_s: float
    max_live_jobs: int


@dataclass(frozen=True, kw_only=True)
class BackendView:
    name: str
    type: str
    reachable: bool | None  # None: not looked at yet
    message: str | None
    drained: bool
    paused: bool
    configured: bool
    capabilities: tuple[str, ...]
    seen_at: float | None  # last complete pass
    live_jobs: int
    caps: Caps | None = None  # None: it left the configuration
    inventory: Mapping[str, Any] | None = None
    load: Mapping[str, Any] | None = None
    watched: bool | None = None  # None: it has no watch


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page may be short, even empty: ``next`` alone says that there is more."""

    items: tuple[T, ...]
    next: str | None = None


@dataclass(frozen=True, kw_only=True)
class JobQuery:
    """All that is set must hold.  ``created_after`` and ``created_before`` in seconds since the epoch."""

    project: str
    state: tuple[JobState, ...] = ()
    kind: Kind | None = None
    backend: str | None = None
    owner: str | None = None
    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: float | None = None
    created_before: float | None = None
    cursor: str | None = None
    limit: int = 100


@dataclass(frozen=True)
class Accepted:
    """What a submission answers; ``replayed``: the idempotency key was seen before, nothing was done now.

    ``documents`` are the specs in canonical form, if they were written for the store just now.
    """

    jobs: tuple[JobView, ...]
    decisions: tuple[Decision, ...]
    replayed: bool = False
    documents: tuple[dict[str, Any], ...] = ()
