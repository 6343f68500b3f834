"""The backends of the crash table, each with a ledger that the broker cannot write."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from adapters.local import daemon
from adapters.local.adapter import LocalAdapter
from adapters.local.paths import Home
from broker.settings import ConfiguredBackend
from tests.crash.table import SETTLE_S, SLACK_S, Case
from tests.fakes import INSTANCE, Fake
from tests.helpers import wait_until

STARTS_WITHIN_S = 60.0


class FakeGround:
    """One fake for all cases, and one of its own for each case that makes it lose answers."""

    slack_s, settings = SLACK_S, {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fakes: dict[str, Fake] = {}
        self._shared = self._start("shared")

    def _start(self, name: str) -> Fake:
        (self._folder / name).mkdir()
        fake = Fake(self._folder / name, run_s=0.02)
        fake.start()
        self._fakes[name] = fake
        return fake

    def _fake(self, case: Case) -> Fake:
        return self._fakes.get(str(case), self._shared)

    def begin(self, case: Case) -> tuple[ConfiguredBackend, ...]:
        fake = self._shared
        if case.scenario.fault:
            fake = self._start(str(case))
            case.scenario.fault(fake.faults)
        settle_s = 0.0 if case.mutant == "no settle time" else SETTLE_S
        native = case.scenario.native
        return (fake.config(settle_s=settle_s, timeout_s=2, native_dependencies=native),)

    def environment(self, case: Case) -> dict[str, str]:
        return {}

    def starts(self, case: Case, job_id: str, marker: str) -> int:
        """A service is one job to the fake, whatever its replicas."""
        return self._fake(case).starts(marker) * case.scenario.starts

    def forget(self, case: Case, marker: str) -> None:
        self._fake(case).faults.forget(marker)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fake in self._fakes.values():
            fake.close()


class LocalGround:
    """One agent for all cases; each process that starts leaves a line in a file named after its job."""

    slack_s, settings = SLACK_S, {}

    def __init__(self, folder: Path) -> None:
        self._ledger = folder / "ledger"
        self._config = ConfiguredBackend(
            name="local",
            type="local",
            instance=INSTANCE,
            data_dir=str(folder / "local"),
            options={"settle_s": SETTLE_S, "cpus": 200, "grace_s": 1.0},
        )
        local = LocalAdapter(self._config)
        home = Home(self._config.data_dir)
        daemon.tell_options(home, local.options)
        # The first cases would wait for its imports, and have no time for that.
        wait_until(lambda: daemon.ensure(home, local.options), STARTS_WITHIN_S, "the agent runs")

    def begin(self, case: Case) -> tuple[ConfiguredBackend, ...]:
        return (self._config,)

    def environment(self, case: Case) -> dict[str, str]:
        return {"LEDGER": str(self._ledger)}

    def starts(self, case: Case, job_id: str, marker: str) -> int:
        try:
            return len(Path(f"{self._ledger}.{job_id}").read_text().splitlines())
        except FileNotFoundError:
            return 0

    def forget(self, case: Case, marker: str) -> None:
        raise NotImplementedError("the agent does not forget")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        daemon.stop_everything(self._config.data_dir)
