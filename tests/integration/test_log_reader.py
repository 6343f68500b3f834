"""Logs of which the API sees no file: a worker that is named as log reader reads them, as real processes.

The API has another data directory, so that it stands as on another machine: the ledger and the log files of
the local backend are not there.
"""

from __future__ import annotations

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from broker.client.errors import Refused
from broker.client.exchange import Call
from broker.settings import ConfiguredBackend
from broker.store.asks import Said
from tests.fakes import INSTANCE, running_fake
from tests.helpers import PATIENCE, wait_until
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("log-reader")]
PATIENCE_S = 60.0  # the machine may be busy with other tests
LINES = 3000
PRINTS = f"""
i=0; while [ $i -lt {LINES} ]; do echo "Zeile $i, größer"; i=$((i+1)); done; echo bad >&2
until [ -e "$1" ]; do sleep 0.1; done; echo last
"""
LOG = "".join(f"Zeile {number}, größer\n" for number in range(LINES)).encode() + b"last\n"
READER = {"BROKER_WORKER_NAME": "login"}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log-reader")
    local = ConfiguredBackend(
        name="local",
        type="local",
        instance=INSTANCE,
        data_dir="",
        options={"cpus": 4, "memory_mib": 4000},
        log_reader="login",
    )
    with (
        running_fake(folder, run_s=1000) as fake,
        Parts(folder, replace(fake.config(), log_reader="login"), local, allow_shared_local="true") as parts,
    ):
        parts.start("api", BROKER_DATA_DIR=str(parts.directory / "elsewhere"))
        yield parts, fake


@pytest.fixture
def parts(house):
    yield house[0]
    house[0].calm()
    wait_until(lambda: not readers(house[0], "local"), PATIENCE_S, "readers that were killed are forgotten")


@pytest.fixture
def fake(house):
    return house[1]


def readers(parts, backend):
    return parts.store.asks.readers(backend, int(parts.store.now() * 1000))


def start_readers(parts, *names):
    parts.start(*names, **READER)
    for backend in ("local", "fake"):
        wait_until(lambda at=backend: len(readers(parts, at)) == len(names), PATIENCE_S, f"{names} read")


def running(parts, backend, *command):
    spec = {
        "kind": "batch",
        "name": "prints",
        "command": list(command),
        "placement": {"backends": [backend]},
    }
    client = parts.client()
    (taken,) = client.submit([spec])
    job_id = taken["job"]["id"]
    wait_until(lambda: client.get(job_id)["state"] == "RUNNING", PATIENCE_S, "the job runs")
    return job_id


def page(parts, job_id, **query):
    """One request, as it is answered."""
    return parts.client().call(Call(method="GET", path=f"/v1/jobs/{job_id}/logs", params=query)).json


def followed(parts, job_id):
    """By server-sent events."""
    headers = {"Accept": "text/event-stream"}
    call = Call(method="GET", path=f"/v1/jobs/{job_id}/logs", headers=headers)
    events = parts.client().wire.events(call)
    return "".join(json.loads(data)["data"] for name, _, data in events if name == "log").encode()


def test_pages_streams_client_and_command_line_are_as_if_the_api_saw_the_file(parts, tmp_path):
    parts.start("controller")
    start_readers(parts, "worker", "worker-2")
    gate = tmp_path / "gate"
    job_id = running(parts, "local", "sh", "-c", PRINTS, "sh", str(gate))

    with ThreadPoolExecutor(12) as pool:
        streams = [pool.submit(followed, parts, job_id) for _ in range(10)]
        shown = pool.submit(parts.command_line, "logs", "-f", job_id)
        wait_until(
            lambda: page(parts, job_id, tail_bytes=30)["data"].endswith(f"Zeile {LINES - 1}, größer\n"),
            PATIENCE_S,
            "all lines but the last are there",
        )
        gate.touch()
        assert [stream.result() for stream in streams] == [LOG] * 10
        done = shown.result()

    assert (done.returncode, done.stdout, done.stderr) == (0, LOG, b"bad\n")
    assert b"".join(parts.client().logs(job_id)) == LOG
    assert b"".join(parts.client().logs(job_id, stream="stderr")) == b"bad\n"
    with pytest.raises(Refused) as refused:
        page(parts, job_id, cursor="nonsense")
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")


def test_without_a_reader_the_api_says_so_at_once_and_never_gives_an_empty_log(parts):
    """A worker that has another name, or none, is no log reader."""
    parts.start("controller", "worker")
    job_id = running(parts, "local", "sleep", "1000")

    began = time.monotonic()
    with pytest.raises(Refused) as refused:
        page(parts, job_id)

    assert time.monotonic() - began < 3 * PATIENCE
    assert (refused.value.status, refused.value.code) == (503, "log_reader_unavailable")
    assert refused.value.problem["retryable"]
    assert "broker worker --name login" in str(refused.value)
    checked = parts.command_line("backends", "check", "local")
    assert checked.returncode == 1
    assert b"the log reader login is not there" in checked.stdout
    parts.client().cancel(job_id)


def test_a_reader_that_is_asked_to_stop_is_gone_at_once(parts):
    parts.store.client.delete(f"wb:alive:worker:{socket.gethostname()}")  # of one that was killed before
    parts.start("controller")
    start_readers(parts, "worker")
    # It reads logs before it takes its first message.
    check = ("worker", "--check", "--name", "login")
    wait_until(lambda: parts.command_line(*check).returncode == 0, PATIENCE_S, "it does its work")

    assert parts.end("worker") == {"worker": 0}

    assert not readers(parts, "local")


class Taking:
    """Hears who takes a question about a log."""

    def __init__(self, parts):
        self.parts = parts
        self.channel = parts.store.client.pubsub()
        self.channel.psubscribe("wb:said:*")

    def close(self):
        self.channel.close()

    def taker(self):
        """The name of the part that has taken the next question."""
        heard = wait_until(self._heard, PATIENCE_S, "a reader takes the question")
        pid = int(heard.rpartition(":")[2])
        return next(name for name, process in self.parts.running.items() if process.pid == pid)

    def _heard(self):
        message = self.channel.get_message(timeout=1)
        if message and message["type"] == "pmessage":
            return Said.load(message["data"]).facts.get("taken_by")
        return None


def test_a_reader_that_is_killed_while_it_reads_is_told_of_and_another_takes_over(parts, fake):
    """kill -9 of one of two: who waits gets the page from the other.  Of the last: a problem, in time."""
    parts.start("controller")
    start_readers(parts, "worker", "worker-2")
    job_id = running(parts, "fake", "true")

    fake.faults.freeze()
    try:
        with closing(Taking(parts)) as taking, ThreadPoolExecutor(1) as pool:
            asked = pool.submit(page, parts, job_id)
            parts.kill(taking.taker())
            survivor = taking.taker()
            fake.faults.unfreeze()
            assert asked.result(PATIENCE_S)["cursor"]

            fake.faults.freeze()
            asked = pool.submit(page, parts, job_id, stream="stderr")
            assert taking.taker() == survivor
            parts.kill(survivor)
            with pytest.raises(Refused) as refused:
                asked.result(30)
    finally:
        fake.faults.unfreeze()

    assert refused.value.code == "log_reader_unavailable"


def test_a_reader_that_stands_still_is_told_of_in_seconds(parts):
    """SIGSTOP: nobody knows yet that it is not there."""
    parts.start("controller")
    start_readers(parts, "worker")
    job_id = running(parts, "local", "sleep", "1000")
    assert page(parts, job_id)["data"] == ""

    try:
        parts.freeze("worker")
        began = time.monotonic()
        with pytest.raises(Refused) as refused:
            page(parts, job_id, limit_bytes=1000)  # another page: a look is shared for a moment
        assert time.monotonic() - began < 15 * PATIENCE
    finally:
        parts.thaw("worker")

    assert refused.value.code == "log_reader_unavailable"
    wait_until(lambda: readers(parts, "local"), PATIENCE_S, "it says again that it is there")
    assert page(parts, job_id)["data"] == ""
    parts.client().cancel(job_id)


def test_reading_goes_on_when_redis_is_back(parts):
    parts.start("controller")
    start_readers(parts, "worker")
    job_id = running(parts, "local", "sh", "-c", "echo one; exec sleep 1000")
    wait_until(lambda: page(parts, job_id)["data"] == "one\n", PATIENCE_S)

    parts.kill_server()
    parts.server.start()

    def reads():
        try:
            return page(parts, job_id)["data"] == "one\n"
        except Refused as error:
            assert error.code in ("log_reader_unavailable", "store_unavailable"), error
            return False

    wait_until(reads, PATIENCE_S, "the log is read again")
    parts.client().cancel(job_id)
