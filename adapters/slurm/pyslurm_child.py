"""The process in which pyslurm runs, and pyslurm's only door: a JSON line asks, a JSON line answers.

Started as ``python -m adapters.slurm.pyslurm_child FD``.  It must be a process of its own: importing pyslurm
ends the process where slurm.conf is bad, and each call holds the GIL until the controller has answered, up to
20 s when it is gone.  Nothing of the broker is known here; what a row means is ``pyslurm_rows``'.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import pyslurm

SLURMS_OWN = 1000  # smaller numbers are the C library's


def about() -> dict[str, Any]:
    config = pyslurm.slurmctld.Config.load()
    return {
        "name": config.cluster_name,
        "version": config.version,
        "storage": config.accounting_storage_type,
        "pyslurm": pyslurm.__version__,
    }


def backlog() -> int:
    return int(pyslurm.slurmctld.diag().dbd_agent_queue_size)


def licenses() -> dict[str, Mapping[str, int]]:
    return dict(pyslurm.licenses().get())


LISTINGS: Mapping[str, Callable[..., Any]] = {
    "job": lambda job_id: {job_id: pyslurm.Job.load(job_id)},
    "jobs": pyslurm.Jobs.load,
    "nodes": pyslurm.Nodes.load,
    "partitions": pyslurm.Partitions.load,
    "reservations": pyslurm.Reservations.load,
    "accounted": lambda **asked: pyslurm.db.Jobs.load(pyslurm.db.JobFilter(**asked)),
    "associations": pyslurm.db.Associations.load,
    "qos": pyslurm.db.QualitiesOfService.load,
}


def rows(what: str, names: Sequence[str], asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each object these attributes; "stats.energy" is one of one."""
    getters = [(name, attrgetter(name)) for name in names]
    return [{name: get(one) for name, get in getters} for one in LISTINGS[what](**asked).values()]


def submit(fields: Mapping[str, Any]) -> int:
    with no_configuration():
        return int(pyslurm.JobSubmitDescription(**fields).submit())


@contextmanager
def no_configuration() -> Iterator[None]:
    """pyslurm copies every SLURM_* of its own process into the job, where the path of this host is wrong."""
    path = os.environ.pop("SLURM_CONF", None)
    try:
        yield
    finally:
        if path is not None:
            os.environ["SLURM_CONF"] = path


def cancel(job_id: int) -> bool:
    """Whether it was said to be done.  pyslurm looks at errno whatever the call returned, so that a stale one
    of the C library is raised after a cancel that was done; an unknown job it cancels without a word."""
    try:
        pyslurm.Job(job_id).cancel()
        said = True
    except pyslurm.RPCError as error:
        if error.errno >= SLURMS_OWN:
            raise
        said = False
    pyslurm.Job.load(job_id)  # raises when there is none
    return said


def change(job_id: int, fields: Mapping[str, Any], hold: bool | None) -> None:
    job = pyslurm.Job(job_id)
    if fields:
        job.modify(pyslurm.JobSubmitDescription(**fields))
    if hold is not None:
        # hold(mode="user") writes through a pointer that is NULL and ends the process (25.11.2).
        (job.hold if hold else job.release)()


CALLS: Mapping[str, Callable[..., Any]] = {
    call.__name__: call for call in (about, backlog, cancel, change, licenses, rows, submit)
}


def answer(call: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"value": CALLS[call](**arguments)}
    except pyslurm.RPCError as error:
        return {"errno": error.errno, "said": str(error.msg)}
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        return {"said": str(error) or repr(error)}  # of what pyslurm checks itself, before it sends anything


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.sendall(b"{}\n")  # the import went well
    for line in channel.makefile("rb"):
        channel.sendall(json.dumps(answer(*json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main()
