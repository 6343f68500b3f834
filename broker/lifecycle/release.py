"""Release: dependants of jobs that moved are judged anew, a chunk at a time, until none is left."""

from __future__ import annotations

from broker.lifecycle import native
from broker.lifecycle.context import Context
from broker.lifecycle.points import point

CHUNK = 100


def release_dependants(context: Context) -> int:
    context.store.leases.hint_taken("release")
    point("release_begun")
    total = 0
    while True:
        looked_at, queues = context.store.jobs.release(CHUNK, native.backends(context))
        point("released")
        for backend in {queue.partition(":")[2] for queue in queues}:
            context.hint(f"drain:{backend}")
        total += looked_at
        if not looked_at:
            return total
