"""One owner for a directory.  A kernel lock, not a pid file: no kill, however rude, leaves it behind.

It is held by whoever has the open file, children that inherit it included, and ends with the last of them.
The pid inside is for people and for messages; nobody decides by it.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from api_spec.errors import Conflict

RETRY_S = 0.05


class DirectoryLock:
    def __init__(self, path: Path, what: str) -> None:
        """``what`` names the owner in the message for the one who comes second."""
        self.path = path
        self.what = what
        self._file: int | None = None

    def acquire(self, patience_s: float = 0.0) -> None:
        """Raises ``Conflict`` while somebody holds it."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give_up_at = time.monotonic() + patience_s
        while not _locked(file):
            if time.monotonic() > give_up_at:
                os.close(file)
                raise Conflict(
                    f"{self.what} already runs in {self.path.parent} (process {self.holder() or '?'})"
                )
            time.sleep(RETRY_S)
        self._file = file
        self.name_holder(os.getpid())

    def fileno(self) -> int:
        """For a child that is to hold the lock too.  Only while it is held."""
        if self._file is None:
            raise ValueError(f"{self.path} is not held")
        return self._file

    def name_holder(self, pid: int) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, str(pid).encode(), 0)

    def holder(self) -> int | None:
        """The pid that was written last, whether it lives or not."""
        try:
            return int(self.path.read_text())
        except (OSError, ValueError):
            return None

    def is_held(self) -> bool:
        """By anybody, in any process."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _locked(file)
        finally:
            os.close(file)

    def release(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
