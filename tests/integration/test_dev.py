"""``broker dev`` as its user meets it: one command, and any kill is followed by the same command again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.local import daemon
from api_spec.errors import InvalidConfiguration
from broker.client.client import Client
from broker.embedded.dev import run_dev
from broker.embedded.lock import DirectoryLock
from tests.helpers import wait_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("dev")]
READY_WITHIN_S = 90.0


def processes_of(directory):
    """The pids of what works for the broker in this directory; the local backend's are not the broker's."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        of_ours = (
            f"BROKER_DATA_DIR={directory}\0".encode() in environment
            or f"{directory}/redis".encode() in command
        )
        if of_ours and b"adapters.local" not in command:
            found.append(int(folder.name))
    return found


class Dev:
    def __init__(self, directory):
        self.directory = directory
        self.backend = str(directory / "backends/local")
        self.process = None

    def start(self):
        """Returns once ``dev.json`` of this run is there, which says that the API is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker.cli.main", "dev", "--data-dir", str(self.directory)],
            stderr=subprocess.DEVNULL,
        )
        wait_until(
            lambda: self.process.poll() is not None or self.facts(), READY_WITHIN_S, "broker dev is ready"
        )
        return self.facts()

    def facts(self):
        try:
            facts = json.loads((self.directory / "dev.json").read_text())
        except OSError:
            return None
        return facts if facts["pid"] == self.process.pid else None

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(60)


def client_of(facts):
    return Client(facts["url"], facts["token"])


@pytest.fixture
def dev(tmp_path):
    dev = Dev(tmp_path / "state")
    yield dev
    if dev.process.poll() is None:
        dev.end(signal.SIGTERM)
    daemon.stop_everything(dev.backend)


def test_a_killed_one_leaves_nothing_behind_and_the_next_goes_on(dev):
    """Its jobs do run on: they belong to the backend."""
    before = dev.start()
    with Client(before["url"], before["token"]) as client:
        (accepted,) = client.submit([{"kind": "batch", "name": "one", "command": ["true"]}])
    assert len(processes_of(dev.directory)) >= 4, "the server, the API, a worker, the controller"

    dev.end(signal.SIGKILL)

    wait_until(lambda: not processes_of(dev.directory), 20.0, "all of it is gone")
    after = dev.start()
    assert after["token"] == before["token"]
    with Client(after["url"], after["token"]) as client:
        wait_until(lambda: client.get(accepted["job"]["id"])["state"] == "COMPLETED", 60.0)


def test_a_port_that_another_one_has_is_told_before_anything_is_started(tmp_path):
    """The other one would answer, and pass for ours."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = [sys.executable, "-m", "broker.cli.main", "dev", "--data-dir", str(tmp_path / "state")]
        port = ["--port", str(other.getsockname()[1])]

        refused = subprocess.run([*command, *port], capture_output=True, text=True, timeout=60, check=False)

    assert refused.returncode == 2
    assert f"the API cannot listen on 127.0.0.1, port {port[1]}: Address already in use" in refused.stderr
    assert not processes_of(tmp_path / "state")


def test_a_data_directory_that_cannot_be_one_is_told(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InvalidConfiguration, match="file/state cannot be a directory: Not a directory"):
        run_dev(tmp_path / "file" / "state")


def test_asked_to_stop_it_stops_everything_and_says_so(dev):
    dev.start()

    code = dev.end(signal.SIGTERM)

    assert code == 0
    assert not processes_of(dev.directory)
    assert not (dev.directory / "dev.json").exists()


def test_asked_to_stop_it_lets_an_idle_agent_go(dev):
    """It used to stay for ever, for nobody."""
    with client_of(dev.start()) as client:
        (accepted,) = client.submit([{"kind": "batch", "name": "one", "command": ["true"]}])
        wait_until(lambda: client.get(accepted["job"]["id"])["state"] == "COMPLETED", 60.0)
    assert daemon.agent_pid(dev.backend)

    dev.end(signal.SIGTERM)

    wait_until(lambda: daemon.agent_pid(dev.backend) is None, 20.0, "the agent has left")


def test_a_live_job_keeps_its_agent_which_leaves_after_it(dev, tmp_path):
    """Nobody is there any more to ask it a second time."""
    command = ["sh", "-c", 'echo line >> "$1"; while test ! -e "$2"; do sleep 0.05; done', "sh"]
    command += [str(tmp_path / "file"), str(tmp_path / "go")]
    with client_of(dev.start()) as client:
        (accepted,) = client.submit([{"kind": "batch", "name": "one", "command": command}])
        job_id = accepted["job"]["id"]
        wait_until(lambda: client.get(job_id)["state"] == "RUNNING", 60.0)
    agent = daemon.agent_pid(dev.backend)

    dev.end(signal.SIGTERM)

    assert daemon.agent_pid(dev.backend) == agent
    (tmp_path / "go").touch()
    wait_until(lambda: daemon.agent_pid(dev.backend) is None, 20.0, "the agent has left")
    with client_of(dev.start()) as client:
        wait_until(lambda: client.get(job_id)["state"] == "COMPLETED", 60.0)
        assert client.get(job_id)["attempt"] == 1
    assert (tmp_path / "file").read_text() == "line\n"


def test_a_second_one_in_the_same_directory_is_refused(tmp_path):
    lock = DirectoryLock(tmp_path / "dev.lock", "broker dev")
    lock.acquire()
    try:
        refused = subprocess.run(
            [sys.executable, "-m", "broker.cli.main", "dev", "--data-dir", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        lock.release()

    assert refused.returncode != 0
    assert f"already runs in {tmp_path} (process {os.getpid()})" in refused.stderr
    assert not (tmp_path / "redis").exists(), "nothing was started"
