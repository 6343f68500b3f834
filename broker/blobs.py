"""What is too large for Redis and too small for a service of its own: named bytes that all processes see.

A directory by default, ``blob_dir``, which API processes and workers share: one file a blob, readable by the
broker's user alone.

    blob_dir/01JAB/01JABCDEFGHJKMNPQRSTVWXYZ0.1.log     of a job's attempt; the first letters of a job's id
                                                        change every nine hours, so that no folder grows large
    blob_dir/01JAB/.01JABCDEFGHJKMNPQRSTVWXYZ0.1.log-x  being written
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

NAME = re.compile(r"[0-9A-Z]{26}\.[0-9]{1,6}\.[a-z]{1,16}")
LOOK_EVERY_S = 3600.0
FOLDER = 5
"""Letters of an id that name a folder."""


class Blobs(Protocol):
    """Every method raises ``OSError``.  A name is ``<job id>.<attempt>.<what>``."""

    def get(self, name: str) -> bytes | None: ...

    def put(self, name: str, data: bytes) -> None:
        """Whole or not at all, whoever reads meanwhile."""

    def drop(self, job_id: str) -> None:
        """All of a job."""

    def drop_older(self, seconds: float) -> int:
        """How many went that nobody has written to for so long, of jobs that were forgotten elsewhere.  It
        looks at all there are, so only now and then."""

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Within it nobody else who asks for it writes this blob: for a change of what is there."""


class Nowhere:
    """Nothing is kept."""

    def get(self, name: str) -> bytes | None:
        return None

    def put(self, name: str, data: bytes) -> None: ...

    def drop(self, job_id: str) -> None: ...

    def drop_older(self, seconds: float) -> int:
        return 0

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        yield


class Directory:
    def __init__(self, root: Path) -> None:
        """Made when the first blob is written."""
        self.root = root
        self._looked_at = float("-inf")

    def get(self, name: str) -> bytes | None:
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        with tempfile.NamedTemporaryFile(dir=self._made(path), prefix=f".{name}-", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a file that a power cut leaves may be empty
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    def drop(self, job_id: str) -> None:
        folder = self._path(f"{job_id}.1.log").parent
        with suppress(FileNotFoundError):
            for one in sorted(folder.glob(f"{job_id}.*")):
                one.unlink(missing_ok=True)
            _remove_if_empty(folder)

    def drop_older(self, seconds: float) -> int:
        if time.monotonic() - self._looked_at < LOOK_EVERY_S:
            return 0
        self._looked_at = time.monotonic()
        gone, before = 0, time.time() - seconds
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            for one in sorted(folder.iterdir()) if folder.is_dir() else ():
                with suppress(FileNotFoundError):
                    if one.stat().st_mtime < before:
                        one.unlink()
                        gone += 1
            _remove_if_empty(folder)
        return gone

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """The whole folder: a write is short."""
        folder = os.open(self._made(self._path(name)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a blob")
        return self.root / name[:FOLDER] / name

    def _made(self, path: Path) -> Path:
        for folder in (self.root, path.parent):  # parents that mkdir makes by itself get no mode
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path.parent


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
