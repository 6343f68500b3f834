"""docker-compose.yml: what it says is run, in this virtual environment instead of containers.

There is no container engine here.  The commands and environments are the file's own; only what a container
would give them is put in: the address of the service ``redis``, the mounted settings, the volume.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from broker.client.client import Client
from broker.embedded.server import find_server
from tests.helpers import wait_until

ROOT = Path(__file__).parents[2]
PASSWORD = "only-for-this-test"
OURS = ("api", "worker", "controller")
together = pytest.mark.xdist_group("compose")  # they take long: groups are begun first
SETTINGS = """
instance = "compos"
allow_shared_local = true
[[backends]]
name = "here"
type = "local"
"""


def services(**variables):
    """As ``docker compose config`` shows them: with variables put in, one without a default required."""

    def put_in(match):
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if name not in variables and kind == ":?":
            raise LookupError(f"{name}: {rest}")
        return variables.get(name, rest)

    text = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"\$\{(?P<name>\w+)(?P<kind>:[?-])(?P<rest>[^}]*)\}", put_in, text)
    return YAML(typ="safe").load(text)["services"]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_there_is_no_default_password():
    with pytest.raises(LookupError, match="BROKER_REDIS_PASSWORD"):
        services()


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_no_service_runs_as_root_or_writes_to_its_image(name):
    service = services(BROKER_REDIS_PASSWORD=PASSWORD)[name]

    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", ["redis", *OURS])
def test_each_service_says_whether_it_is_well(name):
    check = services(BROKER_REDIS_PASSWORD=PASSWORD)[name]["healthcheck"]

    assert check["test"][0] == "CMD", "no shell"
    assert {"interval", "timeout"} < set(check)


def test_only_the_api_is_published_and_only_to_this_machine():
    found = services(BROKER_REDIS_PASSWORD=PASSWORD)

    published = {name: service["ports"] for name, service in found.items() if "ports" in service}
    assert published == {"api": ["127.0.0.1:8080:8080"]}


class Containers:
    """Stands in for the engine: ports, volume and settings are of this test."""

    def __init__(self, directory):
        self.services = services(BROKER_REDIS_PASSWORD=PASSWORD)
        self.directory = directory
        self.redis_port, self.api_port = free_port(), free_port()
        self.running = {}
        (directory / "redis").mkdir()
        (directory / "broker.toml").write_text(SETTINGS)

    def environment(self, name):
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "BROKER_DATA_DIR": str(self.directory / "state"),  # the Dockerfile's
            **{key: self.here(value) for key, value in self.services[name]["environment"].items()},
        }

    def here(self, text):
        text = text.replace("@redis:6379", f"@127.0.0.1:{self.redis_port}").replace(
            "8080", str(self.api_port)
        )
        return text.replace("/etc/broker/broker.toml", str(self.directory / "broker.toml"))

    def command(self, name):
        command = self.services[name]["command"]
        if name != "redis":
            return command
        place = [
            "--port",
            str(self.redis_port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self.directory / "redis"),
        ]
        return [str(find_server()), *command[1:], *place]

    def up(self, name):
        with (self.directory / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.command(name), env=self.environment(name), cwd=self.directory, stdout=log, stderr=log
            )

    def run(self, name, *command):
        """``docker compose run --rm NAME COMMAND``: its output."""
        return subprocess.run(
            command,
            env=self.environment(name),
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def is_healthy(self, name):
        (word, *command) = self.services[name]["healthcheck"]["test"]
        assert word == "CMD"
        done = subprocess.run(
            [self.here(part) for part in command],
            env=self.environment(name),
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def stop(self, name):
        """SIGTERM, and SIGKILL after the grace, which is a failure."""
        process = self.running.pop(name)
        process.terminate()
        grace = self.services[name].get("stop_grace_period", "10s")
        return process.wait(float(grace.removesuffix("s")))

    def kill(self):
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def containers(tmp_path):
    containers = Containers(tmp_path)
    yield containers
    containers.kill()
    agent = [sys.executable, "-m", "adapters.local.agent", str(tmp_path / "state/backends/here"), "--stop"]
    subprocess.run(agent, check=False, capture_output=True)


@pytest.mark.process
@together
def test_its_services_run_a_job_and_stop_in_time(containers):
    containers.up("redis")
    wait_until(lambda: is_open(containers.redis_port))
    for name in OURS:
        containers.up(name)
    for name in OURS:
        wait_until(lambda name=name: containers.is_healthy(name), 90.0, f"{name} is healthy", probe_s=0.5)
    token = containers.run("api", "broker", "token", "create", "alice", "--project", "vision")

    with Client(f"http://127.0.0.1:{containers.api_port}", token) as client:
        (accepted,) = client.submit([{"kind": "batch", "name": "one", "command": ["echo", "done"]}])
        job_id = accepted["job"]["id"]
        wait_until(lambda: client.get(job_id)["state"] in ("COMPLETED", "FAILED"), 60.0, "the job ends")
        job = client.get(job_id)

    assert (job["state"], job["backend"], job["owner"]) == ("COMPLETED", "here", "alice")
    assert {name: containers.stop(name) for name in OURS} == dict.fromkeys(OURS, 0)
    assert not any(containers.is_healthy(name) for name in OURS), "a check finds out"
    assert containers.stop("redis") == 0


@pytest.mark.process
@together
def test_without_the_password_nobody_gets_in(containers):
    containers.up("redis")
    wait_until(lambda: is_open(containers.redis_port))
    wrong = {
        **containers.environment("api"),
        "BROKER_REDIS_URL": f"redis://127.0.0.1:{containers.redis_port}/0",
    }

    refused = subprocess.run(
        [Path(sys.executable).parent / "broker", "token", "list"],
        env=wrong,
        cwd=containers.directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
