"""Pages of a log file, cut anywhere, without a gap or a repeat.  The only module that reads log files.

A cursor says which file (its inode), how far, and what stood right before (a checksum), so that a file that
was rotated or truncated is noticed.  What was rotated away to ``NAME.*`` is read to its end first.  A page
takes memory for itself only.  Paths are opened step by step without following links: a job owns its
directory and could point elsewhere.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from adapters.base import LogPage, LogQuery
from adapters.errors import BadLogQuery

TRIES = 3
REMEMBERED_BYTES = 64
"""Before the cursor; enough to tell a file that was truncated and grew again from one that just grew."""


@dataclass(frozen=True)
class Cursor:
    inode: int = 0  # 0: nothing read yet
    offset: int = 0
    checksum: int = 0

    def __str__(self) -> str:
        return f"{self.inode:x}-{self.offset:x}-{self.checksum:x}"


def parse(text: str | None) -> Cursor:
    if text is None:
        return Cursor()
    # No offset of 16 digits: the system takes 63 bits.
    if not re.fullmatch(r"[0-9a-f]{1,16}-[0-9a-f]{1,15}-[0-9a-f]{1,16}", text):
        raise BadLogQuery("the log cursor is not one that this backend gave")
    inode, offset, checksum = (int(part, 16) for part in text.split("-"))
    return Cursor(inode, offset, checksum)


def page(root: str, steps: tuple[str, ...], query: LogQuery, over: bool) -> LogPage:
    """``over``: whoever writes the log had ended before this call, so that its end is the end.

    ``root`` is trusted, the ``steps`` below it, folders and the file's name, are not.  Raises ``OSError`` and
    ``BadLogQuery``.
    """
    cursor = parse(query.cursor)
    for _ in range(TRIES):
        try:
            with _directory(root, steps[:-1]) as directory:
                return _page(_Log(directory, steps[-1]), cursor, query, over)
        except FileNotFoundError:  # or it was rotated while we looked
            continue
    note = "the log is gone" if cursor.inode else "nothing was written" if over else "it has not started yet"
    return LogPage(data=b"", cursor=str(cursor), at_end=True, complete=over, note=note)


@contextmanager
def _directory(root: str, steps: tuple[str, ...]) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    here = os.open(root, flags)
    try:
        for step in steps:
            below = os.open(step, flags | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


@contextmanager
def _file(name: str, directory: int) -> Iterator[int]:
    """A plain file only: no link, no pipe that would block."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{name} is not a plain file")
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class _Log:
    directory: int  # open
    name: str


def _page(log: _Log, cursor: Cursor, query: LogQuery, over: bool) -> LogPage:
    """Of the file that the cursor names, or of the first after it that has more."""
    names, notes = _oldest_first(log.directory, log.name), []
    place = _place_of(log.directory, names, cursor, query)
    if place is None:
        notes.append("the log was replaced; what was left of the old one is gone")
        place, cursor = len(names) - 1, Cursor()
    for name in names[place:]:
        last = name == log.name
        with _file(name, log.directory) as descriptor:
            cursor = _start_in(descriptor, cursor, query, notes)
            found = _read(descriptor, cursor, query.limit_bytes, over or not last)
        if found.data or last:
            break
        cursor = parse(found.cursor)
    note = "; ".join(notes) or None
    return replace(found, note=note, at_end=found.at_end and last, complete=found.complete and last)


def _start_in(descriptor: int, cursor: Cursor, query: LogQuery, notes: list[str]) -> Cursor:
    """Where to read on in a file; what happened to it is noted."""
    status = os.fstat(descriptor)
    if cursor.inode not in (0, status.st_ino):
        notes.append("the log was rotated")
        return Cursor()
    if cursor.inode and not _continues(descriptor, cursor):
        notes.append("the log was truncated; it goes on from its new start")
        return Cursor()
    if query.cursor is None and query.tail_bytes is not None:
        return Cursor(offset=max(0, status.st_size - query.tail_bytes))
    return cursor


def _oldest_first(directory: int, log: str) -> list[str]:
    """``stdout.2``, ``stdout.1``, ``stdout``; or by date, where the names end with dates."""
    rotated = [name for name in os.listdir(directory) if name.startswith(f"{log}.")]
    rotated.sort(key=lambda name: (_is_a_count(name), -_count(name), name))
    return [*rotated, log]


def _is_a_count(name: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", name.rpartition(".")[2]) is not None


def _count(name: str) -> int:
    return int(name.rpartition(".")[2]) if _is_a_count(name) else 0


def _place_of(directory: int, names: list[str], cursor: Cursor, query: LogQuery) -> int | None:
    """Where in the sequence to read; None when the file of the cursor is no more."""
    if cursor.inode == 0:
        wants_the_end = query.cursor is None and query.tail_bytes is not None
        return len(names) - 1 if wants_the_end else 0
    for place, name in enumerate(names):
        if os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == cursor.inode:
            return place
    return None


def _checksum(descriptor: int, offset: int) -> int:
    start = max(0, offset - REMEMBERED_BYTES)
    return zlib.crc32(os.pread(descriptor, offset - start, start))


def _continues(descriptor: int, cursor: Cursor) -> bool:
    """What was read before still stands before the cursor."""
    long_enough = os.fstat(descriptor).st_size >= cursor.offset
    return long_enough and _checksum(descriptor, cursor.offset) == cursor.checksum


def _read(descriptor: int, cursor: Cursor, limit_bytes: int, over: bool) -> LogPage:
    status = os.fstat(descriptor)
    data = os.pread(descriptor, max(1, limit_bytes), cursor.offset)
    beyond = cursor.offset + len(data)
    at_end = beyond >= status.st_size
    if not (at_end and over):
        data = without_half_a_character(data)
    offset = cursor.offset + len(data)
    after = Cursor(status.st_ino, offset, _checksum(descriptor, offset))
    return LogPage(data=data, cursor=str(after), at_end=at_end, complete=at_end and over)


def without_half_a_character(data: bytes) -> bytes:
    """UTF-8 that is cut in its last character loses its beginning, unless nothing else would be left."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:  # inside a character
            continue
        length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
        whole = length <= back or byte >= 0xF8
        return data if whole or back == len(data) else data[:-back]
    return data
