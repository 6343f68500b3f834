"""A broker to measure: its own state on its own disk files, its own fake backend, real processes on request.

Alone knows how the processes are started and how their CPU time is read.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from api_spec.states import JobState
from broker.access import Principal, Scope
from broker.auth import NewToken
from broker.embedded.dev import free_port
from broker.embedded.server import EmbeddedServer
from broker.embedded.tether import tethered
from broker.settings import load_settings
from broker.wiring import build
from tests.fakes import INSTANCE, ROOT, Fake
from tests.helpers import wait_until

TRAINING = json.loads((ROOT / "api_spec/examples/training.json").read_text())
BODY = json.dumps(TRAINING, separators=(",", ":")).encode()
PROJECT = "vision"
BEFORE = (JobState.ACCEPTED, JobState.SUBMITTING)
START_S = 60.0  # Python's imports on a busy machine
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Grounds:
    """``settings`` are knobs by name; what they leave out is as shipped.  ``real``: configured backends that
    stand in place of the fake."""

    document: Mapping[str, Any] = TRAINING
    """The job of ``accept``."""

    def __init__(
        self,
        *,
        appendfsync: str = "always",
        backends: Sequence[str] = ("hpc",),
        fake: dict[str, Any] | None = None,
        real: Sequence[dict[str, Any]] = (),
        **settings: Any,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.server = EmbeddedServer(self.folder / "redis", appendfsync=appendfsync)
        self.fake = Fake(self.folder, **(fake or {}))
        self.port = free_port("127.0.0.1")
        fakes = [{"name": n, "type": "fake", "options": dict(self.fake.config(n).options)} for n in backends]
        values = {
            "redis_url": self.server.url,
            "instance": INSTANCE,
            "data_dir": self.folder / "data",
            "listen_port": self.port,
            "rate_limit": "1000000000 per second",  # counted as shipped, and never reached
            "backends": json.dumps(list(real) or fakes),
            **settings,
        }
        ours = {f"BROKER_{name.upper()}": str(value) for name, value in values.items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        self.environment = {**inherited, **ours}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.server.start()
        self.fake.start()  # though nobody asks it where the backends are real
        self.settings = load_settings(environ=self.environment)
        self.broker = build(self.settings, lambda hint: None)
        for name in self.broker.context.adapters:
            self.broker.perform(f"refresh:{name}")
        wanted = NewToken(subject="ana", project=PROJECT, scopes=frozenset(Scope))
        self.token, _ = self.broker.tokens.create(wanted)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.broker.store.close()
        self.fake.close()
        self.server.stop()
        shutil.rmtree(self.folder)

    @property
    def who(self) -> Principal:
        return self.broker.tokens.check(self.token)

    # ---- processes -----------------------------------------------------------------------------------

    def start(self, name: str, *command: str, **environment: str) -> None:
        """A role of the broker, or ``command`` with its environment; its output goes to a file."""
        words = [sys.executable, "-m", *(command or ("broker.cli.main", name))]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                tethered(words), env={**self.environment, **environment}, cwd=ROOT, stdout=log, stderr=log
            )

    def end(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(30.0)

    def start_broker(self) -> None:
        """API, worker and controller; a first job has gone through all of them when this returns."""
        for role in ("api", "worker", "controller"):
            self.start(role)
        wait_until(lambda: answers(self.port), START_S, "the API answers")
        self.accept(1)
        wait_until(lambda: self.handed_over() == 1, START_S, "a first job has its handle")

    def cpu_s(self, *names: str) -> float:
        """CPU seconds so far of these processes and their children; ``redis`` and ``fake`` are known, too."""
        return sum(tree_cpu_s(self._pid(name)) for name in names)

    def _pid(self, name: str) -> int:
        if name == "redis":
            assert self.server.pid is not None
            return self.server.pid
        if name == "fake":
            assert self.fake._process is not None
            return self.fake._process.pid
        return self.running[name].pid

    # ---- jobs ----------------------------------------------------------------------------------------

    def accept(self, count: int) -> None:
        """So many jobs, without the way over HTTP."""
        from api_spec.schemas import load_spec

        spec = load_spec(self.document)
        for start in range(0, count, 100):
            names = range(start, min(start + 100, count))
            bundle = (
                [load_spec({**self.document, "name": f"job-{n}"}) for n in names] if count > 1 else [spec]
            )
            self.broker.accept(bundle, self.who)
        for name in (*self.broker.context.adapters, "-"):
            self.broker.store.leases.hint_taken(
                f"drain:{name}"
            )  # nobody got the hint; the controller sends one

    def handed_over(self) -> int:
        """Jobs that a backend has, or had."""
        count = self.broker.store.index.count
        return sum(count(PROJECT, f"s={state}") for state in JobState if state not in BEFORE)

    def used_memory(self) -> int:
        return int(self.broker.store.client.info("memory")["used_memory"])


def answers(port: int, path: str = "/readyz") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tree_cpu_s(root: int) -> float:
    """Of a process and all that descend from it and live."""
    children: dict[int, list[int]] = {}
    spent: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = int(fields[11]) + int(fields[12])  # user and system time
    pending, ticks = [root], 0
    while pending:
        pid = pending.pop()
        ticks += spent.get(pid, 0)
        pending += children.get(pid, ())
    return ticks / TICKS_PER_S
