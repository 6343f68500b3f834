"""How many requests of this process may sit and wait: each open stream and each wait holds a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable

from api_spec.errors import TooManyStreams


class Slots:
    """``is_stopping`` is asked by whoever sits in a slot, so that a graceful stop does not wait for it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = threading.BoundedSemaphore(count)
        self.is_stopping: Callable[[], bool] = lambda: False

    def take(self) -> bool:
        """Never waits."""
        return self.free.acquire(blocking=False)

    def take_or_refuse(self) -> None:
        if not self.take():
            raise TooManyStreams(f"{self.count} streams and waits are open here; read by page, or come back")

    def give_back(self) -> None:
        self.free.release()
