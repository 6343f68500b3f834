"""What is known of each backend: its last snapshot, how fresh, and what operators and the breaker say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.store.changes import Live
from broker.store.connection import Client
from broker.store.jobs import texts
from broker.store.scripts import Scripts

BREAKER_AFTER = 3  # failures in a row; fewer may be chance
BREAKER_BASE_S = 2.0
BREAKER_MAX_S = 60.0


@dataclass(frozen=True, kw_only=True)
class BackendRecord:
    """The hash ``backend:<name>``.  Times in milliseconds of Redis' clock."""

    name: str
    type: str = ""
    inventory: Mapping[str, Any] | None = None
    load: Mapping[str, Any] | None = None
    snapshot_at: int | None = None
    seen_at: int | None = None  # last complete pass
    watched_until: int | None = None  # None: there never was a watch
    reachable: bool | None = None
    message: str | None = None
    drained: bool = False
    paused: bool = False
    failures: int = 0
    not_before: int = 0  # the breaker is open until then
    assigned: int = 0  # placements since the snapshot

    def is_watched(self, now: float) -> bool:
        """A watch answers for it: no change goes unnoticed."""
        return self.watched_until is not None and self.watched_until > now * 1000


@dataclass(frozen=True)
class Backends:
    client: Client
    scripts: Scripts
    prefix: str

    def names(self) -> tuple[str, ...]:
        """Every backend that was ever configured."""
        return tuple(sorted(name.decode() for name in self.client.smembers(f"{self.prefix}backends")))

    def declare(self, name: str, kind: str) -> None:
        self.client.sadd(f"{self.prefix}backends", name)
        self.client.hset(self._key(name), "type", kind)

    def read(self, name: str) -> BackendRecord:
        return self.read_many((name,))[0]

    def read_many(self, names: tuple[str, ...]) -> tuple[BackendRecord, ...]:
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.hgetall(self._key(name))
        return tuple(_record(name, texts(raw)) for name, raw in zip(names, pipe.execute(), strict=True))

    def silent(self) -> dict[str, str]:
        """Those that do not answer now, each with what was said of it."""
        names = self.names()
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.hmget(self._key(name), "reachable", "message")
        told = zip(names, pipe.execute(), strict=True)
        return {name: (said or b"").decode() for name, (reachable, said) in told if reachable == b"0"}

    # ---- what the workers found ----------------------------------------------------------------------

    def put_snapshot(self, name: str, snapshot: Mapping[str, str], now_ms: int, next_in_s: float) -> None:
        """``snapshot``: inventory and load as JSON.  The count of what was assigned since begins anew."""
        values = {**snapshot, "snapshot_at": str(now_ms), "refresh_at": str(now_ms + int(next_in_s * 1000))}
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(self._key(name), mapping=dict(values))
        pipe.hdel(self._key(name), "assigned")
        pipe.execute()

    def postpone(self, name: str, field_name: str, at_ms: int) -> None:
        """``field_name``: observe_at or refresh_at."""
        self.client.hset(self._key(name), field_name, str(at_ms))

    def rest(self, name: str, at_ms: int, watched_at_ms: int) -> None:
        """The next pass comes then, or later while a watch tells what changes there."""
        times = {"observe_at": str(at_ms), "observe_watched_at": str(watched_at_ms)}
        self.client.hset(self._key(name), mapping=times)

    def watched(self, name: str, until_ms: int) -> None:
        """Until then its watch answers for it that no change goes unnoticed; 0: it does not any more."""
        self.client.hset(self._key(name), "watched_until", str(until_ms))

    def answered(self, name: str, seen_at_ms: int | None = None) -> bool:
        """The backend answered: the breaker closes.  ``seen_at_ms``: a complete pass began then.

        True when it had not been known to be reachable before.
        """
        values = {"reachable": "1", "failures": "0", "not_before": "0"}
        if seen_at_ms is not None:
            values["seen_at"] = str(seen_at_ms)
        pipe = self.client.pipeline(transaction=True)
        pipe.hget(self._key(name), "reachable")
        pipe.hset(self._key(name), mapping=dict(values))
        pipe.hdel(self._key(name), "message")
        before, *_ = pipe.execute()
        return bool(before != b"1")

    def failed(self, name: str, message: str, now_ms: int) -> bool:
        """The backend did not answer; after a few times in a row it is left alone for a while.

        True when it had not been known to be down before.
        """
        failures = int(self.client.hincrby(self._key(name), "failures", 1))
        values = {"reachable": "0", "message": message[:500]}
        if failures >= BREAKER_AFTER:
            pause_s = min(BREAKER_MAX_S, BREAKER_BASE_S * 2 ** min(failures - BREAKER_AFTER, 10))
            values["not_before"] = str(now_ms + int(pause_s * 1000))
        pipe = self.client.pipeline(transaction=True)
        pipe.hget(self._key(name), "reachable")
        pipe.hset(self._key(name), mapping=dict(values))
        before, *_ = pipe.execute()
        return bool(before != b"0")

    # ---- what operators say --------------------------------------------------------------------------

    def set_flags(self, name: str, **flags: bool) -> None:
        """``drained`` and ``paused``; one that is not named stays as it is."""
        pipe = self.client.pipeline(transaction=True)
        for flag, on in flags.items():
            if on:
                pipe.hset(self._key(name), flag, "1")
            else:
                pipe.hdel(self._key(name), flag)
        pipe.execute()

    # ---- what is live there --------------------------------------------------------------------------

    def live(self, name: str) -> dict[str, Live]:
        """Job -> what an observer needs to ask for its attempt."""
        raw = self.client.hgetall(f"{self.prefix}live:{name}")
        return {job_id.decode(): Live.load(text.decode()) for job_id, text in raw.items()}

    def live_of(self, name: str, job_ids: Sequence[str]) -> dict[str, Live]:
        """The same of these; one that is not live there is left out."""
        raw = self.client.hmget(f"{self.prefix}live:{name}", list(job_ids)) if job_ids else ()
        found = zip(job_ids, raw, strict=True) if job_ids else ()
        return {job_id: Live.load(text.decode()) for job_id, text in found if text is not None}

    def live_ids(self, name: str) -> list[str]:
        return [job_id.decode() for job_id in self.client.hkeys(f"{self.prefix}live:{name}")]

    def live_count(self, name: str) -> int:
        return int(self.client.hlen(f"{self.prefix}live:{name}"))

    def change_live(self, name: str, job_id: str, before: Live, after: Live | None) -> bool:
        """Only while the entry is still what the observer has read; None removes it."""
        request = {"backend": name, "id": job_id, "before": before.dump()}
        if after is not None:
            request["after"] = after.dump()
        return bool(self.scripts.run("live", request))

    def _key(self, name: str) -> str:
        return f"{self.prefix}backend:{name}"


def _record(name: str, raw: Mapping[str, str]) -> BackendRecord:
    def number(key: str) -> int | None:
        return int(raw[key]) if key in raw else None

    return BackendRecord(
        name=name,
        type=raw.get("type", ""),
        inventory=json.loads(raw["inventory"]) if "inventory" in raw else None,
        load=json.loads(raw["load"]) if "load" in raw else None,
        snapshot_at=number("snapshot_at"),
        seen_at=number("seen_at"),
        watched_until=number("watched_until"),
        reachable={"1": True, "0": False}.get(raw.get("reachable", "")),
        message=raw.get("message"),
        drained=raw.get("drained") == "1",
        paused=raw.get("paused") == "1",
        failures=number("failures") or 0,
        not_before=number("not_before") or 0,
        assigned=number("assigned") or 0,
    )
