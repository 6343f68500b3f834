"""The crash table: every named point x {kill, exception, delay beyond the lease} x backend.

A case runs a first process that is armed at one point and, once that point was passed, a second one that is
not.  Both go on until the jobs are over; then the backend's own ledger says what was started, how often.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from broker.lifecycle.broker import Broker
from broker.lifecycle.points import POINTS
from broker.settings import ConfiguredBackend, Settings
from broker.store import open_store
from broker.wiring import build, store_options
from tests.crash.process import Orders, main
from tests.crash.scenarios import PASSED_BY, SCENARIOS, Scenario
from tests.forks import CHILDREN, fork_server
from tests.helpers import wait_until
from tests.kit import ANA, settings_for

LEASE_S = 0.8
SWEEP_S = 0.2
SETTLE_S = 0.4
DELAY_S = 2 * LEASE_S
MODES = ("kill", "exception", f"delay{DELAY_S}")
# Nothing is stuck longer than a sweep, a lease and the settle time together, and what two busy cores cost.
# That is more than all of these; beside the lease of "long lease" it is not, and a second one would show.
SLACK_S = 8.5
AT_ONCE = 6
PROBE_S = 0.05


@dataclass(frozen=True)
class Case:
    point: str
    mode: str
    mutant: str | None = None
    scenario_name: str | None = None

    @property
    def scenario(self) -> Scenario:
        return SCENARIOS[self.scenario_name or PASSED_BY.get(self.point, "run")]

    @property
    def delay_s(self) -> float:
        return float(self.mode.removeprefix("delay")) if self.mode.startswith("delay") else 0.0

    def __str__(self) -> str:
        return "-".join(filter(None, (self.point, self.mode, self.scenario_name, self.mutant)))


@dataclass(frozen=True)
class Result:
    case: Case
    faults: tuple[str, ...]
    stale_writes: int
    took_s: (
        float | None
    )  # from the crash to the end of the jobs, but for the delay itself; None: they did not end


class Ground(Protocol):
    """A backend that the table can be run on.  ``settings``: the broker's, as this backend wants them."""

    slack_s: float
    settings: Mapping[str, Any]

    def begin(self, case: Case) -> tuple[ConfiguredBackend, ...]: ...

    def starts(self, case: Case, job_id: str, marker: str) -> int: ...

    def forget(self, case: Case, marker: str) -> None: ...

    def environment(self, case: Case) -> dict[str, str]: ...


def cases(without: set[str]) -> list[Case]:
    return [Case(point, mode) for point in POINTS for mode in MODES if point not in without]


def run_table(ground: Ground, url: str, folder: Path, wanted: list[Case]) -> list[Result]:
    context = fork_server()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda case: _Run(ground, url, folder, case, context).result(), wanted))


class _Run:
    def __init__(self, ground: Ground, url: str, folder: Path, case: Case, context) -> None:
        self.ground, self.case, self.context = ground, case, context
        self.folder = folder / uuid.uuid4().hex[:8]
        self.folder.mkdir(parents=True)
        self.settings = self._settings(url)
        self.orders = Orders(
            settings=self.settings,
            prefix=f"c{self.folder.name}:",
            scenario=case.scenario.name,
            environment=ground.environment(case),
            stop_file=self.folder / "stop",
            mutant=case.mutant,
        )
        self.passed = self.folder / "passed"
        self.took_s: float | None = None

    def _settings(self, url: str) -> Settings:
        configs = self.ground.begin(self.case)
        if self.case.scenario.name == "reroute":
            configs = (replace(configs[0], name="a" + configs[0].name), *configs)
        own = {  # an instance, too: what is recovered is all that a backend has of it
            "instance": f"c{self.folder.name[:5]}",
            "lease_s": LEASE_S,
            "sweep_s": SWEEP_S,
        }
        changes = {**own, **self.case.scenario.settings, **self.ground.settings}
        return settings_for(url, self.folder, *configs, **changes)

    def result(self) -> Result:
        store = open_store(
            self.settings.redis_url, replace(store_options(self.settings), prefix=self.orders.prefix)
        )
        broker = build(self.settings, lambda hint: None, store)
        armed = f"{self.case.point}:{self.case.mode}:{self.passed}"
        first = self._process(replace(self.orders, arm=armed))
        processes = [first]
        try:
            faults = self._watch(broker, processes)
            return Result(self.case, tuple(faults), store.counters().get("stale_writes", 0), self.took_s)
        finally:
            self.orders.stop_file.touch()
            for process in processes:
                process.join(self.case.delay_s + 5)
                process.kill()
                process.join()
                with CHILDREN:
                    process.close()
            store.close()

    def _process(self, orders: Orders):
        process = self.context.Process(target=main, args=(orders,), daemon=True)
        with CHILDREN:
            process.start()
        return process

    def _watch(self, broker: Broker, processes: list) -> list[str]:
        forgotten = not self.case.scenario.forgets

        def passed() -> bool:
            nonlocal forgotten
            forgotten = forgotten or self._forget(broker)
            return self.passed.exists()

        try:
            wait_until(passed, 20, f"{self.case} is passed", PROBE_S)
        except AssertionError as error:
            return [str(error)]
        passed_at = time.monotonic()
        processes.append(self._process(self.orders))
        delay_s = self.case.delay_s
        allowed_s = delay_s + SWEEP_S + self.settings.lease_s + SETTLE_S + self.ground.slack_s

        def over() -> bool:
            nonlocal forgotten
            forgotten = forgotten or self._forget(broker)
            ids = self._ids(broker)
            return bool(ids) and forgotten and self.case.scenario.is_over(broker, ids)

        try:
            wait_until(over, allowed_s, f"{self.case} ends", PROBE_S)
            self.took_s = max(0.0, time.monotonic() - passed_at - delay_s)
            # What was held up comes back only now, and must not start anything either.
            wait_until(lambda: time.monotonic() > passed_at + delay_s + self.case.scenario.afterwards_s, 10)
        except AssertionError as error:
            states = [broker.store.jobs.read(job_id) for job_id in self._ids(broker)]
            return [f"{error}: {states}"]
        return self._judge(broker)

    def _ids(self, broker: Broker) -> list[str]:
        noted = self.folder / "ids"
        if noted.exists():
            return noted.read_text().split()
        seen = broker.store.client.hget(f"{self.orders.prefix}idempotency:vision:ana:ana:once", "ids")
        return seen.decode().split() if seen else []

    def _forget(self, broker: Broker) -> bool:
        for job_id in self._ids(broker)[:1]:
            attempts = broker.attempts(job_id, ANA)
            if attempts and attempts[0].state == "RUNNING":
                self.ground.forget(self.case, attempts[0].marker)
                return True
        return False

    def _judge(self, broker: Broker) -> list[str]:
        scenario, faults = self.case.scenario, []
        ids = self._ids(broker)
        if scenario.starts_of:
            return [*self._judge_totals(broker, ids), *self._judge_ends(broker, ids)]
        for job_id in ids:
            starts = self.ground.starts(self.case, job_id, broker.context.marker(job_id, 1))
            if starts != scenario.starts:
                faults.append(f"the first attempt of {job_id} was started {starts} times")
        if not scenario.outcomes:
            return faults
        for job_id in ids:
            if len(attempts := broker.attempts(job_id, ANA)) != 1:
                told = [(one.state, one.reason, one.message) for one in attempts]
                faults.append(f"{job_id} has {len(attempts)} attempts: {told}")
        return [*faults, *self._judge_ends(broker, ids)]

    def _judge_ends(self, broker: Broker, ids: list[str]) -> list[str]:
        records = [broker.store.jobs.read(job_id) for job_id in ids]
        return [
            f"{record.name} is {record.state} ({record.reason}), not {wanted}"
            for record, wanted in zip(records, self.case.scenario.outcomes, strict=True)
            if record.state is not wanted
        ]

    def _judge_totals(self, broker: Broker, ids: list[str]) -> list[str]:
        faults = []
        for job_id, wanted in zip(ids, self.case.scenario.starts_of, strict=True):
            attempts = broker.attempts(job_id, ANA)
            starts = sum(self.ground.starts(self.case, job_id, one.marker) for one in attempts)
            if starts != wanted:
                faults.append(f"{job_id} was started {starts} times, not {wanted}")
        return faults
