"""The store as one object: its parts, its clock, its incarnation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from api_spec.errors import InvalidConfiguration
from broker.store.alive import Alive
from broker.store.archive import Archive
from broker.store.asks import Asks
from broker.store.backends import Backends
from broker.store.connection import (
    RECORD_VERSIONS,
    Client,
    FullGuard,
    connect,
    errors_in_our_words,
    is_durable,
    refuse_unfit_server,
)
from broker.store.events import Events
from broker.store.idempotency import IdempotencyKeys
from broker.store.index import Index
from broker.store.jobs import Jobs, texts
from broker.store.keeps import Keeps
from broker.store.leases import Leases
from broker.store.scripts import Scripts
from broker.store.tokens import TokenRecords
from broker.store.usages import Usages

COUNTERS = (
    "drains",
    "drain_failures",
    "logs_not_kept",
    "observe_failures",
    "stale_writes",  # refused by their epoch
    "unknown_words",
    "watch_failures",
)


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    prefix: str = "wb:"
    instance: str = "dev"
    allow_volatile: bool = False
    events_kept: int = 10_000
    retention_s: float = 30 * 86400.0
    sweep_s: float = 5.0


class Clock:
    """Redis' time, asked once a minute and carried on by the local monotonic clock in between."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._offset = 0.0
        self._asked_at = float("-inf")

    def now(self) -> float:
        """Seconds since the epoch."""
        local = time.monotonic()
        if local - self._asked_at > 60:
            seconds, micros = self._client.time()
            self._offset = seconds + micros / 1e6 - local
            self._asked_at = local
        return local + self._offset


class Store:
    def __init__(self, client: Client, options: StoreOptions) -> None:
        self.client = client
        self.options = options
        prefix = options.prefix
        self.prefix = prefix
        hint_ms, retention_ms = int(options.sweep_s * 1000), int(options.retention_s * 1000)
        self.scripts = Scripts(client, prefix)
        self.jobs = Jobs(client, self.scripts, prefix, hint_ms, retention_ms)
        self.idempotency = IdempotencyKeys(client, prefix)
        self.archive = Archive(client, self.scripts, prefix)
        self.index = Index(client, self.jobs, prefix)
        self.events = Events(client, prefix, options.events_kept)
        self.backends = Backends(client, self.scripts, prefix)
        self.leases = Leases(client, self.scripts, prefix, hint_ms, retention_ms)
        self.tokens = TokenRecords(client, prefix, self.events)
        self.alive = Alive(client, prefix)
        self.asks = Asks(client, self.scripts, self.alive, prefix)
        self.keeps = Keeps(client, prefix)
        self.usages = Usages(client, self.scripts, prefix)
        self.clock = Clock(client)
        self._run_id = ""  # of the server, when it was last looked at
        self._incarnation_began = 0.0
        self.full = FullGuard(client)

    # ---- what the whole store is ---------------------------------------------------------------------

    def prepare(self) -> None:
        """Called once by each process at its start.  Raises when this server or this release is not fit."""
        refuse_unfit_server(self.client, self.options.allow_volatile)
        self._agree_on_versions()
        limits = {
            "events_kept": str(self.options.events_kept),
            "retention_ms": str(int(self.options.retention_s * 1000)),
        }
        self.client.hset(f"{self.prefix}limits", mapping=dict(limits))
        self.notice_restart()

    def _agree_on_versions(self) -> None:
        key = f"{self.prefix}meta"
        self.client.hsetnx(key, "v_max", str(RECORD_VERSIONS[1]))
        self.client.hsetnx(key, "instance", self.options.instance)
        meta = self.meta()
        if int(meta["v_max"]) > RECORD_VERSIONS[1]:
            raise InvalidConfiguration(
                f"the store holds records of version {meta['v_max']}; "
                f"this release reads up to {RECORD_VERSIONS[1]}: use a newer broker"
            )
        if meta["instance"] != self.options.instance:
            raise InvalidConfiguration(
                f"the store belongs to the instance {meta['instance']}, not {self.options.instance}"
            )

    def notice_restart(self) -> bool:
        """A server that may have lost writes begins a new incarnation.  True when it has just begun."""
        pipe = self.client.pipeline(transaction=False)
        pipe.info("server")
        pipe.hget(f"{self.prefix}meta", "incarnation_began")
        info, began = pipe.execute()
        self._incarnation_began = int(began or 0) / 1000
        run_id = str(info.get("run_id", ""))
        if run_id == self._run_id:
            return False
        return self._incarnate(run_id)

    def begin_incarnation(self) -> None:
        """After an import: attempts are looked up before they are sent."""
        self._incarnate(str(self.client.info("server").get("run_id", "")), anyhow=True)

    def _incarnate(self, run_id: str, anyhow: bool = False) -> bool:
        request = {"run_id": run_id, "durable": is_durable(self.client), "anyhow": anyhow}
        is_new = bool(self.scripts.run("incarnation", request))
        self._run_id = run_id
        self._incarnation_began = int(self.client.hget(f"{self.prefix}meta", "incarnation_began") or 0) / 1000
        return is_new

    def meta(self) -> Mapping[str, str]:
        return texts(self.client.hgetall(f"{self.prefix}meta"))

    def incarnation_began(self) -> float:
        """Seconds since the epoch, as of the last ``notice_restart``: what is older is looked up before it is
        sent for the first time."""
        return self._incarnation_began

    def count(self, name: str, by: int = 1) -> None:
        self.client.hincrby(f"{self.prefix}counters", name, by)

    def swept(self) -> None:
        """The sweeper has done its round."""
        self.client.hset(f"{self.prefix}meta", "swept_at", str(int(self.now() * 1000)))

    def swept_at(self) -> float | None:
        """Seconds since the epoch; None: no sweeper has ever been there."""
        raw = self.client.hget(f"{self.prefix}meta", "swept_at")
        return None if raw is None else int(raw) / 1000

    def counters(self) -> dict[str, int]:
        return {
            name: int(value) for name, value in texts(self.client.hgetall(f"{self.prefix}counters")).items()
        }

    def now(self) -> float:
        return self.clock.now()

    def projects(self) -> tuple[str, ...]:
        """Every project that ever had an event."""
        return tuple(sorted(name.decode() for name in self.client.hkeys(f"{self.prefix}sequences")))

    def due_counts(self, now_ms: int) -> dict[str, int]:
        """Queue -> how many jobs are overdue in it."""
        out = {}
        for queue in (
            f"{lane}:{name}" for name in (*self.backends.names(), "-") for lane in ("submit", "act")
        ):
            projects = self.client.zrange(f"{self.prefix}turns:{queue}", 0, -1)
            out[queue] = sum(
                self.client.zcount(f"{self.prefix}due:{queue}:{project.decode()}", "-inf", now_ms)
                for project in projects
            )
        return out

    def close(self) -> None:
        self.client.close()


def open_store(url: str, options: StoreOptions) -> Store:
    """Connect, check that the server is fit, and agree with the other processes on the store's version."""
    with errors_in_our_words():
        store = Store(connect(url), options)
        store.prepare()
        return store
