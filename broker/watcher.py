"""The part of a worker that watches backends: a thread each, of which one in all workers has the lease."""

from __future__ import annotations

import logging
import threading
import time

from api_spec.errors import StoreUnavailable
from broker.lifecycle.broker import Broker

AGAIN_S = 2.0  # how soon another worker takes over where a watch has ended, or its worker has died
LEAVE_WITHIN_S = 5.0

log = logging.getLogger("broker.watcher")


class Watcher:
    def __init__(self, broker: Broker, again_s: float = AGAIN_S) -> None:
        self._broker = broker
        self._again_s = again_s
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(backend,), name=f"watch-{backend}", daemon=True)
            for backend in broker.watched
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Gives the leases back, so that another worker goes on at once."""
        self._stop.set()
        give_up_at = time.monotonic() + LEAVE_WITHIN_S
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, give_up_at - time.monotonic()))

    def _watch(self, backend: str) -> None:
        while not self._stop.is_set():
            try:
                self._broker.watch(backend, self._stop)
            except StoreUnavailable as error:
                log.warning("the watch of %s waits: %s", backend, error)
            except Exception:
                # The last loop of the thread: passes go on meanwhile, and the next watch begins with a list.
                log.exception("the watch of %s failed", backend)
            self._stop.wait(self._again_s)
