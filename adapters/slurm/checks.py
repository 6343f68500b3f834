"""``broker backends check``: what was found at a cluster and what is missing, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from adapters.base import Finding
from adapters.slurm import checks_here
from adapters.slurm.options import Options
from adapters.slurm.records import Cluster, Node
from adapters.slurm.transport import NotAuthenticated, NotReached, SlurmError, Transport

DOWN = frozenset({"DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "POWERED_DOWN"})


def findings(transport: Transport, options: Options) -> Sequence[Finding]:
    """Never raises: what does not answer is a finding, and nobody behind it is asked."""
    told = _asked("connection", lambda: _connection(transport, options), options)
    if _well(told):
        told += _asked("controller", lambda: _controller(transport, options), options)
    if _well(told):
        told += _asked("nodes", lambda: _nodes(transport, options), options)
        told += _asked("partitions", lambda: _partitions(transport, options), options)
        told += _asked("accounting", lambda: _accounting(transport, options), options)
    return [*told, *checks_here.findings(options), *_containers(options)]


def _well(told: Sequence[Finding]) -> bool:
    return all(one.well for one in told if one.subject in ("connection", "controller"))


def _asked(subject: str, ask: Callable[[], Iterator[Finding]], options: Options) -> list[Finding]:
    try:
        return list(ask())
    except SlurmError as error:
        return [Finding(subject=subject, well=False, message=_why(subject, error, options))]


def _why(subject: str, error: SlurmError, options: Options) -> str:
    if isinstance(error, NotAuthenticated):
        return f"there is no good token: {error}{checks_here.about_the_token(options)}"
    if isinstance(error, NotReached) and subject == "connection":
        return f"{error}; does slurmrestd run there, and may this process connect to it?"
    if subject == "controller":
        return f"slurmrestd answers, but slurmctld does not: {error}"
    return str(error)


# ---- the cluster -------------------------------------------------------------------------------------


def _connection(transport: Transport, options: Options) -> Iterator[Finding]:
    cluster = transport.cluster()
    said = f"Slurm {cluster.version}, cluster {cluster.name or 'without a name'}, by {cluster.dialect}"
    if cluster.plugins:
        said += f" ({', '.join(cluster.plugins)})"
    yield Finding(subject="connection", well=True, message=said)
    yield from _name(cluster, options)
    if not cluster.has_states:
        message = "it lists all its jobs for each look; with thousands of them it is asked less often"
        yield Finding(subject="listing", well=True, message=message)
    fabrics = sorted(name for name, one in options.fabrics.items() if one.switches is not None)
    if fabrics and cluster.dialect == "v0.0.38":
        message = f"{cluster.dialect} cannot ask for switches: jobs with {', '.join(fabrics)} are refused"
        yield Finding(subject="fabrics", well=False, message=message)


def _name(cluster: Cluster, options: Options) -> Iterator[Finding]:
    if not options.cluster or cluster.name == options.cluster:
        return
    if cluster.name is None:
        message = f"it tells its name with the first job; until then it is taken for {options.cluster}"
        yield Finding(subject="cluster", well=True, message=message)
        return
    message = f"it is called {cluster.name} and not {options.cluster}: nothing is submitted to it"
    yield Finding(subject="cluster", well=False, message=message)


def _controller(transport: Transport, options: Options) -> Iterator[Finding]:
    transport.ping()
    message = f"slurmctld answers and takes {checks_here.who_we_are(options)}"
    yield Finding(subject="controller", well=True, message=message)


def _nodes(transport: Transport, options: Options) -> Iterator[Finding]:
    nodes = transport.nodes()
    out = sum(1 for node in nodes if DOWN.intersection(node.states))
    gres = sorted({name for node in nodes for name in node.gres})
    message = f"{len(nodes)} nodes, {out} of them out of service; GRES {', '.join(gres) or 'none'}"
    yield Finding(subject="nodes", well=len(nodes) > out, message=message)
    yield from _named_but_nowhere(nodes, options)


def _named_but_nowhere(nodes: Sequence[Node], options: Options) -> Iterator[Finding]:
    """GRES and features of the options that no node has: jobs that want them are refused."""
    gres = {name for node in nodes for name in node.gres}
    kinds = {name.partition(":")[0] for name in gres}
    features = {name for node in nodes for name in node.features}
    for option, name in _gres_of(options):
        if name not in gres | kinds:
            yield Finding(subject="nodes", well=False, message=f"{option} names {name}, which no node has")
    if options.container_feature not in (None, *features):
        message = f"container_feature names {options.container_feature}, which no node has"
        yield Finding(subject="nodes", well=False, message=message)
    for name, fabric in options.fabrics.items():
        wanted = fabric.constraint or ""
        if wanted.isidentifier() and wanted not in features:  # no expression
            message = f"fabrics.{name} names the feature {wanted}, which no node has"
            yield Finding(subject="nodes", well=False, message=message)


def _gres_of(options: Options) -> Iterator[tuple[str, str]]:
    """Option, and kind of GRES without a count."""
    yield from ((f"gpu_types.{name}", f"gpu:{one}") for name, one in options.gpu_types.items())
    yield from ((f"mig_profiles.{name}", one) for name, one in options.mig_profiles.items())
    for name, fabric in options.fabrics.items():
        for part in (fabric.gres or "").split(","):
            if kind := ":".join(word for word in part.split(":") if not word.isdecimal()):
                yield f"fabrics.{name}", kind


def _partitions(transport: Transport, options: Options) -> Iterator[Finding]:
    partitions = transport.partitions()
    names = ", ".join(
        one.name + ("*" if one.default else "") + ("" if one.up else " (not up)") for one in partitions
    )
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
    told = transport.associations()
    users = {one.user for one in told if one.user}
    behind = transport.accounting_backlog()
    message = f"{len(users)} users with accounts; {behind} records wait for the database"
    yield Finding(subject="accounting", well=True, message=message)
    if strangers := sorted(checks_here.named_users(options) - users):
        message = f"no account for {', '.join(strangers)}, whom the user map names: their jobs are refused"
        yield Finding(subject="accounts", well=False, message=message)
    known = {"account": {one.account for one in told}, "qos": {one.name for one in transport.qos()}}
    for option, names in known.items():
        wanted = options.defaults.get(option)
        if wanted is not None and wanted not in names:
            message = f"defaults name the {option} {wanted}, which is not there: jobs are refused"
            yield Finding(subject="accounts", well=False, message=message)


def _containers(options: Options) -> Iterator[Finding]:
    """Whether nodes have the plug-in no API tells; without it ``srun`` fails and the job with it."""
    feature = options.container_feature
    where = f"on nodes with the feature {feature}" if feature else "everywhere"
    message = {
        "none": "jobs with an image are refused (option containers)",
        "pyxis": f"images run by srun's option of Pyxis, {where}; a node without it fails the job at once",
    }.get(options.containers, options.containers)
    yield Finding(subject="containers", well=True, message=message)
