"""Between any two effects there is a named place to die, so that the crash table leaves none out."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import pytest

from broker.lifecycle.points import POINTS
from tests.crash.effects import CALLS, Recording, recorded
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.kit import ANA, Kit, fake_kit

SCRIPTS = resources.files("broker.store") / "scripts"
# Nothing follows these that could be lost: a log that is read, an account that is kept, an entry of the live
# table that was left behind.
ELSEWHERE = {"script.common", "script.ask", "script.usage", "script.live"}


@dataclass
class Life:
    """One scenario in one process, from its submission to its end."""

    kit: Kit
    scenario: Scenario
    forgotten: bool = False

    def live(self) -> None:
        ids = self.kit.submit_all(*self.scenario.jobs({}))
        self.scenario.prepare(self.kit.broker, ids[0])

        def over() -> bool:
            for job_id in ids:
                self.scenario.drive(self.kit.broker, job_id)
            self._forget(ids[0])
            return self.scenario.is_over(self.kit.broker, ids)

        self.kit.settle(over, why=self.scenario.name)
        self.kit.broker.sweep()
        self.kit.broker.perform("refresh:fake")

    def _forget(self, job_id: str) -> None:
        if not self.scenario.forgets or self.forgotten:
            return
        attempts = self.kit.broker.attempts(job_id, ANA)
        if attempts and attempts[0].state == "RUNNING":
            self.kit.fake.faults.forget(attempts[0].marker)
            self.forgotten = True


@pytest.fixture(scope="module")
def recording(redis_server, tmp_path_factory):
    """All scenarios, one after the other, in one process."""
    total = Recording()
    for scenario in (one for one in SCENARIOS.values() if one.name != "very late request"):
        names = ("afake", "fake") if scenario.name == "reroute" else ("fake",)
        native = {"native_dependencies": scenario.native}
        folder = tmp_path_factory.mktemp("points")
        with fake_kit(
            redis_server, folder, {"run_s": 0.05}, names=names, backend_options=native, **scenario.settings
        ) as kit:
            if scenario.fault:
                scenario.fault(kit.fake.faults)
            with recorded(kit.broker) as one:
                Life(kit, scenario).live()
            total.lines += [*one.lines, ("point", "end of a scenario")]
    return total


def test_between_two_effects_there_is_a_named_point(recording):
    assert recording.without_a_point_between() == set()


def test_every_point_is_passed_by_a_scenario(recording):
    assert set(POINTS) - recording.points == set()


def test_every_kind_of_effect_is_seen(recording, record_property):
    """A recording that sees nothing would find nothing wrong."""
    seen = sum(kind == "effect" for kind, _ in recording.lines)
    record_property(
        "summary", f"crash points: {seen} effects of {len(recording.effects)} kinds were recorded"
    )
    scripts = {path.name.removesuffix(".lua") for path in SCRIPTS.iterdir() if path.name.endswith(".lua")}
    every = {"publish", *(f"script.{name}" for name in scripts), *(f"adapter.{name}" for name in CALLS)}
    assert every - recording.effects == ELSEWHERE
