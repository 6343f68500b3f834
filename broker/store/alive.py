"""Which processes are there: each says so again and again, and what it said is forgotten soon after.

``where`` is a host, whose processes are known by their pids; of log readers it is a backend.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.store.connection import Client


@dataclass(frozen=True)
class Alive:
    client: Client
    prefix: str

    def say(self, role: str, where: str, who: int | str, now_ms: int, for_ms: int) -> None:
        """It is there for so long, unless it says so again."""
        key = self._key(role, where)
        pipe = self.client.pipeline(transaction=True)
        pipe.zremrangebyscore(key, "-inf", now_ms)
        pipe.zadd(key, {str(who): now_ms + for_ms})
        pipe.pexpire(key, for_ms)
        pipe.execute()

    def take_back(self, role: str, where: str, who: int | str) -> None:
        """It goes; repeated calls do nothing."""
        self.client.zrem(self._key(role, where), str(who))

    def until_ms(self, role: str, where: str) -> int | None:
        """How long the last of this role there to say something is there; None: nobody ever was, or all have
        gone."""
        newest = self.client.zrange(self._key(role, where), -1, -1, withscores=True)
        return int(newest[0][1]) if newest else None

    def who(self, role: str, where: str, now_ms: int) -> tuple[str, ...]:
        """All of this role that are there now."""
        there = self.client.zrange(self._key(role, where), f"({now_ms}", "+inf", byscore=True)
        return tuple(sorted(one.decode() for one in there))

    def _key(self, role: str, where: str) -> str:
        return f"{self.prefix}alive:{role}:{where}"
