"""One look for all who want to see the same: whoever asks for what is being fetched gets that answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Fetch(Generic[T]):
    began_at: float
    answer: Future[T] = field(default_factory=Future)


class Shared(Generic[T]):
    """An answer is good for ``keep_s`` from the moment when it was asked for; an error only for those who
    wait for it."""

    def __init__(self, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._fetches: dict[Hashable, _Fetch[T]] = {}

    def get(self, key: Hashable, fetch: Callable[[], T]) -> T:
        """Raises what ``fetch`` raises."""
        with self._lock:
            self._forget_old_ones()
            shared = self._fetches.get(key)
            if shared is not None:
                mine = None
            else:
                mine = shared = self._fetches[key] = _Fetch(self._clock())
        if mine is not None:
            self._fetch(key, mine, fetch)
        return shared.answer.result()

    def _fetch(self, key: Hashable, mine: _Fetch[T], fetch: Callable[[], T]) -> None:
        try:
            answer = fetch()
        except BaseException as error:  # also what is not ours to catch: others wait for it
            with self._lock:
                self._fetches.pop(key, None)
            mine.answer.set_exception(error)
            raise
        mine.answer.set_result(answer)

    def _forget_old_ones(self) -> None:
        """Called with the lock held.  What is under way is not old."""
        limit = self._clock() - self._keep_s
        old = [key for key, one in self._fetches.items() if one.answer.done() and one.began_at <= limit]
        for key in old:
            del self._fetches[key]
