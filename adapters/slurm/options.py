"""What an operator may set for a ``slurm`` backend.  How it is read and checked is ``loading``'s.

``docs/slurm.md`` explains each to an administrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TokenSource:
    """Where the JSON web token comes from: exactly one of ``file``, ``command`` and ``key_file``."""

    file: str | None = None
    """Read again when it changes."""
    command: tuple[str, ...] = ()
    """Prints the token, or ``SLURM_JWT=...`` as ``scontrol token`` does."""
    key_file: str | None = None
    """The cluster's own key: tokens are signed here, for a short time each."""
    lifespan_s: int = 300
    """How long a token that is signed here, or that ``command`` prints, is good."""
    user: str | None = None
    """Whom the token speaks for: SlurmUser or root, who may act for others.  None with ``key_file``: a token
    for each user of a job."""


@dataclass(frozen=True, kw_only=True)
class Users:
    """How an owner becomes a Slurm user; never by anything in the job."""

    service: str | None = None
    """All jobs run as this one user."""
    table: Mapping[str, str] = field(default_factory=dict)
    """Owner to Slurm user; who is not in it is refused."""
    owner: bool = False
    """The owner's name is the Slurm user's."""
    strip_domain: str | None = None
    """With ``owner``: "ana@example.org" is "ana" for the domain "example.org", others are refused."""


@dataclass(frozen=True, kw_only=True)
class FabricOptions:
    """What a fabric is on this cluster."""

    constraint: str | None = None
    """Feature that the nodes must have; joined with the job's own constraint."""
    gres: str | None = None
    """Of each node, such as ``nic:1``; added to the job's own."""
    switches: int | None = None
    """At most so many leaf switches; the job waits until it can have that."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of jobs that ask for it; the job's own go before them."""


@dataclass(frozen=True, kw_only=True)
class Options:
    directory: str
    """Of each job's logs and outputs, on a file system that the nodes share: "/home/{user}/.broker"; knows
    {user} and {project}."""
    transport: str = "rest"
    """``rest`` or ``pyslurm``."""
    url: str | None = None
    """Of slurmrestd, ``http`` or ``https``; or ``socket``."""
    socket: str | None = None
    """Path of slurmrestd's unix socket, in place of ``url``."""
    ca_file: str | None = None
    """Certificates that an ``https`` address is checked with; none: the system's."""
    slurm_conf: str | None = None
    """For pyslurm; none: what libslurm finds by itself."""
    cluster: str | None = None
    """What the cluster must say it is called; another answer takes no write."""
    token: TokenSource | None = None
    """How the broker proves who it is to slurmrestd: one of the three sources below."""
    users: Users
    """Whom a job runs as: one of the three ways below."""
    connect_s: float = 2.0
    """Seconds to wait for a connection."""
    answer_s: float = 30.0
    """slurmctld's own time-outs of 9 to 20 s must fit in: a shorter one only makes more unknown outcomes."""
    settle_s: float = 60.0
    """How long after a submission its absence is not yet proven: MessageTimeout and a margin."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Native options of each job that does not set them: ``partition``, ``account``, ``qos`` ..."""
    allowed: tuple[str, ...] | None = None
    """Native options that a job may set; none: all that are listed below."""
    priorities: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"low": {"nice": 1000}})
    """What ``priority: low`` and ``high`` are here, as native options; one without a row is refused."""
    preemptible: Mapping[str, object] | None = None
    """What ``preemptible: true`` is here, as native options; none: nothing is added."""
    enforced: tuple[str, ...] = ("associations", "limits", "qos")
    """What the cluster's AccountingStorageEnforce holds, which no API tells.  Without ``associations`` a user
    without an account may submit as well; without ``qos`` and ``limits`` a QOS binds nobody."""
    fabrics: Mapping[str, FabricOptions] = field(default_factory=dict)
    """What ``fabric: rdma`` and ``gpudirect`` are here; one without a table is refused."""
    gpu_types: Mapping[str, str] = field(default_factory=dict)
    """A job's ``gpu_type`` to the GRES type, where they differ."""
    mig_profiles: Mapping[str, str] = field(default_factory=dict)
    """A ``mig_profile`` to its GRES: ``{"1g.10gb" = "gpu:nvidia_a100_1g.10gb"}``; others are refused."""
    containers: str = "none"
    """``none``; ``pyxis``: images run through Enroot and Pyxis."""
    container_feature: str | None = None
    """The feature of the nodes that have both: jobs with an image run there alone, and are refused where no
    node has it.  None: every node has them, and a node that has not fails the job."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of every job; {user} is replaced."""
    secrets_directory: str | None = None
    """``PROJECT/NAME/KEY`` below it is read at submit; it may not be open to other users."""
    native_dependencies: bool = True
    """What depends on one job of this cluster may wait in Slurm's queue; false: in the broker, always."""
    guard: bool = True
    """A second copy of an attempt ends itself by an atomic claim in ``directory``."""
    logs: bool = True
    """This process can read ``directory`` (or what ``log_paths`` makes of it)."""
    log_roots: tuple[str, ...] = ()
    """Nothing outside is opened; empty: ``directory`` up to its first placeholder."""
    log_paths: Mapping[str, str] = field(default_factory=dict)
    """Where a path of the nodes is mounted here: ``{"/home" = "/mnt/cluster/home"}``."""
