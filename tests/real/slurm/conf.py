"""The text of Slurm's configuration files, from a layout of paths and ports.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a test may want otherwise."""

    name: str = "lab"
    nodes: int = 4
    cpus: int = 8
    gpus: int = 4
    memory_mib: int = 16000
    infiniband: int = 2  # so many nodes, the first ones, have the feature
    licenses: str = "matlab:2"
    # Requeued jobs restart when their old credential is void: 5 s here, 121 s by default.
    credential_s: int = 5
    min_job_age_s: int = 300  # Slurm's own default; an ended job is forgotten after it
    max_job_count: int = 20000
    max_array_size: int = 2001
    message_timeout_s: int = 10
    preempt: str = "partition_prio"  # or "qos", with accounting: then debug does not preempt train
    extra: Mapping[str, str] = field(default_factory=dict)  # further or other lines of slurm.conf
    files: Mapping[str, str] = field(default_factory=dict)  # beside it: plugstack.conf, oci.conf ...

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """``slurmd`` is the first of as many as there are nodes."""

    slurmctld: int
    slurmrestd: int
    slurmdbd: int
    mariadbd: int
    slurmd: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where one cluster keeps its things, who runs it, and where it listens."""

    directory: Path
    ports: Ports
    controller_user: str  # of slurmctld, slurmdbd, munged and the database
    node_user: str
    rest_user: str
    plugins: Path
    newer: bool
    accounting: bool
    # Slurm binds to what the host's own name means; that must be this machine's loopback.
    loopback_only: bool

    @property
    def slurm_conf(self) -> Path:
        return self.directory / "etc/slurm.conf"

    @property
    def jwt_key(self) -> Path:
        return self.directory / "etc/jwt.key"

    @property
    def munge_socket(self) -> Path:
        return self.directory / "munge/socket"

    @property
    def munge_key(self) -> Path:
        return self.directory / "munge/key"

    @property
    def rest_socket(self) -> Path:
        return self.directory / "rest/slurmrestd.socket"

    @property
    def database(self) -> Path:
        return self.directory / "database"

    @property
    def shared(self) -> Path:
        return self.directory / "shared"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def gpu_files(self) -> Path:
        return self.directory / "gpu"

    @property
    def starts(self) -> Path:
        return self.directory / "starts/started"

    @property
    def task_prolog(self) -> Path:
        return self.directory / "starts/task-prolog"


def lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


def slurm_conf(at: Layout, options: Options) -> str:
    values = {**basics(at, options), **scheduling(options), **(storage(at) if at.accounting else {})}
    return lines({**values, **options.extra}) + nodes(at, options) + partitions(options)


def authentication(at: Layout) -> dict[str, object]:
    return {
        "AuthType": "auth/munge",
        "AuthAltTypes": "auth/jwt",
        "AuthAltParameters": f"jwt_key={at.jwt_key}",
        "PluginDir": at.plugins,
    }


def basics(at: Layout, options: Options) -> dict[str, object]:
    loopback = {"CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny"} if at.loopback_only else {}
    return {
        "ClusterName": options.name,
        "SlurmctldHost": "localhost(127.0.0.1)",
        "SlurmUser": at.controller_user,
        "SlurmdUser": at.node_user,
        "SlurmctldPort": at.ports.slurmctld,
        "SlurmdPort": at.ports.slurmd,
        **authentication(at),
        "AuthInfo": f"socket={at.munge_socket},cred_expire={options.credential_s}",
        **loopback,
        "StateSaveLocation": at.directory / "state",
        "SlurmdSpoolDir": at.directory / "spool/%n",
        "SlurmctldPidFile": at.directory / "run/slurmctld.pid",
        "SlurmdPidFile": at.directory / "run/%n.pid",
        "SlurmctldLogFile": at.logs / "slurmctld.log",
        "SlurmdLogFile": at.logs / "%n.log",
        "TaskProlog": at.task_prolog,
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "ReturnToService": 2,
        "SlurmdTimeout": 30,
        "KillWait": 2,
        "SlurmdParameters": "config_overrides",  # a small host may stand for large nodes
    }


def scheduling(options: Options) -> dict[str, object]:
    return {
        "MinJobAge": options.min_job_age_s,
        "MaxJobCount": options.max_job_count,
        "MaxArraySize": options.max_array_size,
        "MessageTimeout": options.message_timeout_s,
        "EnforcePartLimits": "ALL",
        "JobRequeue": 1,
        # At once; by default a batch job waits some seconds for others to be looked at with it.
        "SchedulerParameters": "batch_sched_delay=0,bf_interval=1,sched_interval=2,sched_min_interval=0",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "PreemptType": f"preempt/{options.preempt}",
        "PreemptMode": "REQUEUE",
        "PriorityType": "priority/multifactor",
        "PriorityWeightPartition": 10000,
        "PriorityWeightQOS": 10000,
        "Licenses": options.licenses,
        "GresTypes": "gpu",
    }


def storage(at: Layout) -> dict[str, object]:
    return {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": at.ports.slurmdbd,
        "AccountingStoragePass": at.munge_socket,
        "AccountingStorageEnforce": "associations,limits,qos",
        "AccountingStorageTRES": "gres/gpu",
        "AccountingStoreFlags": "job_comment,job_extra,job_script",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": 1,
    }


def nodes(at: Layout, options: Options) -> str:
    shape = f"CPUs={options.cpus} RealMemory={options.memory_mib}"
    gres = f" Gres=gpu:h100:{options.gpus}" if options.gpus else ""
    text = ""
    for index, name in enumerate(options.node_names):
        address = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={at.ports.slurmd + index}"
        feature = " Feature=infiniband" if index < options.infiniband else ""
        text += f"NodeName={name} {address} {shape}{gres}{feature} State=UNKNOWN\n"
    return text


def partitions(options: Options) -> str:
    everywhere = f"Nodes={','.join(options.node_names)} DefMemPerCPU=100"
    return (
        f"PartitionName=train {everywhere} Default=YES MaxTime=7-0 DefaultTime=60 PriorityTier=1\n"
        f"PartitionName=debug {everywhere} MaxTime=60 DefaultTime=10 PriorityTier=10 PreemptMode=OFF\n"
    )


def gres_conf(at: Layout, options: Options) -> str:
    """A GPU without a file counts as none; any file will do."""
    if not options.gpus:
        return ""
    files = f"{at.gpu_files}/gpu[0-{options.gpus - 1}]"
    return f"NodeName={','.join(options.node_names)} Name=gpu Type=h100 File={files}\n"


def cgroup_conf(at: Layout) -> str | None:
    """24.11 does not start without usable cgroups unless told so; 22.05 dies on the same line."""
    return "CgroupPlugin=disabled\n" if at.newer else None


def slurmdbd_conf(at: Layout, password: str) -> str:
    # slurmdbd does not read slurm.conf.
    loopback = {"CommunicationParameters": "NoInAddrAny"} if at.loopback_only else {}
    return lines(
        {
            **authentication(at),
            "AuthInfo": f"socket={at.munge_socket}",
            **loopback,
            "DbdHost": "localhost",
            "DbdAddr": "127.0.0.1",
            "DbdPort": at.ports.slurmdbd,
            "SlurmUser": at.controller_user,
            "StorageType": "accounting_storage/mysql",
            "StorageHost": "127.0.0.1",
            "StoragePort": at.ports.mariadbd,
            "StorageLoc": "slurm",
            "StorageUser": "slurm",
            "StoragePass": password,
            "LogFile": at.logs / "slurmdbd.log",
            "PidFile": at.directory / "run/slurmdbd.pid",
        }
    )


# Slurm runs it at the start of every task, the batch script's too, with the job's final environment.
# A record ends with NUL, because a name may hold anything else.
TASK_PROLOG = """#!/bin/sh
printf '%s\\t%s\\t%s\\t%s\\000' \\
    "$SLURM_JOB_ID" "${{SLURM_RESTART_COUNT:-0}}" "${{SLURM_STEP_ID:-batch}}" "$SLURM_JOB_NAME" >>'{starts}'
"""


def task_prolog(at: Layout) -> str:
    return TASK_PROLOG.format(starts=at.starts)
