"""Refresh: ask a backend what it has and what is free, so that decisions rest on facts with a known age."""

from __future__ import annotations

from adapters.base import BackendError
from broker.lifecycle.context import UNPLACED, Context
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import dump_snapshot

EVERY_S = 15.0
EVERY_S_WHEN_DOWN = 3.0  # also the probe that closes the circuit breaker


def refresh(context: Context, backend: str) -> bool:
    """True when it answered."""
    store = context.store
    store.leases.hint_taken(f"refresh:{backend}")
    point("refresh_begun")
    if backend not in context.adapters:
        return False
    adapter = context.adapter(backend)
    before = store.backends.read(backend)
    now_ms = int(store.now() * 1000)
    store.backends.declare(backend, adapter.type)
    try:
        inventory = adapter.inventory()
        point("refresh_asked")
        load = adapter.load()
        point("refresh_asked")
    except BackendError as error:
        store.backends.failed(backend, str(error), now_ms)
        store.backends.postpone(backend, "refresh_at", now_ms + int(EVERY_S_WHEN_DOWN * 1000))
        if before.reachable is not False:
            store.events.tell_operator("backend_down", {"backend": backend, "message": str(error)})
        return False
    store.backends.put_snapshot(backend, dump_snapshot(inventory, load), now_ms, EVERY_S)
    store.backends.answered(backend)
    if not before.reachable:
        store.events.tell_operator("backend_up", {"backend": backend})
        context.hint(f"drain:{UNPLACED}")
        context.hint(f"drain:{backend}")
    return True
