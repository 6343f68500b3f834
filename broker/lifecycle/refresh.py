"""Refresh: ask a backend what it has and what is free, so that decisions rest on facts with a known age."""

from __future__ import annotations

import uuid

from adapters.errors import BackendError
from broker.lifecycle import usage
from broker.lifecycle.context import Context
from broker.lifecycle.health import answered, failed
from broker.lifecycle.points import point
from broker.lifecycle.snapshots import dump_snapshot

EVERY_S = 15.0
EVERY_S_WHEN_DOWN = 3.0  # also the probe that closes the circuit breaker


def refresh(context: Context, backend: str) -> bool:
    """True when it answered.  One at a time, so that a backend that hangs holds one thread of all workers."""
    store = context.store
    store.leases.hint_taken(f"refresh:{backend}")
    point("refresh_begun")
    holder = f"{context.holder}:{uuid.uuid4().hex[:8]}"
    if backend not in context.adapters:
        return False
    if not store.leases.take_slot(f"refresh:{backend}", holder, 1, context.settings.lease_s):
        return False
    try:
        return _refresh(context, backend)
    finally:
        store.leases.leave_slot(f"refresh:{backend}", holder)


def _refresh(context: Context, backend: str) -> bool:
    store, adapter = context.store, context.adapter(backend)
    now_ms = int(store.now() * 1000)
    store.backends.postpone(backend, "refresh_at", now_ms + int(EVERY_S_WHEN_DOWN * 1000))
    point("refresh_asked")
    try:
        inventory = adapter.inventory()
        point("refresh_asked")
        load = adapter.load()
        point("refresh_asked")
    except BackendError as error:
        failed(context, backend, error)
        return False
    store.backends.put_snapshot(backend, dump_snapshot(inventory, load), now_ms, EVERY_S)
    answered(context, backend)
    usage.measure(context, backend)
    return True
