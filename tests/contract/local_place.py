"""The local backend as a place of the contract: real processes, an agent, and SQLite for the truth."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.base import Adapter, AttemptRef, BackendConfig
from adapters.local.adapter import LocalAdapter
from adapters.local.daemon import stop_agent, stop_everything
from api_spec.jobs import Health, JobSpec, Kind, Replicas, Resources, Service
from api_spec.states import AttemptState
from tests.contract.places import Fault, RunsCommands
from tests.fakes import INSTANCE, ROOT

CPUS = 4

SUBMIT_AND_DIE = """
import pickle, sys
from adapters.local.adapter import LocalAdapter

config, ref, spec = pickle.load(sys.stdin.buffer)
LocalAdapter(config).submit(ref, spec)
"""

opened_ledgers = 0


def count_opened_ledgers(event: str, _: tuple[Any, ...]) -> None:
    global opened_ledgers
    opened_ledgers += event == "sqlite3.connect"


sys.addaudithook(count_opened_ledgers)  # one connection is what this backend has for a round trip


class LocalPlace(RunsCommands):
    name = "local"
    shows = frozenset({*LocalAdapter.capabilities, Fault.LOST_SUBMIT})
    unique_names = True
    breakages = ("no ledger", "HTML for a ledger")

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__()
        self._folder = folder
        options = {"cpus": CPUS, "memory_mib": 4096, "settle_s": 0.3, "grace_s": 0.2}
        self._config = BackendConfig(
            name="local", type="local", instance=INSTANCE, data_dir=str(folder / "data"), options=options
        )
        self.adapter = LocalAdapter(self._config)
        stack.callback(stop_everything, self._config.data_dir)

    def service(self, replicas: int) -> JobSpec:
        text = f'exec {sys.executable} -m http.server --bind 127.0.0.1 "$BROKER_PORT"'
        served = Service(port=8000, replicas=Replicas(min=replicas, max=8), health=Health(path="/"))
        return replace(self.command("sh", "-c", text), kind=Kind.INFERENCE, service=served)

    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        """Another job has all CPUs."""
        all_cpus = replace(self.job(runs=True), resources=Resources(cpus_per_task=CPUS))
        blocker = self.submit(all_cpus)
        self.until(blocker, AttemptState.RUNNING)
        return self.submit(all_cpus), lambda: self.adapter.cancel(blocker)

    def starts(self, marker: str) -> int:
        return self._count("starts JOIN attempts ON attempts.seq = starts.attempt", marker)

    def copies(self, marker: str) -> int:
        return self._count("attempts", marker)

    def _count(self, tables: str, marker: str) -> int:
        with closing(sqlite3.connect(Path(self._config.data_dir) / "ledger.db")) as connection:
            row = connection.execute(f"SELECT count(*) FROM {tables} WHERE marker = ?", (marker,)).fetchone()
            return int(row[0])

    def round_trips(self) -> int:
        return opened_ledgers

    @contextmanager
    def broken(self, breakage: str) -> Iterator[Adapter]:
        data_dir = self._folder / breakage.replace(" ", "-")
        adapter = LocalAdapter(replace(self._config, data_dir=str(data_dir)))
        ledger = data_dir / "ledger.db"
        if breakage == "no ledger":
            ledger.unlink(missing_ok=True)
        else:
            ledger.write_text("<html><body><h1>502 Bad Gateway</h1></body></html>\n" * 100)
        yield adapter
        stop_agent(str(data_dir))

    def submit_and_lose_the_answer(self, ref: AttemptRef, spec: JobSpec) -> None:
        """The process that submits is killed when the ledger has the attempt and nobody knows."""
        done = subprocess.run(
            [sys.executable, "-c", SUBMIT_AND_DIE],
            input=pickle.dumps((self._config, ref, spec)),
            env={**os.environ, "BROKER_LOCAL_CRASH": "submit.recorded"},
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
