"""Who may do what alone: fenced leases, slots with a cap, and the marks of outstanding hints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.store.connection import Client
from broker.store.scripts import Scripts


@dataclass(frozen=True)
class Leases:
    client: Client
    scripts: Scripts
    prefix: str
    hint_ms: int  # a hint that was lost is sent again after this long
    retention_ms: int

    def acquire(self, name: str, holder: str, seconds: float) -> int | None:
        """The epoch that this holder's writes must carry; None while somebody else holds it.  Renews, too."""
        request = {"name": name, "holder": holder, "ms": int(seconds * 1000)}
        return int(self.scripts.run("lease", request)) or None

    def release(self, name: str, holder: str) -> None:
        self.scripts.run("lease", {"name": name, "holder": holder, "ms": 0, "release": True})

    def tick(self, backends: Sequence[str], others: Sequence[str]) -> list[str]:
        """What is overdue and not hinted yet: 'drain:<backend>', 'observe:...', 'refresh:...', 'release' ...

        ``others``: queues of no configured backend, whose jobs are to be decided anew.
        """
        request = {"backends": list(backends), "others": list(others)}
        limits = {"hint_ms": self.hint_ms, "retention_ms": self.retention_ms}
        return [hint.decode() for hint in self.scripts.run("tick", {**request, **limits})]

    def hint(self, name: str) -> bool:
        """Mark a hint as outstanding; False when one is already."""
        return bool(self.client.set(f"{self.prefix}hint:{name}", "1", nx=True, px=self.hint_ms))

    def hint_taken(self, name: str) -> None:
        """Called by whoever acts on it, first: what becomes due from now on needs a new one."""
        self.client.delete(f"{self.prefix}hint:{name}")

    def take_slot(self, name: str, holder: str, cap: int, seconds: float) -> bool:
        """At most ``cap`` holders at once; a slot whose holder died is free again after ``seconds``."""
        request = {"name": name, "holder": holder, "cap": cap, "ms": int(seconds * 1000)}
        return bool(self.scripts.run("slot", request))

    def leave_slot(self, name: str, holder: str) -> None:
        self.client.zrem(f"{self.prefix}slots:{name}", holder)
