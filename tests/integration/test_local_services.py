"""Services on this machine: replicas behind one endpoint, through updates, deaths and scaling."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from adapters.local import daemon, processes
from api_spec.jobs import JobSpec, Kind, Replicas, Resources, Service
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.integration.local_bench import PATIENCE_S, LocalBench, kill

pytestmark = pytest.mark.process

PROGRAM = (
    f"#!{sys.executable} -S"
    + """
import http.server, os, time

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        code, text = 200, os.environ["BROKER_REPLICA"] + " " + os.environ.get("VERSION", "1")
        ill = os.environ.get("SICK") or os.path.exists(os.environ.get("ILL", "/no"))
        if self.path == "/health" and ill:
            code = 500
        if self.path == "/die":
            os._exit(3)
        if self.path == "/slow":
            time.sleep(1.5)
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["BROKER_PORT"])), Handler).serve_forever()
"""
)


@pytest.fixture
def local(tmp_path):
    with LocalBench(tmp_path / "data") as bench:
        yield bench


def service(**changes):
    replicas = changes.pop("replicas", 1)
    served = Service(port=8000, replicas=Replicas(min=replicas, max=8))
    return JobSpec(kind=Kind.INFERENCE, name="model", script=PROGRAM, service=served, **changes)


def submit(local, spec):
    ref = local.new_ref()
    return replace(ref, handle=local.adapter.submit(ref, spec))


def ready(local, ref, count, revision=1):
    """As many as are wanted, and all of them of that revision."""
    seen = local.until(
        ref,
        lambda seen: (
            (seen.service.ready, seen.service.updated, seen.service.wanted) == (count, count, count)
            and seen.service.revision == revision
            and live_replicas(local) == count
        ),
        f"{count} replicas are ready",
    )
    return seen.service


def live_replicas(local):
    return len(local.rows("SELECT 1 FROM tasks WHERE state != 'ENDED'"))


def ask(endpoint, path="/"):
    """(status, text) over a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def answers(endpoint, count=8):
    return {ask(endpoint)[1] for _ in range(count)}


def test_a_service_runs_when_a_replica_is_ready(local):
    ref = submit(local, service())
    first = local.look(ref)

    seen = local.running(ref)

    assert (first.state, first.service.ready) == (AttemptState.QUEUED, 0)
    assert (seen.service.ready, seen.service.wanted) == (1, 1)
    assert ask(seen.service.endpoint) == (200, "0 1")


def test_both_replicas_answer_after_scaling_up_and_one_after_scaling_down(local):
    spec = service()
    ref = submit(local, spec)
    local.running(ref)

    local.adapter.update(replace(ref, replicas=2), spec)
    two = ready(local, ref, 2)
    both = answers(two.endpoint)
    local.adapter.update(replace(ref, replicas=1), spec)
    one = ready(local, ref, 1)

    assert both == {"0 1", "1 1"}
    assert len(answers(one.endpoint)) == 1
    assert one.endpoint == two.endpoint


def test_a_repeated_update_changes_nothing(local):
    spec = service(replicas=2)
    ref = submit(local, spec)
    ready(local, ref, 2)
    before = local.rows("SELECT launch FROM tasks")

    for _ in range(3):
        local.adapter.update(replace(ref, replicas=2), spec)
    ready(local, ref, 2)

    assert [row["launch"] for row in local.rows("SELECT launch FROM tasks")] == [
        row["launch"] for row in before
    ]


def test_an_update_replaces_one_by_one_and_every_request_is_answered(local):
    ref = submit(local, service(replicas=2))
    endpoint = ready(local, ref, 2).endpoint
    statuses, stop = [], threading.Event()

    def keep_asking():
        while not stop.is_set():
            statuses.append(ask(endpoint)[0])

    asking = threading.Thread(target=keep_asking)
    asking.start()
    local.adapter.update(
        replace(ref, replicas=2, revision=2), service(replicas=2, environment={"VERSION": "2"})
    )
    ready(local, ref, 2, revision=2)
    stop.set()
    asking.join()

    assert {text.split()[1] for text in answers(endpoint)} == {"2"}
    assert set(statuses) == {200}


def test_without_room_for_one_more_an_update_stops_one_first(tmp_path):
    with LocalBench(tmp_path / "data", cpus=2) as local:
        ref = submit(local, service(replicas=2))
        endpoint = ready(local, ref, 2).endpoint

        local.adapter.update(
            replace(ref, replicas=2, revision=2), service(replicas=2, environment={"VERSION": "2"})
        )
        ready(local, ref, 2, revision=2)

        assert [text.split()[1] for text in sorted(answers(endpoint))] == ["2", "2"]


def test_a_revision_that_never_gets_ready_leaves_the_old_one_serving(local):
    ref = submit(local, service())
    endpoint = ready(local, ref, 1).endpoint

    local.adapter.update(replace(ref, replicas=1, revision=2), service(environment={"SICK": "1"}))
    local.until(ref, lambda seen: seen.service.updated == 1)
    seen = local.look(ref)

    assert (seen.state, seen.service.ready) == (AttemptState.RUNNING, 1)
    assert ask(endpoint) == (200, "0 1")


def test_a_replica_that_dies_starts_again(local):
    ref = submit(local, service())
    first = local.running(ref)

    with pytest.raises((http.client.HTTPException, OSError)):
        ask(first.service.endpoint, "/die")
    gone = local.until(ref, lambda seen: seen.state is AttemptState.QUEUED, "it is not ready any more")
    again = local.running(ref)

    assert gone.restarts > first.restarts  # or the job could not go back to QUEUED
    assert "exit code 3" in gone.service.message
    assert again.service.endpoint == first.service.endpoint
    assert ask(again.service.endpoint)[0] == 200


def test_a_replica_that_dies_at_once_starts_ever_more_slowly(local):
    spec = replace(service(), script=None, command=("sh", "-c", "exit 4"))
    ref = submit(local, spec)

    local.until(ref, lambda seen: seen.restarts >= 3)

    (row,) = local.rows("SELECT failures, not_before, ended_at FROM tasks")
    assert row["not_before"] - row["ended_at"] > 1.5
    assert "exit code 4" in local.look(ref).message


def test_a_service_that_says_it_is_ill_gets_no_connections(local, tmp_path):
    ref = submit(local, service(environment={"ILL": str(tmp_path / "ill")}))
    endpoint = local.running(ref).service.endpoint

    (tmp_path / "ill").touch()
    local.until(ref, lambda seen: seen.state is AttemptState.QUEUED)
    refused = ask(endpoint)
    (tmp_path / "ill").unlink()

    assert refused == (503, "no replica is ready\n")
    local.running(ref)


def test_a_replica_is_drained_before_it_stops(local):
    spec = service(replicas=2)
    ref = submit(local, spec)
    endpoint = ready(local, ref, 2).endpoint
    slow = []
    asking = [threading.Thread(target=lambda: slow.append(ask(endpoint, "/slow"))) for _ in range(4)]
    for one in asking:
        one.start()
    wait_until(lambda: established(endpoint) >= 4, PATIENCE_S)

    local.adapter.update(replace(ref, replicas=1), spec)
    for one in asking:
        one.join()

    assert sorted(slow) == [(200, "0 1")] * 2 + [(200, "1 1")] * 2
    ready(local, ref, 1)


def established(endpoint):
    port = f":{urlsplit(endpoint).port:04X}"
    with open("/proc/net/tcp") as file:
        return sum(line.split()[2].endswith(port) and line.split()[3] == "01" for line in file)


def test_the_endpoint_serves_while_no_agent_lives_and_keeps_its_port_over_its_own_death(local):
    ref = submit(local, service())
    endpoint = local.running(ref).service.endpoint

    local.kill_agent()
    alone = ask(endpoint)
    (proxy,) = local.rows("SELECT pid FROM proxies")
    kill(proxy["pid"])
    local.look(ref)  # brings an agent up

    assert alone == (200, "0 1")
    wait_until(lambda: answers_now(endpoint), PATIENCE_S)
    assert ask(endpoint) == (200, "0 1")
    assert local.look(ref).service.endpoint == endpoint


def answers_now(endpoint):
    try:
        return ask(endpoint)[0] == 200
    except OSError:
        return False


def test_a_death_while_the_endpoint_starts_leaves_one_endpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("BROKER_LOCAL_CRASH", "agent.proxy_spawned")
    monkeypatch.setenv("BROKER_LOCAL_CRASH_ONCE", str(tmp_path / "died"))
    with LocalBench(tmp_path / "data") as local:
        ref = submit(local, service())

        assert ask(local.running(ref).service.endpoint) == (200, "0 1")
        assert len([line for line in local.processes() if "local.proxy" in line]) == 1
    assert (tmp_path / "died").exists()


def test_cancel_ends_replicas_and_endpoint(local):
    ref = submit(local, service(replicas=2))
    endpoint = ready(local, ref, 2).endpoint

    local.adapter.cancel(ref)
    seen = local.ended(ref)

    assert (seen.outcome, seen.reason, seen.service.endpoint) == (JobState.CANCELLED, Reason.CANCELLED, None)
    with pytest.raises(ConnectionRefusedError):
        ask(endpoint)
    assert [line for line in local.processes() if "local.agent" not in line] == []


def test_a_service_over_its_time_limit_ends(local):
    ref = submit(local, service(time_limit_s=1))

    seen = local.ended(ref)

    assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.TIME_LIMIT)


def test_replicas_wait_for_slots(local):
    spec = service(replicas=2, resources=Resources(cpus_per_task=3))
    ref = submit(local, spec)
    local.running(ref)

    why = local.adapter.explain_pending(ref)

    assert [one.code for one in why] == [Reason.CAPACITY]
    assert why[0].message == "asks for 3 CPUs; free are 1"
    assert local.look(ref).service.ready == 1


def test_each_replica_has_a_log_of_its_own(local):
    script = PROGRAM.replace(
        "import http",
        "print('replica of port', __import__('os').environ['BROKER_PORT'], flush=True)\nimport http",
    )
    ref = submit(local, replace(service(replicas=2), script=script))
    ready(local, ref, 2)

    said = [local.output(ref, replica=number) for number in (0, 1)]

    assert len(set(said)) == 2
    assert all(text.startswith("replica of port") for text in said)


def test_a_connection_may_be_closed_in_one_direction_first(local):
    """Not every client speaks HTTP as browsers do: this one has said all and still wants the answer."""
    ref = submit(local, service())
    where = urlsplit(local.running(ref).service.endpoint)

    with socket.create_connection((where.hostname, where.port), timeout=PATIENCE_S) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk

    assert answer.endswith(b"0 1")


def test_everything_of_a_service_can_be_stopped_at_once(local):
    ref = submit(local, service(replicas=2))
    ready(local, ref, 2)
    pids = [*local.supervisors(), *(row["pid"] for row in local.rows("SELECT pid FROM proxies"))]

    assert daemon.stop_everything(local.data_dir)

    assert all(processes.born(pid) is None for pid in pids)
    assert local.processes() == []
