"""Which processes are there: each says so again and again, and what it said is forgotten soon after."""

from __future__ import annotations

from dataclasses import dataclass

from broker.store.connection import Client


@dataclass(frozen=True)
class Alive:
    client: Client
    prefix: str

    def say(self, role: str, host: str, pid: int, now_ms: int, for_ms: int) -> None:
        """It is there for so long, unless it says so again."""
        key = self._key(role, host)
        pipe = self.client.pipeline(transaction=True)
        pipe.zremrangebyscore(key, "-inf", now_ms)
        pipe.zadd(key, {str(pid): now_ms + for_ms})
        pipe.pexpire(key, for_ms)
        pipe.execute()

    def take_back(self, role: str, host: str, pid: int) -> None:
        """It goes; repeated calls do nothing."""
        self.client.zrem(self._key(role, host), str(pid))

    def until_ms(self, role: str, host: str) -> int | None:
        """How long the last of this role on this host to say something is there; None: nobody ever was, or
        all have gone."""
        newest = self.client.zrange(self._key(role, host), -1, -1, withscores=True)
        return int(newest[0][1]) if newest else None

    def _key(self, role: str, host: str) -> str:
        return f"{self.prefix}alive:{role}:{host}"
