"""The part of a worker that reads logs for API processes which cannot see the files.

It keeps those that would go, too: what it has kept no other process may see.

It has threads of its own: a file system that hangs takes no turn of a backend's other work, and one backend
takes none of another's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from api_spec.errors import StoreUnavailable
from broker.heartbeat import Heartbeat
from broker.lifecycle.broker import Broker

THREADS = 4  # reads of one backend at the same time
WAIT_S = 1.0  # for a question, and so for the order to stop
LAST_READS_S = 3.0  # what is being read when it is told to stop may end

log = logging.getLogger("broker.log_reader")


class LogReader:
    def __init__(self, broker: Broker, name: str | None, wait_s: float = WAIT_S) -> None:
        """``name``: of this worker; the backends of whose tables it is the ``log_reader`` are read."""
        self._broker = broker
        self._wait_s = wait_s
        self.backends = broker.context.settings.logs_read_by(name)
        self._hearts = {one: Heartbeat.of_log_reader(broker.store, one) for one in self.backends}
        self._stop = threading.Event()
        self._leave = threading.Event()
        self._readers: list[threading.Thread] = []
        self._pulse = threading.Thread(target=self._beat, name="log-reader-pulse", daemon=True)

    def start(self) -> None:
        """Does nothing where it is nobody's log reader."""
        if not self.backends:
            return
        self._readers = [
            threading.Thread(target=self._read, args=(backend,), name=f"log-reader-{backend}", daemon=True)
            for backend in self.backends
            for _ in range(THREADS)
        ]
        self._readers += [
            threading.Thread(target=self._keep, args=(backend,), name=f"log-keeper-{backend}", daemon=True)
            for backend in self.backends
        ]
        for thread in (*self._readers, self._pulse):
            thread.start()

    def stop(self) -> None:
        """Takes no more questions, lets those end that are being read, and says that it goes."""
        self._stop.set()
        give_up_at = time.monotonic() + LAST_READS_S
        for thread in self._readers:
            thread.join(max(0.0, give_up_at - time.monotonic()))
        self._leave.set()
        if self._readers:
            self._pulse.join(LAST_READS_S)
        for heart in self._hearts.values():
            heart.end()

    def _beat(self) -> None:
        """As long as there are questions that it may have taken."""
        while True:
            for heart in self._hearts.values():
                heart.beat()
            if self._leave.wait(self._wait_s / 2):
                return

    def _keep(self, backend: str) -> None:
        while not self._stop.wait(self._wait_s):
            self._outlive(backend, lambda: self._broker.perform(f"keep:{backend}"))

    def _read(self, backend: str) -> None:
        me = self._hearts[backend].name
        while not self._stop.is_set():
            self._outlive(backend, lambda: self._broker.answer_about_logs(backend, me, self._wait_s))

    def _outlive(self, backend: str, step: Callable[[], object]) -> None:
        try:
            step()
        except StoreUnavailable as error:
            log.warning("the log reader of %s waits: %s", backend, error)
            self._stop.wait(self._wait_s)
        except Exception:
            # The last loop of the thread: whoever asked hears of it, and the next one is answered again.
            log.exception("the log reader of %s failed", backend)
            self._stop.wait(self._wait_s)
