"""The agent's waiting: a byte in the wake pipe, the death of a process it watches, or a moment in time."""

from __future__ import annotations

import os
import selectors
from contextlib import suppress

from adapters.local import processes, wake


class Watch:
    """Processes by a key of the caller's.  A watched process that dies is reported once, and reaped."""

    def __init__(self, wake_path: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake = wake.make(wake_path)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._watched: dict[str, tuple[int, int]] = {}  # key -> pid file descriptor, pid

    def close(self) -> None:
        for key in list(self._watched):
            self._forget(key)
        self._selector.close()
        os.close(self._wake)

    def __contains__(self, key: str) -> bool:
        return key in self._watched

    def pids(self) -> set[int]:
        return {pid for _, pid in self._watched.values()}

    def add_child(self, key: str, pid: int) -> None:
        self._register(key, os.pidfd_open(pid), pid)

    def add(self, key: str, pid: int, born: int, boot: str) -> bool:
        """A process that some earlier agent started; False when it is gone."""
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            return False
        if not processes.is_alive(pid, born, boot):
            os.close(handle)
            return False
        self._register(key, handle, pid)
        return True

    def _register(self, key: str, handle: int, pid: int) -> None:
        self._selector.register(handle, selectors.EVENT_READ, key)
        self._watched[key] = (handle, pid)

    def _forget(self, key: str) -> None:
        handle, pid = self._watched.pop(key)
        self._selector.unregister(handle)
        os.close(handle)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    def wait(self, timeout_s: float | None) -> list[str]:
        """The keys of those that died; empty for anything else that happened."""
        dead = [key.data for key, _ in self._selector.select(timeout_s) if key.data is not None]
        wake.drain(self._wake)
        for key in dead:
            self._forget(key)
        return dead
