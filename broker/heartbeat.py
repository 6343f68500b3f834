"""Is there a worker, or a controller, on this host that does its work?  Each says so in the store from the
loop that does it, so that one that hangs falls silent; ``broker worker --check`` listens.

Light imports: health checks run for ever.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from api_spec.errors import StoreUnavailable
from broker.settings import Settings
from broker.store import Store
from broker.store.asks import ROLE as LOG_READER
from broker.store.connection import connect, errors_in_our_words
from broker.store.store import StoreOptions

BEAT_S = 5.0
ALIVE_S = 30.0  # several beats: a slow disk or a busy machine is no death

log = logging.getLogger("broker.heartbeat")


class Heartbeat:
    """Of this process, in one role."""

    def __init__(self, store: Store, role: str) -> None:
        self._store = store
        self._me: tuple[str, str, int | str] = (role, socket.gethostname(), os.getpid())
        self._beat_s, self._alive_s = BEAT_S, ALIVE_S
        self._next = float("-inf")

    @classmethod
    def of_log_reader(cls, store: Store, backend: str) -> Heartbeat:
        """Quicker than others: somebody waits for what it was asked when it dies."""
        heartbeat = cls(store, LOG_READER)
        heartbeat._me = (LOG_READER, backend, f"{socket.gethostname()}:{os.getpid()}")
        heartbeat._beat_s, heartbeat._alive_s = 2.0, 10.0
        return heartbeat

    @property
    def name(self) -> str:
        return str(self._me[2])

    def beat(self) -> None:
        """May be called as often as one likes; a store that does not answer is told with the next call."""
        if time.monotonic() < self._next:
            return
        with _left_alone_when_down():
            self._store.alive.say(*self._me, int(self._store.now() * 1000), int(self._alive_s * 1000))
            self._next = time.monotonic() + self._beat_s

    def end(self) -> None:
        """It goes, and says so: a check need not wait until it is forgotten."""
        with _left_alone_when_down():
            self._store.alive.take_back(*self._me)


@contextmanager
def _left_alone_when_down() -> Iterator[None]:
    try:
        with errors_in_our_words():
            yield
    except StoreUnavailable as error:
        log.warning("the store was not told that this process is alive: %s", error)


@contextmanager
def store_to_ask(settings: Settings) -> Iterator[Store]:
    """Neither prepared nor changed: a check must not be what begins a new incarnation."""
    store = Store(connect(settings.redis_url), StoreOptions(instance=settings.instance))
    try:
        yield store
    finally:
        store.close()


def is_alive(store: Store, role: str, host: str) -> bool:
    """Has such a process said so lately?  Raises ``StoreUnavailable``."""
    with errors_in_our_words():
        until = store.alive.until_ms(role, host)
        return until is not None and until > store.now() * 1000


def reads_logs(store: Store, backend: str, host: str) -> bool:
    """Is there a log reader of the backend on this host?  Raises ``StoreUnavailable``."""
    with errors_in_our_words():
        there = store.asks.readers(backend, int(store.now() * 1000))
        return any(name.rpartition(":")[0] == host for name in there)
