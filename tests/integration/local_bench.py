"""A ``local`` backend of a test's own, with real processes; nothing of it is left when the test is over."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.base import AttemptRef, BackendConfig, LogQuery, Observation
from adapters.local import daemon, processes
from adapters.local.adapter import LocalAdapter
from api_spec.jobs import JobSpec, Kind
from api_spec.states import AttemptState
from tests.helpers import wait_until

PATIENCE_S = 30.0  # the machine may be busy with other tests


class LocalBench:
    def __init__(self, data_dir: Path, **options: Any) -> None:
        self.data_dir = str(data_dir)
        options = {"cpus": 4, "grace_s": 0.3, "settle_s": 0.2, **options}
        config = BackendConfig(
            name="local", type="local", instance="test", data_dir=self.data_dir, options=options
        )
        self.adapter = LocalAdapter(config)
        self._count = 0

    def __enter__(self) -> LocalBench:
        return self

    def __exit__(self, *_: object) -> None:
        assert daemon.stop_everything(self.data_dir)
        wait_until(lambda: not self.processes(), PATIENCE_S, "nothing runs any more")

    def processes(self) -> list[str]:
        """Command lines that name our data directory."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if self.data_dir in line and int(name) != os.getpid():
                found.append(line)
        return found

    def new_ref(self, **changes: Any) -> AttemptRef:
        self._count += 1
        ref = AttemptRef(
            marker=f"wb-test-{self._count}-1", job_id=f"J{self._count}", submitted_at=time.time()
        )
        return replace(ref, **changes)

    def submit(self, *command: str, ref: AttemptRef | None = None, **changes: Any) -> AttemptRef:
        """A job of that command, or of a ``script``."""
        ref = ref or self.new_ref()
        spec = JobSpec(**{"kind": Kind.BATCH, "name": "job", "command": command, **changes})
        return replace(ref, handle=self.adapter.submit(ref, spec))

    def shell(self, text: str, **changes: Any) -> AttemptRef:
        return self.submit("sh", "-c", text, **changes)

    def look(self, ref: AttemptRef) -> Observation:
        return self.adapter.observe([ref]).found[ref.marker]

    def until(
        self, ref: AttemptRef, condition: Callable[[Observation], object], why: str = ""
    ) -> Observation:
        seen: list[Observation] = []

        def arrived() -> bool:
            seen.append(self.look(ref))
            return bool(condition(seen[-1]))

        try:
            wait_until(arrived, PATIENCE_S, why)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {seen[-1]}") from None
        return seen[-1]

    def running(self, ref: AttemptRef) -> Observation:
        return self.until(ref, lambda seen: seen.state is AttemptState.RUNNING, "it runs")

    def ended(self, ref: AttemptRef) -> Observation:
        return self.until(ref, lambda seen: seen.state is AttemptState.ENDED, "it has ended")

    def output(self, ref: AttemptRef, **query: Any) -> str:
        return self.adapter.logs(ref, LogQuery(**query)).data.decode()

    def rows(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """From the ledger itself."""
        with closing(sqlite3.connect(f"{self.data_dir}/ledger.db")) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(statement, values).fetchall()

    def change(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(f"{self.data_dir}/ledger.db")) as connection, connection:
            connection.execute(statement, values)

    def starts(self, ref: AttemptRef) -> int:
        return len(
            self.rows(
                "SELECT 1 FROM starts s JOIN attempts a ON a.seq = s.attempt WHERE a.marker = ?", ref.marker
            )
        )

    def supervisors(self) -> list[int]:
        return [row["pid"] for row in self.rows("SELECT pid FROM tasks WHERE state = 'RUNNING'")]

    def kill_agent(self) -> None:
        """kill -9, and wait until it is gone."""
        pid = daemon.agent_pid(self.data_dir)
        if pid is not None:
            kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_until(lambda: processes.born(pid) is None, PATIENCE_S, f"{pid} is gone")
