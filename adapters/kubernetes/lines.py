"""An answer that goes on, line by line: a watch.  Knows no library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any

from adapters.kubernetes.errors import NoAnswer

CHUNK = 64 * 1024
LONGEST_LINE = 16 * 1024**2
"""More than an API server keeps of any object."""


class Lines:
    """Each as soon as it is there.  A last one without its end is not told."""

    def __init__(self, response: Any, in_our_words: Callable[[], AbstractContextManager[None]]) -> None:
        """``response``: of urllib3, whose errors are told ``in_our_words``."""
        self._response = response
        self._in_our_words = in_our_words

    def __iter__(self) -> Iterator[bytes]:
        kept = b""
        with self._in_our_words():
            for chunk in self._response.stream(CHUNK):
                *whole, kept = (kept + chunk).split(b"\n")
                yield from filter(None, whole)
                if len(kept) > LONGEST_LINE:
                    raise NoAnswer(f"a line of more than {LONGEST_LINE} bytes")

    def shut(self) -> None:
        """By another thread: whoever reads comes to an end at once."""
        with suppress(ValueError, RuntimeError, OSError):  # it has ended already
            self._response.shutdown()

    def close(self) -> None:
        """Whatever has not been read is not wanted any more."""
        self._response.close()
