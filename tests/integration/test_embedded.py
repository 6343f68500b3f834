"""The server and the supervisor of one machine: nothing is lost, left behind or run twice by any kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from api_spec.errors import Conflict, InvalidConfiguration, StoreUnavailable
from broker.embedded import server as server_module
from broker.embedded.dev import environment_for, this_user
from broker.embedded.lock import DirectoryLock
from broker.embedded.server import EmbeddedServer, find_server
from broker.embedded.supervisor import Supervisor
from tests.helpers import wait_until

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]


def is_alive(pid):
    """A zombie has ended: only its parent has not looked yet."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture
def redis_of():
    clients = []

    def connect(server):
        clients.append(Redis.from_url(server.url, decode_responses=True))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def python():
    """Starts a program of a test and ends it with the test; ``read`` gives its next line."""
    started = []

    def start(program, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


# ---- the server --------------------------------------------------------------------------------------


def test_it_keeps_what_it_acknowledged_through_a_kill(tmp_path, redis_of):
    with EmbeddedServer(tmp_path / "redis") as server:
        redis_of(server).set("job", "accepted")
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not server.is_running())

        server.start()

        assert redis_of(server).get("job") == "accepted"


def test_it_is_durable_evicts_nothing_and_listens_on_no_port(tmp_path, redis_of):
    with EmbeddedServer(tmp_path / "redis") as server:
        found = redis_of(server).config_get("appendonly", "appendfsync", "maxmemory-policy", "port")

    assert found == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "port": "0",
    }


def test_nobody_else_can_read_it(tmp_path):
    (tmp_path / "redis").mkdir(mode=0o755)

    with EmbeddedServer(tmp_path / "redis") as server:
        modes = {path: path.stat().st_mode & 0o077 for path in (server.directory, server.socket)}

    assert set(modes.values()) == {0}


def test_a_second_one_in_the_same_directory_is_refused(tmp_path, redis_of):
    with EmbeddedServer(tmp_path / "redis") as server:
        other = EmbeddedServer(tmp_path / "redis")

        assert other.is_running()
        with pytest.raises(Conflict, match=f"already runs in .* \\(process {server.pid}\\)"):
            other.start(patience_s=0)

        assert redis_of(server).ping()


def test_starting_and_stopping_twice_does_nothing(tmp_path):
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    pid = server.pid
    server.start()

    assert server.pid == pid
    server.stop()
    server.stop()

    assert not server.is_running()
    assert not server.socket.exists()


@pytest.mark.parametrize("name", ["with a blank and ü", "deep/" * 20 + "redis"], ids=["odd", "long"])
def test_any_directory_will_do(tmp_path, redis_of, name):
    """A socket's path has at most 107 bytes; a longer one moves to the directory for temporary files."""
    with EmbeddedServer(tmp_path / name) as server:
        assert redis_of(server).ping()


OWNS_A_SERVER = """
import sys, time
from pathlib import Path
from broker.embedded.server import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_owner_and_the_next_one_goes_on(tmp_path, python, redis_of):
    """The wheel's own launcher leaves an orphan that still owns the files."""
    owner = python(OWNS_A_SERVER, tmp_path / "redis")
    pid = int(owner.stdout.readline())
    server = EmbeddedServer(tmp_path / "redis")
    redis_of(server).set("job", "accepted")

    owner.kill()

    wait_until(lambda: not is_alive(pid))
    with server:
        assert redis_of(server).get("job") == "accepted"


def test_one_that_cannot_start_says_why(tmp_path):
    folder = tmp_path / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(StoreUnavailable, match=r"(?i)manifest"):
        EmbeddedServer(tmp_path / "redis").start()

    assert not EmbeddedServer(tmp_path / "redis").is_running()


def test_a_machine_without_any_server_gets_told_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidConfiguration, match=r"\[embedded\]"):
        EmbeddedServer(tmp_path / "redis").start()


def test_a_server_on_the_path_will_do(tmp_path, monkeypatch):
    (tmp_path / "redis-server").symlink_to(find_server())
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_server() == tmp_path / "redis-server"


# ---- the lock ----------------------------------------------------------------------------------------


def test_a_lock_lasts_as_long_as_a_child_that_inherited_it(tmp_path):
    first, second = (DirectoryLock(tmp_path / "lock", "a broker") for _ in range(2))
    first.acquire()
    child = subprocess.Popen(["sleep", "60"], pass_fds=[first.fileno()])
    try:
        first.release()

        with pytest.raises(Conflict):
            second.acquire()
    finally:
        child.kill()
        child.wait()

    second.acquire()
    second.release()


# ---- the supervisor ----------------------------------------------------------------------------------


@pytest.fixture
def supervise(tmp_path):
    """A supervisor of Python programs, and what it said."""
    made = []

    def supervise(**programs):
        said = []
        commands = {name: [sys.executable, "-c", program] for name, program in programs.items()}
        made.append(Supervisor(commands, os.environ, tmp_path / "logs", tell=said.append))
        made[-1].start()
        return made[-1], said

    yield supervise
    for supervisor in made:
        supervisor.stop(grace_s=1.0)


RUNS = "import time; print('up', flush=True); time.sleep(60)"


def test_a_process_that_dies_is_started_again_and_its_last_words_are_shown(supervise):
    supervisor, said = supervise(api=RUNS, worker="print('no such table'); raise SystemExit(3)")
    api, _ = supervisor.children

    wait_until(lambda: supervisor.tend() or len(said) >= 4, why="it died twice")

    assert "worker ended (exit code 3) and is started again in 0.5 s" in said[0]
    assert "worker | no such table" in said[1]
    assert "started again in 1.0 s" in said[2], "the pause grows"
    assert api.process.poll() is None


def test_one_that_does_not_want_to_stop_is_killed(supervise):
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); " + RUNS
    supervisor, said = supervise(api=stubborn, worker=RUNS)
    pids = [child.process.pid for child in supervisor.children]
    wait_until(lambda: all("up" in child.log.read_text() for child in supervisor.children))

    supervisor.stop(grace_s=0.2)

    assert said == ["api did not stop in time and is killed"]
    assert not any(is_alive(pid) for pid in pids)


SUPERVISES = """
import os, sys, time
from pathlib import Path
from broker.embedded.supervisor import Supervisor
job = "p = subprocess.Popen(['sleep', '60'], start_new_session=True); print(p.pid, flush=True)"
run = [sys.executable, "-c", f"import subprocess, time; {job}; time.sleep(60)"]
supervisor = Supervisor({"worker": run}, os.environ, Path(sys.argv[1]))
supervisor.start()
print(supervisor.children[0].process.pid, flush=True)
time.sleep(60)
"""


def test_a_killed_supervisor_takes_its_processes_along_but_not_what_they_left_running(tmp_path, python):
    """Running jobs, and the agent that minds them, are children of a worker."""
    supervisor = python(SUPERVISES, tmp_path)
    worker = int(supervisor.stdout.readline())
    log = tmp_path / "worker.log"
    job = int(wait_until(lambda: log.exists() and log.read_text()))

    supervisor.kill()

    try:
        wait_until(lambda: not is_alive(worker))
        assert is_alive(job)
    finally:
        os.kill(job, signal.SIGKILL)


# ---- broker dev --------------------------------------------------------------------------------------


def test_without_a_configured_backend_there_is_the_local_one(tmp_path):
    environment = environment_for(tmp_path, "unix:///r.sock", None, {"BROKER_LISTEN_HOST": "127.0.0.1"})

    assert environment["BROKER_BACKENDS"] == '[{"name": "local", "type": "local"}]'
    assert environment["BROKER_DATA_DIR"] == str(tmp_path)


def test_configured_backends_stay_as_they_are(tmp_path):
    config = tmp_path / "broker.toml"
    config.write_text('[[backends]]\nname = "hpc"\ntype = "slurm"')

    environment = environment_for(tmp_path, "unix:///r.sock", config, {})

    assert "BROKER_BACKENDS" not in environment
    assert environment["BROKER_CONFIG"] == str(config)


def test_a_user_without_a_name_is_me(monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "odd name")

    assert this_user() == "me"
