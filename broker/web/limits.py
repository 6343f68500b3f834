"""Requests a token may make in a while, counted in the store for all API processes together.

The algorithm is that of the ``limits`` package.  A process takes its requests from the store in blocks of a
hundredth of the limit, so that not every request pays a round trip, and keeps what is left of a block for one
period of the limit: a slow client uses up what was counted for it.  The limit is exact to one block for each
process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from limits import parse
from limits.errors import StorageError
from limits.storage import storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from api_spec.errors import RateLimited, StoreUnavailable

KNOWN_COUNT = 10_000  # arbitrary; forgetting a block costs one round trip


@dataclass
class Block:
    left: int
    until: float


class RateLimit:
    def __init__(self, limit: str, storage_url: str, now: Callable[[], float] = time.monotonic) -> None:
        self.item = parse(limit)
        storage = storage_from_string(as_limits_says_it(storage_url), wrap_exceptions=True)
        self.counter = SlidingWindowCounterRateLimiter(storage)
        self.now = now
        self.size = max(1, self.item.amount // 100)
        self.blocks: dict[str, Block] = {}
        self.lock = threading.Lock()

    def count(self, token_id: str) -> None:
        """One more request; raises ``RateLimited`` with the seconds to wait."""
        with self.lock:
            block = self._usable(token_id)
            if block is not None:
                block.left -= 1
                return
        taken = self._take(token_id)
        with self.lock:
            if len(self.blocks) >= KNOWN_COUNT:
                self.blocks.clear()
            block = self._usable(token_id)
            if block is not None:
                block.left += taken - 1  # another thread found it empty at the same time, and was faster
            else:
                self.blocks[token_id] = Block(left=taken - 1, until=self.now() + self.item.get_expiry())

    def _usable(self, token_id: str) -> Block | None:
        block = self.blocks.get(token_id)
        return block if block is not None and block.left > 0 and self.now() < block.until else None

    def _take(self, token_id: str) -> int:
        """A whole block, or a single request where a block is too much."""
        try:
            for size in sorted({self.size, 1}, reverse=True):
                if self.counter.hit(self.item, token_id, cost=size):
                    return size
            wait_s = self.counter.get_window_stats(self.item, token_id).reset_time - time.time()
        except StorageError as error:
            raise StoreUnavailable("the state cannot be reached; nothing was changed") from error
        raise RateLimited(
            f"the token has used its {self.item.amount} requests per {self.item.get_expiry()} s",
            retry_after_s=max(1, min(round(wait_s + 0.5), self.item.get_expiry())),
        )


def as_limits_says_it(url: str) -> str:
    """``unix:///path`` is redis-py's word for what ``limits`` calls ``redis+unix:///path``."""
    return f"redis+{url}" if url.startswith("unix:") else url
