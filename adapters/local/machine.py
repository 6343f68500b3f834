"""What this machine has and what is free of it, in the contract's words."""

from __future__ import annotations

import sqlite3
import time

from adapters.base import Inventory, Load, NodeShape, ShapeLoad
from adapters.local import queue, slots
from adapters.local.options import Options


def inventory(options: Options) -> Inventory:
    shape = NodeShape(
        name=options.node,
        count=1,
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        gpus=options.gpus,
        gpu_type=options.gpu_type,
    )
    return Inventory(as_of=time.time(), shapes=(shape,), features=frozenset({"processes", "scripts"}))


def load(connection: sqlite3.Connection, options: Options) -> Load:
    """Queued and running count tasks, as they take slots."""
    unfinished = queue.unfinished(connection)
    left = slots.free(options, unfinished)
    (waiting,) = connection.execute(
        "SELECT ifnull(sum(tasks - (SELECT count(*) FROM tasks t WHERE t.attempt = seq)), 0) FROM attempts"
        " WHERE state = 'LIVE' AND NOT service AND cancelled_at IS NULL"
    ).fetchone()
    running = sum(1 for task in unfinished if task["state"] == "RUNNING")
    shape = ShapeLoad(
        name=options.node,
        free_nodes=0 if unfinished else 1,
        free_cpus=max(0, left.cpus),
        free_memory_mib=max(0, left.memory_mib),
        free_gpus=len(left.gpus),
    )
    return Load(
        as_of=time.time(),
        shapes=(shape,),
        queued_count=waiting + len(unfinished) - running,
        running_count=running,
    )
