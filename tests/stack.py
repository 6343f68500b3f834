"""The broker as real processes, for tests that kill them.

``Dev`` is ``broker dev``.  ``Parts`` is each process alone, against a server of the test's own.  Both find
whatever runs for their directory in /proc, and leave nothing of it behind.

    with Parts(tmp_path, fake.config(), lease_s=1) as parts:
        parts.start("api", "worker", "controller")
        (job,) = parts.client().submit([...])
        parts.kill("worker")
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from adapters.base import BackendConfig
from adapters.local import daemon, processes
from broker.auth import NewToken
from broker.client.client import Client
from broker.embedded.server import EmbeddedServer
from broker.settings import Settings, load_settings
from broker.store import Store, open_store
from broker.wiring import build, store_options
from tests.forks import Command
from tests.helpers import PATIENCE, stop_still, wait_until

READY_WITHIN_S = 60.0
GONE_WITHIN_S = 20.0
COMMAND_WITHIN_S = 60.0
QUICK = {
    "lease_s": 2.0,
    "sweep_s": 0.5,
    "poll_s": 0.1,
    "rate_limit": "100000 per minute",
    "api_processes": 1,
}
# What a command line says of the part that it is; the rest are jobs.
WORDS = {
    "redis": b"valkey-server",
    "dev": b"broker.cli\0dev",
    "api": b"broker.cli\0api",
    "worker": b"broker.cli\0worker",
    "controller": b"broker.cli\0controller",
    "agent": b"adapters.local.agent",
    "supervisor": b"adapters.local.supervisor",
}
THE_BROKER = ("dev", "api", "worker", "controller", "redis")


# ---- processes as /proc shows them -------------------------------------------------------------------


def part_of(command: bytes) -> str:
    command = command.replace(b"broker.cli.main\0", b"broker.cli\0")
    return next((part for part, word in WORDS.items() if word in command), "job")


def running_for(directory: Path) -> dict[int, str]:
    """pid -> part, of every process whose command line, environment or input names the directory; the last
    is a supervisor's, whose plan is a file there."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            text = command + (folder / "environ").read_bytes() + os.readlink(bytes(folder / "fd/0"))
            if os.fsencode(directory) in text and int(folder.name) != os.getpid():
                found[int(folder.name)] = part_of(command)
    return found


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if processes.born(pid) is not None]


def kill_all(pids: Iterable[int]) -> None:
    """kill -9 of all of them at once; returns when they are gone."""
    pids = list(pids)
    processes.signal_all(pids, signal.SIGKILL)
    wait_until(lambda: not alive(pids), GONE_WITHIN_S, "what was killed is gone")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def tables(*backends: BackendConfig) -> str:
    """What ``BROKER_BACKENDS`` says of them; caps are the settings'."""
    return json.dumps(
        [
            {"name": one.name, "type": one.type, "options": dict(one.options)}
            | ({"log_reader": reader} if (reader := getattr(one, "log_reader", None)) else {})
            for one in backends
        ]
    )


def job_until(
    client: Client, job_id: str, condition: Callable[[dict[str, Any]], bool], deadline_s: float = 60.0
) -> dict[str, Any]:
    """The job, once the condition is true of it."""

    def reached() -> dict[str, Any] | None:
        job = client.get(job_id)
        return job if condition(job) else None

    return wait_until(reached, deadline_s, f"{job_id} gets there: {client.get(job_id)}")


# ---- what both have ----------------------------------------------------------------------------------


class Stack:
    """One directory and all that runs for it."""

    def __init__(
        self, directory: Path, backends: tuple[BackendConfig, ...], settings: dict[str, Any]
    ) -> None:
        self.directory = directory / "state"
        self.directory.mkdir()
        self.backends = backends
        values = {**QUICK, **settings}
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BROKER_")},
            **{f"BROKER_{name.upper()}": str(value) for name, value in values.items()},
            "BROKER_DATA_DIR": str(self.directory),
            "BROKER_BACKENDS": tables(*backends),
        }
        self._clients: list[Client] = []

    def pids(self, *parts: str) -> list[int]:
        return [pid for pid, part in running_for(self.directory).items() if part in parts]

    def connect(self, url: str, token: str) -> Client:
        self._clients.append(Client(url, token))
        return self._clients[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        try:
            self.stop()
        finally:
            for one in self.backends:
                if one.type == "local":
                    assert daemon.stop_everything(str(self.directory / "backends" / one.name))
            left = running_for(self.directory)
            kill_all(left)
        assert not left, f"left behind: {left}"

    def stop(self) -> None:
        raise NotImplementedError


class Dev(Stack):
    """``broker dev``, again and again in the same directory."""

    def __init__(self, directory: Path, *backends: BackendConfig, **settings: Any) -> None:
        super().__init__(directory, backends, settings)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Client:
        """Returns when the API of this run is ready."""
        command = ["dev", "--data-dir", str(self.directory), "--port", "0"]
        with (self.directory / "dev.log").open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker.cli", *command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        facts = wait_until(self._facts, READY_WITHIN_S, "broker dev is ready")
        return self.connect(facts["url"], facts["token"])

    def _facts(self) -> dict[str, Any] | None:
        assert self.process is not None and self.process.poll() is None, "broker dev ended"
        with suppress(OSError):
            facts: dict[str, Any] = json.loads((self.directory / "dev.json").read_text())
            return facts if facts["pid"] == self.process.pid else None
        return None

    def kill(self, *parts: str) -> None:
        """kill -9 of these parts at once, and of all that is the broker's."""
        kill_all(self.pids(*THE_BROKER, *parts))
        assert self.process is not None
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(40) == 0


class Parts(Stack):
    """API, workers and controllers, each by its name: a role, or ``worker-2`` and so on."""

    def __init__(self, directory: Path, *backends: BackendConfig, **settings: Any) -> None:
        super().__init__(directory, backends, settings)
        self.port = free_port()
        self.server = EmbeddedServer(self.directory / "redis")
        self.environment |= {
            "BROKER_REDIS_URL": self.server.url,
            "BROKER_LISTEN_PORT": str(self.port),
            "BROKER_INSTANCE": backends[0].instance,
        }
        self.running: dict[str, Command] = {}
        self._stores: list[Store] = []

    def __enter__(self) -> Self:
        self.server.start()
        return self

    @functools.cached_property
    def settings(self) -> Settings:
        return load_settings(environ=self.environment)

    @functools.cached_property
    def store(self) -> Store:
        self._stores.append(open_store(self.server.url, store_options(self.settings)))
        return self._stores[0]

    @functools.cached_property
    def token(self) -> str:
        """With every scope but that of a portal."""
        from broker.access import Scope

        wanted = NewToken(subject="ana", project="vision", scopes=frozenset(Scope) - {Scope.JOBS_ACT_AS})
        return build(self.settings, lambda hint: None, self.store).tokens.create(wanted)[0]

    def launch(self, *words: str, log: str, **environment: str) -> Command:
        file = self.directory / f"{log}.log"
        return Command(words, {**self.environment, **environment}, file, file)

    def command_line(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """``broker`` as a user with a token calls it."""
        user = {"BROKER_URL": f"http://127.0.0.1:{self.port}", "BROKER_TOKEN": self.token}
        with tempfile.TemporaryDirectory(dir=self.directory) as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            code = Command(words, {**self.environment, **user}, out, err).wait(COMMAND_WITHIN_S)
            return subprocess.CompletedProcess(words, code, out.read_bytes(), err.read_bytes())

    def client(self) -> Client:
        return self.connect(f"http://127.0.0.1:{self.port}", self.token)

    def start(self, *names: str, **environment: str) -> None:
        """Returns when the API, if it is among them, is ready; the others may still be starting."""
        for name in names:
            self.running[name] = self.launch(name.partition("-")[0], log=name, **environment)
        if "api" in names:
            wait_until(self.is_ready, READY_WITHIN_S, "the API is ready")

    def is_ready(self) -> bool:
        """A port is open earlier; a server that is told to stop before it serves does not hear it in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with suppress(OSError, http.client.HTTPException), closing(connection):
            connection.request("GET", "/healthz")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def kill(self, *names: str) -> None:
        """kill -9 of them all, at once."""
        for name in names:
            self.running[name].kill()
        for name in names:
            self.running.pop(name).wait()

    def freeze(self, name: str) -> None:
        stop_still(self.running[name].pid)

    def thaw(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGCONT)

    def end(self, *names: str, grace_s: float = 15.0) -> dict[str, int]:
        """SIGTERM to all at once, and their exit codes."""
        for name in names:
            self.running[name].terminate()
        return {name: self.running.pop(name).wait(grace_s * PATIENCE) for name in names}

    def kill_server(self) -> None:
        """kill -9 of Redis; ``self.server.start()`` brings it back with all that it had acknowledged."""
        assert self.server.pid is not None
        kill_all([self.server.pid])
        wait_until(lambda: not self.server.is_running(), GONE_WITHIN_S)

    def calm(self) -> None:
        """Redis and the API run, and nothing else does.  Who was asked to stop must stop well."""
        self.server.start()
        rest = [name for name in self.running if name != "api"]
        for name in rest:
            self.thaw(name)
        codes = self.end(*rest)
        if "api" not in self.running or self.running["api"].poll() is not None:
            self.start("api")
        assert set(codes.values()) <= {0}, codes

    def stop(self) -> None:
        try:
            self.calm()
            assert self.end("api") == {"api": 0}
        finally:
            for store in self._stores:
                store.close()
            self.server.stop()
