"""The fake's ledger: JSON lines, appended before the answer; the only module that opens the file.

Each entry has ``at`` (seconds since the epoch) and ``event``; most have ``id`` and ``marker``:

    accept  script      cancel                  hold, release       advance    seconds
    start   restart     requeue  start_s        update   script     reuse_ids  first
    finish  word ...    finish_task  index ...  forget              say        word
    may_start   hold_back
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """Each entry is one write, so that a kill leaves whole lines behind."""

    def __init__(self, path: Path, fsync: bool = False) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._fsync = fsync

    def write(self, entry: dict[str, Any]) -> None:
        os.write(self._file, (json.dumps(entry) + "\n").encode())
        if self._fsync:
            os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """Oldest first; a ledger that is not there yet is empty."""
    if not path.exists():
        return
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may be cut by a crash of the machine
            yield json.loads(line)
