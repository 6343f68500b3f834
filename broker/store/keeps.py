"""What follows the end of an attempt: its log is kept before it goes, or the accounts are asked for it.

By backend, each of which does one of the two: ``<job>.<attempt>``, and when it is due.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from broker.store.connection import Client

Attempt = tuple[str, int]  # id of the job, number


@dataclass(frozen=True)
class Keeps:
    client: Client
    prefix: str

    def ask(self, backend: str, attempts: Collection[Attempt], now_ms: int) -> None:
        """One that is asked for already is due when it was."""
        if attempts:
            rows = {f"{job_id}.{number}": now_ms for job_id, number in attempts}
            self.client.zadd(self._key(backend), rows, nx=True)

    def due(self, backend: str, now_ms: int, limit: int) -> list[Attempt]:
        found = self.client.zrange(self._key(backend), "-inf", now_ms, byscore=True, offset=0, num=limit)
        parts = [one.decode().partition(".") for one in found]
        return [(job_id, int(number)) for job_id, _, number in parts]

    def later(self, backend: str, attempt: Attempt, at_ms: int) -> None:
        self.client.zadd(self._key(backend), {f"{attempt[0]}.{attempt[1]}": at_ms})

    def done(self, backend: str, attempt: Attempt) -> None:
        self.client.zrem(self._key(backend), f"{attempt[0]}.{attempt[1]}")

    def _key(self, backend: str) -> str:
        return f"{self.prefix}keeps:{backend}"
