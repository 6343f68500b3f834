"""Several API processes, workers and controllers on one Redis: they share the work, stop when they are asked
to, and go on when Redis comes back."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace

import pytest

from api_spec.ids import marker
from broker.client.errors import ClientError
from broker.client.exchange import Call
from broker.queue import make_app, queue_of, queues
from broker.wiring import hints_over
from tests.fakes import running_fake
from tests.helpers import wait_until
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]
PATIENCE_S = 120.0  # the machine may be busy with other tests
RESUMES_WITHIN_S = 10.0
REQUESTS = 40
BACKENDS = ("fake", "other")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A fake under two names, Redis and the API for the tests of this module."""
    folder = tmp_path_factory.mktemp("processes")
    with running_fake(folder, run_s=0.2) as fake, Parts(folder, *map(fake.config, BACKENDS)) as parts:
        parts.start("api")
        yield parts, fake


@pytest.fixture
def parts(house):
    yield house[0]
    house[0].calm()


@pytest.fixture
def fake(house):
    return house[1]


def job(name, **changes):
    return {"kind": "batch", "name": name, "command": ["true"], **changes}


def submit(parts, name, count):
    taken = parts.client().submit([job(f"{name}-{number}") for number in range(count)])
    return [one["job"]["id"] for one in taken]


def completed(parts, ids):
    return sum(record.state == "COMPLETED" for record in parts.store.jobs.read_many(ids))


def all_complete(parts, ids, within_s=PATIENCE_S):
    wait_until(lambda: completed(parts, ids) == len(ids), within_s, f"{len(ids)} jobs complete")


def assert_started_once(parts, fake, ids):
    """By the backend's own ledger."""
    ours = {marker(parts.settings.instance, job_id, 1) for job_id in ids}
    starts = Counter(line["marker"] for line in fake.ledger() if line["event"] == "start")
    assert {name: starts[name] for name in ours} == dict.fromkeys(ours, 1)


# ---- their health --------------------------------------------------------------------------------------


def is_well(parts, role):
    """As a health check asks: its exit code, and the words."""
    check = parts.launch(role, "--check", log=f"check-{role}")
    code = check.wait(PATIENCE_S)
    return code, (parts.directory / f"check-{role}.log").read_text().splitlines()[-1]


@pytest.mark.parametrize("role", ["worker", "controller"])
def test_a_check_says_whether_one_does_its_work_on_this_host(parts, role):
    """Also after Redis was away: then the worker has a new connection, with new timers."""
    host = socket.gethostname()
    none = (1, f"Error: no {role} on {host} has done its round in the last 30 s")
    wait_until(lambda: is_well(parts, role) == none, 60, "one that was killed before is no longer counted")

    parts.start(role)
    wait_until(lambda: is_well(parts, role) == (0, f"a {role} on {host} does its work"), PATIENCE_S)

    parts.kill_server()
    code, words = is_well(parts, role)
    assert code == 1
    assert words.startswith(f"Error: whether there is a {role} on {host} is unknown: ")

    parts.server.start()
    parts.store.client.delete(f"wb:alive:{role}:{host}")
    wait_until(lambda: is_well(parts, role)[0] == 0, PATIENCE_S, "it beats again")

    assert parts.end(role) == {role: 0}
    assert is_well(parts, role)[0] == 1, "it has said that it goes"


# ---- sharing, and leaving ----------------------------------------------------------------------------


def test_two_workers_and_two_controllers_start_each_job_once_also_when_half_of_them_leaves(parts, fake):
    """SIGTERM in the middle: they exit in time, and nothing that they held is lost."""
    parts.start("worker", "worker-2", "controller", "controller-2")
    ids = submit(parts, "shared", 200)
    wait_until(lambda: completed(parts, ids) >= 20, PATIENCE_S)
    assert completed(parts, ids) < 150, "they are in the middle"

    codes = parts.end("worker", "controller")

    assert codes == {"worker": 0, "controller": 0}
    all_complete(parts, ids)
    assert_started_once(parts, fake, ids)


def test_an_api_that_is_asked_to_stop_has_kept_all_that_it_accepted(parts):
    """Requests under way get their answer; those that come later find nobody, and know it."""
    accepted = []

    def submit_until_nobody_answers():
        client = parts.client()
        try:
            while True:
                (taken,) = client.submit([job("last")])
                accepted.append(taken["job"]["id"])
        except ClientError:
            return

    users = [threading.Thread(target=submit_until_nobody_answers) for _ in range(4)]
    for user in users:
        user.start()
    wait_until(lambda: len(accepted) >= 20, PATIENCE_S)

    codes = parts.end("api")
    for user in users:
        user.join()

    assert codes == {"api": 0}
    parts.start("api", "worker", "controller")
    all_complete(parts, accepted)


def test_the_figures_of_all_api_processes_are_told_as_one(parts):
    """Whichever of them is asked: they import what counts before they are forked, and count apart."""
    parts.end("api")
    parts.start("api", BROKER_API_PROCESSES="2")

    for _ in range(REQUESTS):  # a connection each, so that both of them serve
        parts.client().call(Call(method="GET", path="/v1/jobs"))
    told = parts.client().call(Call(method="GET", path="/metrics")).content.decode()
    parts.end("api")

    line = r'^broker_http_answers_total\{method="GET",route="/v1/jobs",status="200"\} (\S+)$'
    assert [float(count) for count in re.findall(line, told, re.M)] == [REQUESTS]


def test_who_sends_too_much_hears_so_when_all_is_sent(parts):
    """A connection that is closed meanwhile would look like a broken network."""
    parts.end("api")
    parts.start("api")
    with closing(http.client.HTTPConnection("127.0.0.1", parts.port, timeout=30)) as connection:
        headers = {"Authorization": f"Bearer {parts.token}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/jobs", b" " * 12 * 1024**2, headers)
        answer = connection.getresponse()

        assert (answer.status, json.loads(answer.read())["code"]) == (413, "too_large")


def test_a_worker_that_hangs_still_stops_in_time(parts, fake, tmp_path):
    """What it holds comes back when its lease is over, and is looked up before it is sent again."""
    held = tmp_path / "held"
    parts.start("controller")
    parts.start("worker", BROKER_TEST_POINT=f"submit_returned:delay60:{held}")
    ids = submit(parts, "hung", 3)
    wait_until(held.exists, PATIENCE_S, "the worker hangs")

    codes = parts.end("worker")

    assert codes == {"worker": 0}
    parts.start("worker-2")
    all_complete(parts, ids)
    assert_started_once(parts, fake, ids)


def test_a_worker_takes_the_hints_of_every_backend(parts):
    """A queue that nobody consumes would hold up one backend, silently."""
    hints = [
        "release",
        "drain:-",
        *(f"{verb}:{name}" for verb in ("drain", "observe", "refresh") for name in BACKENDS),
    ]
    goes_to = Counter(queue_of(hint, BACKENDS) for hint in hints)
    assert set(goes_to) == set(queues(BACKENDS))
    parts.store.client.delete(*(f"wb:celery:{name}" for name in queues(BACKENDS)))  # of tests before
    app = make_app(parts.settings, parts.settings.redis_url)
    outstanding = [f"{parts.store.prefix}hint:{hint}" for hint in hints]
    for one in outstanding:  # not for ever: it would keep the tests after this one from their hints
        parts.store.client.set(one, "1", ex=int(PATIENCE_S))

    # A hint expires after some sweeps, and on a busy machine a worker may take as long to start.
    publish = hints_over(app, replace(parts.settings, sweep_s=PATIENCE_S))
    for hint in hints:
        publish(hint)
    app.close()
    lengths = {name: parts.store.client.llen(f"wb:celery:{name}") for name in queues(BACKENDS)}
    parts.start("worker")

    assert lengths == goes_to, "each hint stands in the queue of its backend, once"
    wait_until(lambda: not parts.store.client.exists(*outstanding), PATIENCE_S / 2, "all hints were taken")


GOODBYE = "\nworker: Warm shutdown (MainProcess)\n"  # Celery's, from within its handler of SIGTERM


def test_a_worker_logs_json_alone_and_what_it_serves(parts):
    """A banner and a warning in plain text stood among the lines, and whoever collects them stumbled."""
    logs = {name: parts.directory / f"{name}.log" for name in ("worker", "controller")}
    parts.start(*logs, BROKER_LOG_LEVEL="info")
    all_complete(parts, submit(parts, "logged", 1))
    parts.end(*logs)

    for name, log in logs.items():
        written = log.read_text().replace(GOODBYE, "")
        first, *_ = [json.loads(line) for line in written.splitlines()]
        assert (first["event"], first["process"]) == (f"the {name} starts", name)


# ---- without Redis -----------------------------------------------------------------------------------


def test_after_a_kill_of_redis_everything_goes_on_within_seconds(parts, fake):
    """Nobody is restarted but Redis."""
    parts.start("worker", "worker-2", "controller", "controller-2")
    ids = submit(parts, "through", 100)
    wait_until(lambda: completed(parts, ids) >= 20, PATIENCE_S)

    parts.kill_server()
    parts.server.start()

    before = completed(parts, ids)
    assert before < len(ids)
    wait_until(lambda: completed(parts, ids) > before, RESUMES_WITHIN_S, "the work goes on")
    all_complete(parts, ids)
    assert_started_once(parts, fake, ids)
    assert all(process.poll() is None for process in parts.running.values()), "nobody gave up"


def test_without_redis_a_submission_is_asked_to_come_again(parts):
    client = parts.client()
    submission = Call(method="POST", path="/v1/jobs", json=job("later"))
    parts.kill_server()

    refused = client.wire.send(submission)
    ready, alive = (client.wire.send(Call(method="GET", path=path)) for path in ("/readyz", "/healthz"))
    parts.server.start()
    accepted = client.wire.send(submission)

    assert (refused.status, refused.json["code"], refused.json["retryable"]) == (
        503,
        "store_unavailable",
        True,
    )
    assert int(refused.headers["Retry-After"]) >= 1
    assert (ready.status, alive.status) == (503, 200)
    assert accepted.status == 202


def test_without_redis_everybody_still_stops_when_asked_to(parts):
    parts.start("worker", "controller")
    all_complete(parts, submit(parts, "before", 3))
    parts.kill_server()

    codes = parts.end("api", "worker", "controller")

    assert set(codes.values()) == {0}, codes
