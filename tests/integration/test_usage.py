"""What jobs were given and have used: measured while they run, or in their backend's accounts afterwards."""

from __future__ import annotations

import pytest

from adapters.errors import Busy
from adapters.extras import AccountsRuns, LosesLogs
from adapters.fake.adapter import FakeAdapter
from api_spec.errors import NotFound
from api_spec.jobs import Resources
from api_spec.states import JobState
from api_spec.usage import RunUsage
from broker.lifecycle import usage
from broker.wiring import ADAPTERS, adapter_class
from tests.builders import spec
from tests.kit import ANA, EVE, adapter_of, fake_kit

FOR_EVER = {"run_s": 1000}


class Measures(FakeAdapter):
    """``now``: CPUs and MiB of every attempt."""

    now: tuple[float, float] | Busy | None = None

    def measure(self, refs):
        if isinstance(self.now, Busy):
            raise self.now
        if self.now is None:
            return {}
        return {ref.marker: RunUsage(peak_cpus=self.now[0], peak_memory_mib=self.now[1]) for ref in refs}


class Accounts(FakeAdapter):
    told: RunUsage | Busy | None = None
    asked = 0

    def accounted(self, refs):
        self.asked += 1
        if isinstance(self.told, Busy):
            raise self.told
        return {} if self.told is None else {ref.marker: self.told for ref in refs}


@pytest.fixture
def kit(request, redis_server, tmp_path, monkeypatch):
    kind, options = request.param
    monkeypatch.setattr(usage, "FIRST_S", 0.05)
    monkeypatch.setattr(usage, "LATER_S", 0.05)
    with fake_kit(redis_server, tmp_path, fake_options=options) as kit:
        kit.broker.context.adapters["fake"] = kind(kit.settings.backends[0])
        yield kit


@pytest.fixture
def adapter(kit):
    return adapter_of(kit)


def running(kit, **changes):
    job_id = kit.submit(spec(**changes))
    kit.reaches(job_id, JobState.RUNNING)
    return job_id


def used(kit, job_id, who=ANA):
    (found,) = kit.broker.usage(job_id, who)
    return found


def measures(kit, adapter, *now):
    adapter.now = now
    return usage.measure(kit.broker.context, "fake")


while_it_runs = pytest.mark.parametrize("kit", [(Measures, FOR_EVER)], indirect=True)
after_its_end = pytest.mark.parametrize("kit", [(Accounts, {"run_s": 0})], indirect=True)


@while_it_runs
def test_the_highest_that_was_seen_stays(kit, adapter):
    job_id = running(kit)

    for now in ((1.0, 100.0), (3.0, 50.0), (2.0, 400.0), (0.0, 0.0)):
        measures(kit, adapter, *now)

    assert (used(kit, job_id).peak_cpus, used(kit, job_id).peak_memory_mib) == (3.0, 400.0)


@while_it_runs
def test_what_hardly_rises_is_not_written(kit, adapter):
    """Ten thousand jobs would write to Redis' disk all the time."""
    running(kit)

    written = [measures(kit, adapter, 1.0, size) for size in (100.0, 101.0, 104.0, 100.0, 106.0, 106.0)]

    assert written == [1, 0, 0, 0, 1, 0]


@while_it_runs
def test_it_is_no_change_of_the_job(kit, adapter):
    job_id = running(kit)
    before = kit.get(job_id).version

    measures(kit, adapter, 1.0, 100.0)

    assert kit.get(job_id).version == before


@while_it_runs
def test_a_refresh_measures(kit, adapter):
    job_id = running(kit)
    adapter.now = (1.0, 100.0)

    kit.broker.perform("refresh:fake")

    assert used(kit, job_id).peak_cpus == 1.0


@while_it_runs
@pytest.mark.parametrize("now", [None, Busy("metrics are not there")], ids=["nobody", "nobody now"])
def test_where_nobody_measures_it_is_not_known_and_the_backend_is_well(kit, adapter, now):
    job_id = running(kit)
    adapter.now = now

    kit.broker.perform("refresh:fake")

    found = used(kit, job_id)
    assert (found.peak_cpus, found.peak_memory_mib, found.energy_j) == (None, None, None)
    assert kit.broker.backend("fake", ANA).reachable


@while_it_runs
def test_what_it_was_given_is_what_it_asked_for_as_long_as_it_ran(kit):
    resources = Resources(nodes=2, tasks_per_node=2, cpus_per_task=3, memory_per_node_mib=10)
    found = used(kit, running(kit, resources=resources))

    assert found.elapsed_s > 0
    assert found.cpu_s == pytest.approx(12 * found.elapsed_s)
    assert found.memory_mib_s == pytest.approx(20 * found.elapsed_s)


@while_it_runs
def test_a_peak_outlives_what_is_written_about_the_job_later(kit, adapter):
    job_id = running(kit)
    measures(kit, adapter, 1.0, 100.0)

    kit.broker.cancel(job_id, ANA)
    kit.ended(job_id)

    assert used(kit, job_id).peak_memory_mib == 100.0


@while_it_runs
def test_another_projects_usage_is_not_shown(kit):
    job_id = running(kit)

    with pytest.raises(NotFound):
        used(kit, job_id, EVE)


TOLD = RunUsage(elapsed_s=7.0, cpu_s=56.0, gpu_s=0.0, memory_mib_s=9.0, peak_memory_mib=12.5, energy_j=3.0)


@after_its_end
def test_the_accounts_are_asked_when_it_has_ended(kit, adapter):
    adapter.told = TOLD
    job_id = kit.submit(spec())
    kit.ended(job_id)

    kit.settle(lambda: used(kit, job_id).energy_j)

    found = used(kit, job_id)
    assert (found.elapsed_s, found.cpu_s, found.peak_memory_mib, found.peak_cpus) == (7.0, 56.0, 12.5, None)
    assert kit.get(job_id).state is JobState.COMPLETED


@after_its_end
@pytest.mark.parametrize("first", [None, Busy("the database is away")], ids=["not yet", "away"])
def test_accounts_that_are_late_are_asked_again(kit, adapter, first):
    adapter.told = first
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: adapter.asked >= 2)
    assert used(kit, job_id).cpu_s is None

    adapter.told = TOLD

    kit.settle(lambda: used(kit, job_id).cpu_s == 56.0)


@after_its_end
def test_accounts_that_never_come_are_given_up(kit, adapter, monkeypatch):
    monkeypatch.setattr(usage, "GIVEN_UP_S", 0.3)
    kit.ended(kit.submit(spec()))

    kit.settle(lambda: adapter.asked and not kit.store.client.exists(f"{kit.store.prefix}keeps:fake"))


@after_its_end
def test_many_that_end_together_are_one_question(kit, adapter):
    adapter.told = TOLD
    ids = kit.submit_all(*(spec(name=f"n{number}") for number in range(20)))
    for job_id in ids:
        kit.ended(job_id)

    kit.settle(lambda: all(used(kit, job_id).cpu_s for job_id in ids))

    assert adapter.asked < 10


@after_its_end
def test_what_somebody_has_written_meanwhile_is_not_lost(kit, adapter):
    job_id = kit.submit(spec())
    kit.ended(job_id)
    was, attempt = kit.store.usages.read(job_id, 1)
    newer = was.replace("}", ',"exit_code":9}', 1)
    kit.store.client.hset(f"{kit.store.prefix}attempts:{job_id}", "1", newer)

    assert not kit.store.usages.put(job_id, was, attempt)

    assert kit.store.usages.read(job_id, 1)[0] == newer
    assert kit.store.usages.read(job_id, 2) is None


def test_no_adapter_keeps_logs_and_accounts():
    """What follows an end stands in one list for logs and accounts: with both, one would be lost."""
    kinds = [adapter_class(kind) for kind in ADAPTERS]

    assert any(issubclass(one, LosesLogs) for one in kinds)
    assert any(issubclass(one, AccountsRuns) for one in kinds)
    assert not [one for one in kinds if issubclass(one, LosesLogs) and issubclass(one, AccountsRuns)]
