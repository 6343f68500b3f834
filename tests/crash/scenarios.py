"""What a broker does while it is killed: each scenario passes some of the named points.

``prepare`` and ``drive`` are called by every process of the broker, also by one that replaced a dead one, so
they look at what there is and do what is next, as users and their portals do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from api_spec.jobs import Array, Dependency, Health, JobSpec, Kind, Replicas, Retry, Service
from api_spec.states import FINAL, JobState
from broker.lifecycle.broker import Broker
from broker.lifecycle.points import point
from broker.lifecycle.recover import import_lines, recover
from broker.store.dump import export_lines
from tests.builders import spec
from tests.fakes import Faults
from tests.kit import ANA

S = JobState
Environment = Mapping[str, str]
# Each start leaves a line, so that a second one shows; the fake keeps a ledger of its own instead.
NOTE_THE_START = 'echo started >> "$LEDGER.$BROKER_JOB_ID"; '


def nothing(broker: Broker, job_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scenario:
    name: str
    jobs: Callable[[Environment], tuple[JobSpec, ...]]
    outcomes: tuple[JobState, ...]  # empty: nothing is left of the job in the end
    starts: int = 1  # of each attempt: replicas count
    starts_of: tuple[int, ...] = ()  # of each job, whichever attempt it was; empty: the first, and no other
    prepare: Callable[[Broker, str], None] = nothing
    drive: Callable[[Broker, str], None] = nothing
    fault: Callable[[Faults], None] | None = None  # the backend has it before anything begins
    native: bool = False  # what waits for another job may do so at the backend, and come back from there
    forgets: bool = False  # the backend is made to forget the first attempt once it runs
    afterwards_s: float = 0.2  # what comes late must not start anything either
    settings: Mapping[str, float] = field(default_factory=dict)

    def is_over(self, broker: Broker, ids: list[str]) -> bool:
        records = [broker.store.jobs.read(job_id) for job_id in ids]
        if not self.outcomes:
            return not any(records)
        return all(record is not None and record.state in FINAL for record in records)


def _job(name: str, environment: Environment, then: str = "true", **more: object) -> JobSpec:
    return spec(name=name, command=("sh", "-c", NOTE_THE_START + then), environment=environment, **more)


def _two(given: Environment) -> tuple[JobSpec, ...]:
    return _job("first", given), _job("second", given, depends_on=(Dependency(name="first"),))


def _second_after(**first: object) -> Callable[[Environment], tuple[JobSpec, ...]]:
    """The first one runs for so long that the second one may wait for it at the backend."""
    behaviour = {"FAKE_RUN_S": "1.0", "FAKE_EXIT": first.pop("exits", "0")}

    def jobs(given: Environment) -> tuple[JobSpec, ...]:
        second = _job("second", given, depends_on=(Dependency(name="first"),))
        return _job("first", {**given, **behaviour}, **first), second

    return jobs


def _one(given: Environment) -> tuple[JobSpec, ...]:
    return (_job("only", given),)


def _endless(given: Environment) -> tuple[JobSpec, ...]:
    return (_job("endless", {**given, "FAKE_RUN_S": "forever"}, "exec sleep 1000"),)


def _service(given: Environment) -> tuple[JobSpec, ...]:
    serve = 'exec python3 -m http.server --bind 127.0.0.1 "$BROKER_PORT"'
    service = Service(port=8000, replicas=Replicas(min=1, max=2), health=Health(path="/"))
    return (_job("service", given, serve, kind=Kind.INFERENCE, service=service),)


def _cancel_when_running(broker: Broker, job_id: str) -> None:
    job = broker.get(job_id, ANA)
    if job.state is S.RUNNING and not job.cancel_requested:
        broker.cancel(job_id, ANA)


def _busy_then_slow(faults: Faults) -> None:
    faults.busy(of="submit")
    faults.slow(1.8, of="submit")


def _array(given: Environment) -> tuple[JobSpec, ...]:
    environment = {**given, "FAKE_RUN_S": "forever"}
    return (_job("array", environment, "exec sleep 1000", array=Array(indices="0-2")),)


def _cancel_one_task_and_then_all(broker: Broker, job_id: str) -> None:
    """The rest goes only when the one task was seen to have gone, so that a lost wish is never over."""
    if broker.get(job_id, ANA).state is not S.RUNNING:
        return
    states = [task.state for task in broker.tasks(job_id, ANA, None, 10).items]
    if states == [S.RUNNING, S.RUNNING, S.RUNNING]:
        broker.cancel_tasks(job_id, "1", ANA)
    elif states == [S.RUNNING, S.CANCELLED, S.RUNNING]:
        broker.cancel(job_id, ANA)


def _waiting(given: Environment) -> tuple[JobSpec, ...]:
    return (_job("waiting", {**given, "FAKE_START_S": "0.7"}, time_limit_s=3600),)


def _change_hold_and_release(broker: Broker, job_id: str) -> None:
    """Each once the backend was told of the one before."""
    job, record = broker.get(job_id, ANA), broker.store.jobs.read(job_id)
    if job.state is not S.QUEUED or record is None or record.act:
        return
    told = _told(broker, job_id)
    if "updated" not in told:
        broker.update(job_id, ANA, spec=replace(job.spec, time_limit_s=1800))
    elif "held" not in told:
        broker.hold(job_id, ANA)
    elif job.held:
        broker.release(job_id, ANA)


def _scale_then_cancel(broker: Broker, job_id: str) -> None:
    job = broker.get(job_id, ANA)
    if job.state is not S.RUNNING or job.service is None or job.cancel_requested:
        return
    if job.replicas_wanted == 1:
        broker.update(job_id, ANA, replicas=2)
    elif job.service.ready == 2:
        broker.cancel(job_id, ANA)


def _drain_the_first_choice(broker: Broker, job_id: str) -> None:
    first = broker.decisions(job_id, ANA)[0].chosen
    broker.store.backends.set_flags(first, drained=True, paused=False)
    broker.snapshots.forget()


def _sweep(broker: Broker, job_id: str) -> None:
    broker.sweep()


def _lose_all(broker: Broker) -> None:
    """As a server does that comes back with nothing, for the command that is given then."""
    store = broker.store
    store.client.delete(*store.client.scan_iter(match=f"{store.prefix}*", count=1000))
    store._run_id = ""
    store.prepare()
    for name, adapter in broker.context.adapters.items():
        store.backends.declare(name, adapter.type)
    point("run_checked")


def _lose_all_and_recover(broker: Broker, job_id: str) -> None:
    """Again and again, as whoever is told that it was broken off; the job is cancelled when it is there."""
    record = broker.store.jobs.read(job_id)
    if record is None:
        recover(broker.context)
    elif record.state is S.RUNNING and not record.recovered:
        _lose_all(broker)
    else:
        _cancel_when_running(broker, job_id)


def _lose_all_and_import(broker: Broker, job_id: str) -> None:
    """The export is made once, before the loss: of two processes that try, one links it into its place."""
    record, dump = broker.store.jobs.read(job_id), broker.context.settings.data_dir / "export"
    if record is None:
        import_lines(broker.store, dump.read_text().splitlines(keepends=True))
    elif record.state is S.RUNNING and not dump.exists():
        written = dump.with_suffix(f".{os.getpid()}")
        written.write_text("".join(export_lines(broker.store)))
        os.link(written, dump)
    elif record.state is S.RUNNING and "restored" not in _told(broker, job_id):
        _lose_all(broker)
    else:
        _cancel_when_running(broker, job_id)


def _told(broker: Broker, job_id: str) -> list[str]:
    return [event.type for event in broker.job_events(job_id, ANA)]


SCENARIOS = {
    one.name: one
    for one in (
        Scenario(name="run", jobs=_two, outcomes=(S.COMPLETED, S.COMPLETED)),
        Scenario(
            name="lost request", jobs=_one, outcomes=(S.COMPLETED,), fault=lambda f: f.drop(of="submit")
        ),
        Scenario(name="late request", jobs=_one, outcomes=(S.COMPLETED,), fault=lambda f: f.accept_late(0.2)),
        Scenario(
            name="very late request",
            jobs=_one,
            outcomes=(S.COMPLETED,),
            fault=lambda f: f.accept_late(0.8),
            afterwards_s=1.5,
        ),
        # Whoever hears "busy" too late must not say that nothing was sent: another worker has sent it since.
        Scenario(
            name="busy, then slow",
            jobs=_one,
            outcomes=(S.COMPLETED,),
            fault=_busy_then_slow,
            afterwards_s=2.0,
        ),
        Scenario(name="long lease", jobs=_one, outcomes=(S.COMPLETED,), settings={"lease_s": 12.0}),
        Scenario(name="reroute", jobs=_one, outcomes=(S.COMPLETED,), prepare=_drain_the_first_choice),
        Scenario(
            name="native", jobs=_second_after(), outcomes=(S.COMPLETED,) * 2, native=True, starts_of=(1, 1)
        ),
        Scenario(
            name="in vain",
            jobs=_second_after(exits="3"),
            outcomes=(S.FAILED,) * 2,
            native=True,
            starts_of=(1, 0),
        ),
        Scenario(
            name="not natively",
            jobs=_second_after(retry=Retry(max_attempts=2, on=("NodeLost",))),
            outcomes=(S.COMPLETED,) * 2,
            native=True,
            starts_of=(1, 1),
        ),
        Scenario(name="cancel", jobs=_endless, outcomes=(S.CANCELLED,), drive=_cancel_when_running),
        Scenario(
            name="cancel a task",
            jobs=_array,
            outcomes=(S.CANCELLED,),
            starts=3,
            drive=_cancel_one_task_and_then_all,
        ),
        Scenario(name="scale", jobs=_service, outcomes=(S.CANCELLED,), starts=2, drive=_scale_then_cancel),
        Scenario(name="change, hold", jobs=_waiting, outcomes=(S.COMPLETED,), drive=_change_hold_and_release),
        Scenario(name="recover", jobs=_endless, outcomes=(S.CANCELLED,), drive=_lose_all_and_recover),
        Scenario(name="import", jobs=_endless, outcomes=(S.CANCELLED,), drive=_lose_all_and_import),
        Scenario(name="forget", jobs=_endless, outcomes=(S.FAILED,), forgets=True),
        Scenario(
            name="archive",
            jobs=_one,
            outcomes=(),
            drive=_sweep,
            settings={"pack_after_s": 0.01, "retention_s": 0.3},
        ),
    )
}

# Which scenario passes a point; every other one is passed by "run".
PASSED_BY = {
    "looked_up": "lost request",
    "rerouted": "reroute",
    "held_on": "not natively",
    "waits_there": "native",
    "taken_back": "in vain",
    "cancel_returned": "cancel",
    "tasks_cancel_returned": "cancel a task",
    "update_returned": "scale",
    "absence_proven": "forget",
    "swept": "archive",
    "cleaned_up": "archive",
    "forget_begun": "archive",
    "forgotten": "archive",
    "recover_listed": "recover",
    "restored": "recover",
}
# What a local process cannot be made to do: lose the answer of a call into a library, forget an attempt, wait
# for another one.
ONLY_THE_FAKE = {"looked_up", "absence_proven", "held_on", "waits_there", "taken_back"}
