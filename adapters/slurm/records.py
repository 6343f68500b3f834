"""What travels between the adapter and a transport, alike in every dialect of Slurm.  Pure.

Times are seconds since the epoch on the controller's clock.  ``None`` means "not said": by the user, so
that the cluster's own default holds, or by Slurm, in this dialect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# ---- what goes in ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One job as Slurm gets it.  A transport that cannot carry a field refuses it by name."""

    name: str  # the marker
    user: str  # who it runs as
    script: str
    environment: Mapping[str, str] = field(repr=False)  # all of it, secrets too; Slurm adds its SLURM_*
    directory: str
    stdout: str
    stderr: str
    comment: str
    account: str | None = None
    qos: str | None = None
    partition: str | None = None  # one, or several with commas
    reservation: str | None = None
    wckey: str | None = None
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    memory_per_node_mib: int | None = None
    memory_per_cpu_mib: int | None = None
    gres: str | None = None  # for each node: "gpu:h100:2", "gpu:h100:2,shard:1"
    cpus_per_gpu: int | None = None
    tmp_disk_mib: int | None = None
    constraint: str | None = None
    switches: int | None = None
    switches_wait_s: int | None = None
    licenses: str | None = None
    required_nodes: tuple[str, ...] = ()
    excluded_nodes: tuple[str, ...] = ()
    exclusive: bool = False
    time_limit_min: int | None = None
    time_min_min: int | None = None
    begin_at: float | None = None
    deadline_at: float | None = None
    nice: int | None = None
    array: str | None = None  # "0-9%2"
    dependency: str | None = None
    requeue: bool = False
    hold: bool = False
    warning_signal: str | None = None  # "USR1": sent before the end ...
    warning_s: int | None = None  # ... this long before it ...
    warning_to_batch: bool = False  # ... to the script itself and not to its steps
    mail_types: tuple[str, ...] = ()  # BEGIN END FAIL REQUEUE TIME_LIMIT ... as sbatch spells them
    mail_user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is to be other than it is; ``None``: stays."""

    hold: bool | None = None
    time_limit_min: int | None = None
    nice: int | None = None


# ---- what comes back ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of a listing or of the accounting database.

    An array that waits is one row with ``waiting_tasks``; a task that has started has a row, and mostly an
    id, of its own: tasks are known by (``array_id``, ``task``).
    """

    id: int
    name: str
    user: str
    states: tuple[str, ...]  # the base state, then flags; some dialects show a flag alone
    array_id: int | None = None
    task: int | None = None
    waiting_tasks: str | None = None  # "0-9%2", "1,3,5"; may end in "..." where Slurm cut it
    reason: str | None = None
    message: str | None = None  # what Slurm says beside the reason
    submitted_at: float | None = None
    started_at: float | None = None  # of the latest start; of one that waits, see ``planned_at``
    planned_at: float | None = None  # when the scheduler expects a start
    ended_at: float | None = None
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    nodes: tuple[str, ...] = ()
    failed_node: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    priority: int | None = None
    dependency: str | None = None
    comment: str | None = None
    stdout: str | None = None  # patterns expanded where Slurm did
    stderr: str | None = None
    time_limit_min: int | None = None
    cancelled_by: str | None = None  # a user's name
    elapsed_s: float | None = None
    tres: Mapping[str, float] = field(
        default_factory=dict
    )  # allocated: {"cpu": 8, "mem": 512.0, "gres/gpu": 2}, memory in MiB
    peak_memory_mib: float | None = None
    energy_j: float | None = None
    accounted: bool = False  # the row is one of the accounting database

    @property
    def group(self) -> int:
        """The id that a submit answered: of the whole array, or of the job."""
        return self.array_id or self.id


@dataclass(frozen=True, kw_only=True)
class JobState:
    """One row of the cheap listing: no name, so that the id has to be known."""

    id: int
    states: tuple[str, ...]
    array_id: int | None = None
    task: int | None = None
    waiting_tasks: str | None = None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """All that the controller has; ``jobs`` None: nothing has changed since the time that was asked for."""

    as_of: float
    jobs: tuple[Job, ...] | None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What was found when the transport was opened."""

    name: str | None
    version: str  # of Slurm: "22.05.8"
    dialect: str  # "v0.0.38", "pyslurm 25.11"
    accounting: bool
    has_states: bool = False  # the cheap listing is offered
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    states: tuple[str, ...]
    cpus: int
    memory_mib: int
    cpus_allocated: int = 0
    memory_allocated_mib: int = 0
    gres: Mapping[str, int] = field(
        default_factory=dict
    )  # {"gpu:h100": 4}; a type that is not said: {"gpu": 4}
    gres_used: Mapping[str, int] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    partitions: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Partition:
    name: str
    up: bool
    default: bool = False
    nodes: tuple[str, ...] = ()
    time_limit_min: int | None = None  # None: without a limit
    default_time_min: int | None = None
    nodes_max: int | None = None
    allowed_accounts: tuple[str, ...] = ()  # empty: all
    denied_accounts: tuple[str, ...] = ()
    allowed_qos: tuple[str, ...] = ()
    denied_qos: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reservation:
    name: str
    starts_at: float
    ends_at: float
    nodes: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    partition: str | None = None


@dataclass(frozen=True, kw_only=True)
class License:
    name: str
    total: int
    used: int = 0


@dataclass(frozen=True, kw_only=True)
class Association:
    """One user in one account.  ``partition`` None: in all."""

    user: str
    account: str
    partition: str | None = None
    qos: tuple[str, ...] = ()
    default_qos: str | None = None
    is_default: bool = False


@dataclass(frozen=True, kw_only=True)
class Qos:
    name: str
    priority: int = 0
    time_limit_min: int | None = None
    tres_per_job: Mapping[str, float] = field(default_factory=dict)  # limits, as in ``Job.tres``
    tres_per_user: Mapping[str, float] = field(default_factory=dict)
    jobs_per_user: int | None = None
    submits_per_user: int | None = None
