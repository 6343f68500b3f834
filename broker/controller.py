"""The controller: it wakes what is overdue and sweeps what is over.  Any number of them may run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from api_spec.errors import StoreUnavailable
from broker.lifecycle.broker import Broker

TICK_S = 0.5  # how late a due time may be noticed; one script call each

log = logging.getLogger("broker.controller")


class Controller:
    def __init__(
        self, broker: Broker, sweep_s: float, tick_s: float = TICK_S, beat: Callable[[], object] = bool
    ) -> None:
        """``beat`` is called after each tick that went well."""
        self.broker = broker
        self.beat = beat
        self.sweep_s = sweep_s
        self.tick_s = min(tick_s, sweep_s)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Returns after ``stop``.  A store that does not answer is waited for."""
        next_sweep = time.monotonic()
        while not self._stop.wait(self.tick_s):
            if self._outlive(self.broker.tick):
                self._outlive(self.beat)
            if time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + self.sweep_s
                self._outlive(self.broker.sweep)

    def _outlive(self, step: Callable[[], object]) -> bool:
        """Whether it went well."""
        try:
            step()
            return True
        except StoreUnavailable as error:
            log.warning("the controller waits: %s", error)
        except Exception:
            # The last loop of the process: what is overdue is tried again with the next tick.
            log.exception("a step of the controller failed")
        return False
