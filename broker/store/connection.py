"""The way to Redis, and what a server must be before the broker trusts it with jobs."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from api_spec.errors import InvalidConfiguration, StoreUnavailable

log = logging.getLogger(__name__)

Client = Any
"""A ``redis.Redis``.  Its own annotations are unions over both protocols and both decodings, of which one is
true here (bytes); checking against all of them would need a cast at each call."""

RECORD_VERSIONS = (1, 1)  # the oldest and the newest record that this release reads
FLOOR = (7, 0)
FULL_AT = 0.85  # of maxmemory: new jobs are refused, so that observing and cancelling go on

OPTIONS: Mapping[str, Any] = {  # all that redis-py 8 changed its mind about, none is left to a default
    "max_connections": 2**31,  # it would be 100, and threads that rest hold one each
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "health_check_interval": 15,
    # Not what was not answered in time: whoever asked has waited long enough, and the server hangs.
    "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), 3, supported_errors=(redis.ConnectionError,)),
    "retry_on_error": [redis.ConnectionError],
    "legacy_responses": True,
    "decode_responses": False,
}


PROBE_S = 1.0  # load balancers wait no longer


def connect(url: str) -> Client:
    """Raises ``InvalidConfiguration`` for a cluster.  Connects when it is first asked something."""
    if "cluster" in url.partition("://")[0]:
        raise InvalidConfiguration("Redis Cluster cannot be used: Celery has no transport for it")
    return redis.Redis.from_pool(KeptByThreads.from_url(url, **OPTIONS))


def probe(client: Client) -> None:
    """Raises ``redis.RedisError`` unless the server answers at once, over a connection of its own."""
    options = client.connection_pool.connection_kwargs
    quick = {"socket_timeout": PROBE_S, "socket_connect_timeout": PROBE_S, "retry": Retry(NoBackoff(), 0)}
    connection = client.connection_pool.connection_class(**{**options, **quick, "retry_on_error": []})
    try:
        connection.connect()
        connection.send_command("PING")
        connection.read_response()
    finally:
        connection.disconnect()


class KeptByThreads(redis.ConnectionPool):
    """A thread keeps the connection that it gives back, until it ends.

    To lend one out anew, the library polls its socket and counts it in four places, which costs a third of
    the command.  Whether the connection still stands is found out as in the midst of any use: a command
    that it does not carry is sent again, and one that has rested is tried with a PING before.  One that is
    given back by an exception may have an answer coming that nobody waits for, and is closed: the library
    looks whether one has come, which does not tell whether one will.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._of = threading.local()
        super().__init__(*args, **options)

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        connection = self._lent()
        if (handled := sys.exc_info()[1]) is not None:  # who handles one may ask the store meanwhile
            self._of.__dict__.setdefault("handled", {})[id(connection)] = handled
        return connection

    def _lent(self) -> Any:
        kept = self._of.__dict__.pop("kept", None)
        if kept is not None and (connection := kept.taken()) is not None:
            return connection
        return super().get_connection()

    def release(self, connection: Any) -> None:
        kept = self._of.__dict__.get("kept")
        error = sys.exc_info()[1]
        if error is self._of.__dict__.get("handled", {}).pop(id(connection), None):
            error = None
        if error is not None and not isinstance(error, redis.ResponseError):  # which is an answer, read whole
            connection.disconnect()
        if kept is None and error is None:
            self._of.kept = _Kept(super().release, connection)
        elif kept is None or not kept.has(connection):
            super().release(connection)


class _Kept:
    """Given back to all when the thread ends, whose locals end with it."""

    def __init__(self, release: Callable[[Any], None], connection: Any) -> None:
        self._release = release
        self._connection = connection

    def has(self, connection: Any) -> bool:
        return self._connection is connection

    def taken(self) -> Any:
        """None: in the process that it was made in, which this was forked from."""
        connection, self._connection = self._connection, None
        return connection if connection.pid == os.getpid() else None

    def __del__(self) -> None:
        if self._connection is not None and self._connection.pid == os.getpid():
            self._release(self._connection)


@contextmanager
def errors_in_our_words() -> Iterator[None]:
    """Nothing of redis-py leaves the store, except as ``__cause__``."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as error:
        raise StoreUnavailable("the store is full") from error
    except redis.RedisError as error:
        raise StoreUnavailable(f"the store does not answer as it should: {error}") from error


def refuse_unfit_server(client: Client, allow_volatile: bool) -> None:
    """Raises ``InvalidConfiguration`` with all that is wrong; ``allow_volatile`` forgives volatility."""
    info: dict[str, Any] = client.info()
    faults = []
    version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if version < FLOOR:
        faults.append(f"its version is {info['redis_version']}; 7.0 or later is needed")
    if info.get("cluster_enabled"):
        faults.append("it runs in cluster mode")
    if info.get("maxmemory_policy", "noeviction") != "noeviction":
        faults.append(f"maxmemory-policy is {info['maxmemory_policy']}; only noeviction keeps jobs")
    volatile = not info.get("aof_enabled")
    if volatile and not allow_volatile:
        faults.append("appendonly is off, so a restart loses jobs; --allow-volatile accepts that")
    if faults:
        raise InvalidConfiguration("the Redis server cannot be used: " + "; ".join(faults))
    if volatile:
        log.warning("the Redis server has appendonly off: a restart of it loses jobs that were accepted")


def is_durable(client: Client) -> bool:
    """Does every acknowledged write survive a crash?  Unknown (CONFIG forbidden) counts as no."""
    try:
        settings = client.config_get("append*")
    except redis.ResponseError:
        return False
    plain = {_text(name): _text(value) for name, value in settings.items()}
    return plain.get("appendonly") == "yes" and plain.get("appendfsync") == "always"


class FullGuard:
    """Looks at ``maxmemory`` at most once a second."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._looked_at = 0.0
        self._full: str | None = None

    def refuse_when_full(self) -> None:
        if time.monotonic() - self._looked_at > 1:
            self._looked_at = time.monotonic()
            self._full = self._look()
        if self._full:
            raise StoreUnavailable(self._full)

    def _look(self) -> str | None:
        info: dict[str, Any] = self._client.info("memory")
        limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
        if limit and used > FULL_AT * limit:
            return f"the store uses {used >> 20} of {limit >> 20} MiB; no new jobs until there is room"
        return None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
