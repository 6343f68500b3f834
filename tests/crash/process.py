"""One process of the broker in the crash table: accept, tick, perform, drive, until it is told to stop.

It stands for API, worker and controller at once, so that any of their effects can be the one that is cut.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broker.lifecycle import points, submit
from broker.lifecycle.broker import Broker
from broker.policy_files import policy_at
from broker.settings import Settings
from broker.store import open_store
from broker.store.changes import Guard
from broker.wiring import adapter_class, build, store_options
from tests.crash.scenarios import SCENARIOS
from tests.kit import ANA

for kind in ("fake", "local"):  # once, before the forks
    adapter_class(kind)
policy_at(None)

PAUSE_S = 0.03  # a dozen processes share two cores


@dataclass(frozen=True, kw_only=True)
class Orders:
    settings: Settings
    prefix: str
    scenario: str
    environment: dict[str, str]
    stop_file: Path
    arm: str | None = None  # as BROKER_TEST_POINT
    mutant: str | None = None


def main(orders: Orders) -> None:
    gc.freeze()  # what the fork server imported stays for ever
    logging.disable(logging.CRITICAL)
    hints: list[str] = []
    store = open_store(
        orders.settings.redis_url, replace(store_options(orders.settings), prefix=orders.prefix)
    )
    broker = build(orders.settings, hints.append, store)
    MUTANTS.get(orders.mutant or "", lambda broker: None)(broker)
    points.arm_from_environment(orders.arm)
    life = _Life(broker, orders, hints)
    pause = threading.Event()
    while not orders.stop_file.exists():
        life.turn()
        pause.wait(PAUSE_S)


@dataclass
class _Life:
    broker: Broker
    orders: Orders
    hints: list[str]
    ids: tuple[str, ...] = ()

    def turn(self) -> None:
        scenario = SCENARIOS[self.orders.scenario]
        if not self.ids:
            self._outlive(self._accept)
        for job_id in self.ids:
            self._outlive(lambda job_id=job_id: scenario.drive(self.broker, job_id))
        self._outlive(self.broker.tick)
        while self.hints:
            hint = self.hints.pop(0)
            self._outlive(lambda hint=hint: self.broker.perform(hint))

    def _accept(self) -> None:
        noted = self.orders.stop_file.with_name("ids")
        if noted.exists():  # as a user keeps the ids that a first request gave
            self.ids = tuple(noted.read_text().split())
            return
        for name in self.broker.context.adapters:
            self.broker.perform(f"refresh:{name}")
        scenario = SCENARIOS[self.orders.scenario]
        specs = scenario.jobs(self.orders.environment)
        accepted = self.broker.accept(specs, ANA, key="once", body_digest="same")
        self.ids = tuple(job.id for job in accepted.jobs)
        written = noted.with_suffix(".new")
        written.write_text(" ".join(self.ids))
        written.rename(noted)
        for job_id in self.ids:
            scenario.prepare(self.broker, job_id)

    def _outlive(self, step: Callable[[], object]) -> None:
        """As Celery and the controller's loop do."""
        try:
            step()
        except Exception:
            logging.getLogger(__name__).exception("a step failed")


# ---- what must turn the table red --------------------------------------------------------------------


def _without_look_up(broker: Broker) -> None:
    """Whatever was lost is simply sent again."""
    submit.look_up = submit._again


def _without_epochs(broker: Broker) -> None:
    """A worker that was held up writes as if nothing had happened."""
    Guard.to_json = _no_epoch(Guard.to_json)


def _no_epoch(to_json: Callable[[Guard], dict[str, Any]]) -> Callable[[Guard], dict[str, Any]]:
    return lambda guard: {name: value for name, value in to_json(guard).items() if name != "epoch"}


MUTANTS: dict[str, Callable[[Broker], None]] = {
    "no look-up": _without_look_up,
    "no epoch check": _without_epochs,
    "no settle time": lambda broker: None,  # an option of the backend: the table sets it to 0
}
