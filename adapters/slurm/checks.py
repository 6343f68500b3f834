"""``broker backends check``: what was found at a cluster and what is missing, in sentences."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from adapters.base import Finding
from adapters.slurm import logs
from adapters.slurm.options import Options
from adapters.slurm.transport import SlurmError, Transport

OLDEST = (22, 5)


def findings(transport: Transport, options: Options) -> Sequence[Finding]:
    """Never raises: what does not answer is a finding."""
    return [
        *_asked("connection", lambda: _connection(transport, options)),
        *_asked("controller", lambda: _controller(transport)),
        *_asked("nodes", lambda: _nodes(transport)),
        *_asked("partitions", lambda: _partitions(transport, options)),
        *_asked("accounting", lambda: _accounting(transport, options)),
        *_identity(options),
        *_logs(options),
        *_containers(options),
    ]


def _asked(subject: str, ask: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(ask())
    except SlurmError as error:
        return [Finding(subject=subject, well=False, message=str(error))]


def _connection(transport: Transport, options: Options) -> Iterator[Finding]:
    cluster = transport.cluster()
    said = f"Slurm {cluster.version}, cluster {cluster.name or 'without a name'}, by {cluster.dialect}"
    yield Finding(subject="connection", well=True, message=said)
    if options.cluster and cluster.name != options.cluster:
        message = (
            f"the cluster is called {cluster.name} and not {options.cluster}: nothing is submitted to it"
        )
        yield Finding(subject="cluster", well=False, message=message)
    if not cluster.has_states:
        message = "it lists all its jobs for each look; with thousands of them it is asked less often"
        yield Finding(subject="listing", well=True, message=message)


def _controller(transport: Transport) -> Iterator[Finding]:
    transport.ping()
    yield Finding(subject="controller", well=True, message="slurmctld answers and takes our token")


def _nodes(transport: Transport) -> Iterator[Finding]:
    nodes = transport.nodes()
    gres = sorted({name for node in nodes for name in node.gres})
    message = f"{len(nodes)} nodes, GRES {', '.join(gres) or 'none'}"
    yield Finding(subject="nodes", well=bool(nodes), message=message)


def _partitions(transport: Transport, options: Options) -> Iterator[Finding]:
    partitions = transport.partitions()
    names = ", ".join(one.name + ("*" if one.default else "") for one in partitions)
    yield Finding(subject="partitions", well=bool(partitions), message=names or "there are none")
    wanted = options.defaults.get("partition")
    missing = set(str(wanted).split(",")) - {one.name for one in partitions} if wanted else set()
    if missing:
        message = f"defaults name the partition {', '.join(sorted(missing))}, which is not there"
        yield Finding(subject="partitions", well=False, message=message)


def _accounting(transport: Transport, options: Options) -> Iterator[Finding]:
    if not transport.cluster().accounting:
        message = "there is no accounting database: a job that Slurm forgets before it is seen ends as Lost"
        yield Finding(subject="accounting", well=True, message=message)
        return
    users = {one.user for one in transport.associations()}
    behind = transport.accounting_backlog()
    message = f"{len(users)} users with accounts; {behind} records wait for the database"
    yield Finding(subject="accounting", well=True, message=message)
    named = {options.users.service, *options.users.table.values()} - {None}
    strangers = sorted(name for name in named if name and name not in users)
    if strangers:
        message = f"no account for {', '.join(strangers)}, whom the user map names"
        yield Finding(subject="accounts", well=False, message=message)


def _identity(options: Options) -> Iterator[Finding]:
    users = options.users
    if users.service is not None:
        message = f"all jobs run as {users.service}"
    elif users.table:
        message = f"jobs run as the user that a table gives for their owner ({len(users.table)} owners)"
    else:
        message = "jobs run as the user who is called as their owner"
    yield Finding(subject="users", well=True, message=message)


def _logs(options: Options) -> Iterator[Finding]:
    if not options.logs:
        yield Finding(subject="logs", well=True, message="are not read here (option logs)")
        return
    for root in logs.roots(options):
        well = os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK)
        message = f"are read below {root}" if well else f"{root} is not mounted here, or may not be read"
        yield Finding(subject="logs", well=well, message=message)


def _containers(options: Options) -> Iterator[Finding]:
    """Whether nodes have the plug-in no API tells; without it ``srun`` fails and the job with it."""
    message = {
        "none": "jobs with an image are refused (option containers)",
        "pyxis": "images run by srun's option of Pyxis; a node without the plug-in fails the job at once",
    }.get(options.containers, options.containers)
    yield Finding(subject="containers", well=True, message=message)
