"""Deaths of real processes: whatever is killed, stopped or lost, each job ends once and was started once."""

from __future__ import annotations

import re
import threading
from collections import Counter
from contextlib import contextmanager

import pytest

from adapters.base import BackendConfig
from api_spec.ids import marker
from api_spec.states import FINAL
from broker.client.exchange import Call
from broker.queue import make_app
from broker.wiring import hints_over
from tests.fakes import running_fake
from tests.helpers import wait_until
from tests.stack import Dev, Parts, alive

pytestmark = pytest.mark.process
one_after_the_other = pytest.mark.xdist_group("deaths")  # they share what ``house`` starts
PATIENCE_S = 120.0  # the machine may be busy with other tests


# ---- one machine: everything is killed ---------------------------------------------------------------

JOBS = 50
APPEND = 'sleep 0.2; echo line >> "$1"; sleep 0.2'  # a kill meets most of them before or after their line
UNTIL = 'echo $$ >> "$1/pid"; until [ -e "$1/gate" ]; do sleep 0.1; done'


everything_dies = pytest.mark.xdist_group("dev-deaths")  # they take long: groups are begun first


@pytest.fixture
def dev(tmp_path):
    options = {"cpus": 10, "memory_mib": 10_000, "grace_s": 0.5}
    backend = BackendConfig(name="local", type="local", instance="main", data_dir="", options=options)
    with Dev(tmp_path, backend, allow_shared_local="true") as dev:
        yield dev


def submit_appends(client, files):
    specs = [
        {"kind": "batch", "name": path.name, "command": ["sh", "-c", APPEND, "sh", str(path)]}
        for path in files
    ]
    return [taken["job"]["id"] for taken in client.submit(specs)]


def some_have_written(files, count):
    wait_until(lambda: sum(path.exists() for path in files) >= count, PATIENCE_S, f"{count} jobs have run")


def everything_ends(client, ids):
    """``client.wait`` is considerate and asks for so many jobs once in a while only."""
    wait_until(lambda: {job["state"] for job in client.list()} <= set(FINAL), PATIENCE_S, "all jobs end")
    return [client.get(job_id) for job_id in ids]


def lines_of(files):
    return {path.name: path.read_text().splitlines() if path.exists() else [] for path in files}


@everything_dies
def test_two_kills_of_everything_but_the_jobs_lose_and_repeat_nothing(dev, tmp_path):
    """kill -9 of ``broker dev``, API, worker, controller, Redis and the agent, twice in the middle."""
    files = [tmp_path / f"file-{number}" for number in range(JOBS)]
    client = dev.start()
    command = ["sh", "-c", UNTIL, "sh", str(tmp_path)]
    [waits] = client.submit([{"kind": "batch", "name": "waits", "command": command}])
    ids = [waits["job"]["id"], *submit_appends(client, files)]
    wait_until((tmp_path / "pid").exists, PATIENCE_S, "the job that outlives both kills runs")

    for done in (8, 24):
        some_have_written(files, done)
        dev.kill("agent")
        assert alive([int((tmp_path / "pid").read_text())]), "the jobs that ran go on"
        client = dev.start()

    (tmp_path / "gate").touch()
    ended = everything_ends(client, ids)
    assert Counter((job["state"], job["attempt"]) for job in ended) == {("COMPLETED", 1): JOBS + 1}
    assert lines_of(files) == {path.name: ["line"] for path in files}


@everything_dies
def test_with_the_supervisors_killed_too_every_job_ends_once_right_or_lost(dev, tmp_path):
    """Nobody knows how a job ended whose supervisor died; it is not run again to find out."""
    files = [tmp_path / f"file-{number}" for number in range(JOBS)]
    ids = submit_appends(dev.start(), files)

    for done in (8, 20):
        some_have_written(files, done)
        dev.kill("agent", "supervisor")
        client = dev.start()

    ended = everything_ends(client, ids)
    assert {(job["state"], job["reason"]) for job in ended} == {
        ("COMPLETED", "Completed"),
        ("FAILED", "Lost"),
    }
    assert {job["attempt"] for job in ended} == {1}
    lines = list(lines_of(files).values())
    assert max(map(len, lines)) == 1
    assert all(
        wrote == ["line"] for wrote, job in zip(lines, ended, strict=True) if job["state"] == "COMPLETED"
    )


# ---- many processes: one of them dies, sleeps or does not get its messages ----------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A fake backend, Redis and the API for the tests of this module; each starts its own workers."""
    folder = tmp_path_factory.mktemp("deaths")
    with running_fake(folder, run_s=0.1) as fake, Parts(folder, fake.config()) as parts:
        parts.start("api")
        yield parts, fake


@pytest.fixture
def parts(house):
    yield house[0]
    house[0].calm()


@pytest.fixture
def fake(house):
    return house[1]


def submit(parts, name, count):
    specs = [{"kind": "batch", "name": f"{name}-{number}", "command": ["true"]} for number in range(count)]
    return [taken["job"]["id"] for taken in parts.client().submit(specs)]


def states(parts, ids):
    return Counter(str(record.state) for record in parts.store.jobs.read_many(ids))


def all_complete(parts, ids):
    wait_until(lambda: states(parts, ids)["COMPLETED"] == len(ids), PATIENCE_S, "all complete")


def assert_started_once(parts, fake, ids):
    """By the backend's own ledger."""
    ours = {marker(parts.settings.instance, job_id, 1) for job_id in ids}
    starts = Counter(line["marker"] for line in fake.ledger() if line["event"] == "start")
    assert {name: starts[name] for name in ours} == dict.fromkeys(ours, 1)


@one_after_the_other
def test_a_worker_that_wakes_up_after_its_lease_repeats_nothing_and_its_write_is_refused(
    parts, fake, tmp_path
):
    """It sleeps between the backend's answer and its own record of it; another one does its work."""
    held = tmp_path / "held"
    parts.start("controller")
    parts.start("worker", BROKER_TEST_POINT=f"submit_returned:delay1:{held}")
    ids = submit(parts, "sleeper", 20)
    wait_until(held.exists, PATIENCE_S, "the worker has had an answer")
    parts.freeze("worker")

    parts.start("worker-2")
    all_complete(parts, ids)
    assert parts.store.counters().get("stale_writes", 0) == 0
    parts.thaw("worker")

    wait_until(lambda: parts.store.counters().get("stale_writes", 0) >= 1, PATIENCE_S, "it was refused")
    metrics = parts.client().call(Call(method="GET", path="/metrics")).content.decode()
    assert re.search(r"broker_stale_writes_total [1-9]", metrics), metrics
    assert parts.end("worker") == {"worker": 0}
    all_complete(parts, ids)
    assert_started_once(parts, fake, ids)


@one_after_the_other
def test_workers_and_controllers_killed_one_after_the_other_lose_no_job(parts, fake):
    """Celery loses the messages that a killed worker had taken."""
    parts.start("worker", "controller")
    ids = submit(parts, "killed", 100)

    for number, done in enumerate((10, 50), start=2):
        wait_until(lambda done=done: states(parts, ids)["COMPLETED"] >= done, PATIENCE_S)
        parts.kill(*(name for name in parts.running if name != "api"))
        parts.start(f"worker-{number}", f"controller-{number}")

    all_complete(parts, ids)
    assert_started_once(parts, fake, ids)


@contextmanager
def meanwhile(step):
    """``step`` again and again in a thread, until the block is left; what it returned, summed."""
    over, sums = threading.Event(), [0]

    def run():
        while not over.wait(0.1):
            sums[0] += step()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sums
    finally:
        over.set()
        thread.join()


@one_after_the_other
def test_losing_every_celery_message_costs_a_sweep(parts, fake):
    """Messages are taken away as fast as they come; only one that a waiting worker gets at once arrives."""
    redis = parts.store.client

    def lose_messages():
        keys = redis.keys("wb:celery:*")
        return redis.delete(*keys) if keys else 0

    parts.start("controller")
    with meanwhile(lose_messages) as lost:
        ids = submit(parts, "lost", 40)
        wait_until(lambda: lost[0] >= 5, PATIENCE_S, "messages were lost")
        assert states(parts, ids) == {"ACCEPTED": 40}
        parts.start("worker")
        all_complete(parts, ids)

    assert_started_once(parts, fake, ids)


@one_after_the_other
def test_doubled_celery_messages_do_no_harm(parts, fake):
    """Those that wait are doubled, and new ones that nobody needs are sent all the time."""
    redis = parts.store.client
    app = make_app(parts.settings, parts.settings.redis_url)
    publish = hints_over(app, parts.settings)

    def double():
        waiting = redis.lrange("wb:celery:backend.fake", 0, 10)  # more than two workers can take meanwhile
        for message in waiting:
            redis.lpush("wb:celery:backend.fake", message)
        for hint in ("drain:fake", "drain:-", "observe:fake", "refresh:fake", "release"):
            publish(hint)
        return len(waiting)

    parts.start("controller")
    with meanwhile(double) as doubled:
        ids = submit(parts, "doubled", 60)
        wait_until(lambda: doubled[0] >= 10, PATIENCE_S, "messages were doubled")
        redis.ltrim("wb:celery:backend.fake", 0, 200)  # they multiply
        parts.start("worker", "worker-2")
        all_complete(parts, ids)
    app.close()
    wait_until(lambda: not redis.llen("wb:celery:backend.fake"), PATIENCE_S, "all messages are worked off")

    assert_started_once(parts, fake, ids)
