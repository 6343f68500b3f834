"""A whole broker in one process: real store, real adapters, and hints that are performed by ``settle``."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from adapters.base import Adapter
from api_spec.jobs import JobSpec
from api_spec.states import FINAL, JobState
from api_spec.views import JobView
from broker.access import Principal, Scope
from broker.lifecycle import points
from broker.lifecycle.broker import Broker
from broker.settings import ConfiguredBackend, Settings
from broker.store import Store, open_store
from broker.wiring import build, store_options
from tests.fakes import INSTANCE, Fake, running_fake
from tests.helpers import wait_until

ENDLESS = {"FAKE_RUN_S": "forever"}
ANA = Principal(
    token_id="t1",
    subject="ana",
    owner="ana",
    project="vision",
    scopes=frozenset(Scope) - {Scope.JOBS_ADMIN, Scope.JOBS_ACT_AS},
)
BEN = replace(ANA, token_id="t2", subject="ben", owner="ben")
EVE = replace(ANA, token_id="t3", subject="eve", owner="eve", project="speech")


@dataclass
class Kit:
    """Hints are collected; ``settle`` performs them, and what is overdue, as workers and controller would."""

    broker: Broker
    settings: Settings
    fake: Fake | None = None
    hints: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.broker.store

    def submit(self, spec: JobSpec, who: Principal = ANA, **options: Any) -> str:
        return self.broker.accept([spec], who, **options).jobs[0].id

    def submit_all(self, *specs: JobSpec, who: Principal = ANA) -> list[str]:
        return [job.id for job in self.broker.accept(specs, who).jobs]

    def get(self, job_id: str, who: Principal = ANA) -> JobView:
        return self.broker.get(job_id, who)

    def work(self) -> None:
        """Everything that is hinted or overdue, once."""
        self.broker.tick()
        while self.hints:
            self.broker.perform(self.hints.pop(0))

    def settle(self, condition: Callable[[], Any], deadline_s: float = 10.0, why: str = "") -> Any:
        def worked() -> Any:
            self.work()
            return condition()

        return wait_until(worked, deadline_s, why)

    def ended(self, job_id: str, deadline_s: float = 10.0) -> JobView:
        def is_final() -> bool:
            return self.get(job_id).state in FINAL

        self.settle(is_final, deadline_s, f"job {job_id} ends; it is {self.get(job_id)}")
        return self.get(job_id)

    def reaches(self, job_id: str, state: JobState, deadline_s: float = 10.0) -> JobView:
        self.settle(
            lambda: self.get(job_id).state is state, deadline_s, f"{self.get(job_id)} becomes {state}"
        )
        return self.get(job_id)

    def events(self, job_id: str) -> list[str]:
        return [event.type for event in self.broker.job_events(job_id, ANA)]


def settings_for(url: str, data_dir: Path, *backends: ConfiguredBackend, **changes: Any) -> Settings:
    """Short leases and polls, so that nothing waits for a time-out that a test does not mean."""
    values: dict[str, Any] = {
        "redis_url": url,
        "instance": INSTANCE,
        "data_dir": data_dir,
        "backends": backends,
        "lease_s": 1.0,
        "sweep_s": 0.2,
        "poll_s": 0.02,
        "max_submits_per_s": 10_000.0,
        **changes,
    }
    return Settings(**values)


def make_kit(settings: Settings, fake: Fake | None = None, prefix: str | None = None) -> Kit:
    """``prefix``: of another kit, to stand on the same state; otherwise the store is empty."""
    hints: list[str] = []
    options = replace(store_options(settings), prefix=prefix or f"t{uuid.uuid4().hex[:8]}:")
    store = open_store(settings.redis_url, options)
    kit = Kit(build(settings, hints.append, store), settings, fake, hints)
    for name in kit.broker.context.adapters:
        kit.broker.perform(f"refresh:{name}")
    return kit


@contextmanager
def kit_with(url: str, data_dir: Path, *backends: ConfiguredBackend, **changes: Any) -> Iterator[Kit]:
    """A broker with real backends, whose adapters are closed with it."""
    with ExitStack() as stack:
        kit = make_kit(settings_for(url, data_dir, *backends, **changes))
        stack.callback(kit.store.close)
        for adapter in kit.broker.context.adapters.values():
            stack.callback(adapter.close)
        yield kit


def backend(name: str, kind: str, options: dict[str, Any], data_dir: str = "") -> ConfiguredBackend:
    return ConfiguredBackend(name=name, type=kind, instance=INSTANCE, data_dir=data_dir, options=options)


@contextmanager
def fake_kit(
    url: str,
    tmp_path: Path,
    fake_options: dict[str, Any] | None = None,
    names: tuple[str, ...] = ("fake",),
    backend_options: dict[str, Any] | None = None,
    **changes: Any,
) -> Iterator[Kit]:
    """A broker with one fake backend, under one or several names."""
    with running_fake(tmp_path, **(fake_options or {})) as fake:
        backends = [fake.config(name, **(backend_options or {})) for name in names]
        kit = make_kit(settings_for(url, tmp_path, *backends, **changes), fake)
        try:
            yield kit
        finally:
            kit.store.close()


def adapter_of(kit: Kit, name: str = "fake") -> Adapter:
    return kit.broker.context.adapters[name]


def at(name: str, step: Callable[[], Any]) -> None:
    """Does ``step`` when the point is passed for the first time."""

    def hook(passed: str) -> None:
        if passed == name:
            points.install(None)
            step()

    points.install(hook)
