"""Leases that are kept while somebody works under them, however long one call of a backend takes.

A process that dies or is stopped renews nothing, so its lease ends; what it writes when it wakes is refused
by the epoch.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from api_spec.errors import StoreUnavailable
from broker.lifecycle.context import Context, log
from broker.store.connection import errors_in_our_words

RENEWALS = 3  # in the time of one lease


class Kept:
    """``guard`` is what writes carry; ``lost``: somebody else has taken over, and the work is to be left."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name
        self._holder = f"{context.holder}:{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self.lost = False
        self.epoch = self._acquire()

    @property
    def guard(self) -> tuple[str, int]:
        return self._name, self.epoch or 0

    def _acquire(self) -> int | None:
        leases, lease_s = self._context.store.leases, self._context.settings.lease_s
        return leases.acquire(self._name, self._holder, lease_s)

    def renew_until_stopped(self) -> None:
        """The body of a thread."""
        while not self._stop.wait(self._context.settings.lease_s / RENEWALS):
            try:
                with errors_in_our_words():
                    self.lost = self._acquire() != self.epoch
            except StoreUnavailable as error:
                log.warning("the lease %s could not be renewed: %s", self._name, error)
            if self.lost:
                return

    def leave(self) -> None:
        self._stop.set()
        self._context.store.leases.release(self._name, self._holder)


@contextmanager
def kept(context: Context, name: str) -> Iterator[Kept | None]:
    """None while somebody else holds it."""
    lease = Kept(context, name)
    if lease.epoch is None:
        yield None
        return
    thread = threading.Thread(target=lease.renew_until_stopped, name=f"lease {name}", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.leave()
        thread.join()
