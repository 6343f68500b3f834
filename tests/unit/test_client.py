"""The SDK: what it sends, what it repeats, and what it makes of the answers."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx2
import pytest

from broker.client import Client, NotReachable, Refused, WaitTimeout
from broker.client.contexts import Connection, config_path, resolve, save_context, write_private
from broker.client.errors import NotConfigured
from broker.client.plain import PlainWire, suits
from tests.fake_api import JOB_ID, FakeApi, decision, job, problem, summary

SPEC = {"kind": "batch", "name": "x", "command": ["true"]}
SUBMITTED = {"job": job("ACCEPTED"), "decision": decision()}


@pytest.fixture
def api():
    return FakeApi()


@pytest.fixture
def client(api):
    with api.client() as client:
        yield client


# ---- submitting --------------------------------------------------------------------------------------


def test_one_spec_is_the_body_itself_and_several_are_a_bundle(api, client):
    api.on("POST", "/v1/jobs", SUBMITTED)
    api.on("POST", "/v1/jobs:batch", {"jobs": [SUBMITTED, SUBMITTED]})

    assert client.submit([SPEC]) == [SUBMITTED]
    assert api.body() == SPEC
    assert client.submit([SPEC, SPEC]) == [SUBMITTED, SUBMITTED]
    assert api.body() == {"jobs": [SPEC, SPEC]}


def test_one_spec_without_its_list_is_a_sentence(client):
    with pytest.raises(TypeError, match=r"'kind' is no job specification; submit\(\) takes a list"):
        client.submit(SPEC)


def test_a_lost_answer_to_a_submission_is_asked_for_again_with_the_same_key(api, client):
    """Without the key the second request could make a second job."""
    api.on("POST", "/v1/jobs", httpx2.RemoteProtocolError("closed"), SUBMITTED)

    client.submit([SPEC])

    keys = [request.headers["Idempotency-Key"] for request in api.requests]
    assert len(keys) == 2 and len(set(keys)) == 1


def test_two_submissions_have_two_keys(api, client):
    api.on("POST", "/v1/jobs", SUBMITTED)

    client.submit([SPEC])
    client.submit([SPEC])

    assert api.requests[0].headers["Idempotency-Key"] != api.requests[1].headers["Idempotency-Key"]


def test_a_dataclass_is_sent_as_the_wire_has_it(api, client):
    from api_spec.schemas import load_spec

    api.on("POST", "/v1/jobs", SUBMITTED)

    client.submit([load_spec({**SPEC, "resources": {"memory_per_node": "2048MiB"}})])

    assert api.body()["resources"]["memory_per_node"] == "2GiB"


# ---- retries -----------------------------------------------------------------------------------------


def test_retry_after_is_waited_for(api, client):
    busy = problem(429, "rate_limited", "too many", {"Retry-After": "7"})
    api.on("GET", f"/v1/jobs/{JOB_ID}", busy, job())

    assert client.get(JOB_ID)["state"] == "RUNNING"
    assert api.slept == [7.0]


def test_a_broker_that_stays_busy_is_told_as_it_is(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", problem(503, "store_unavailable", "Redis does not answer"))

    with pytest.raises(Refused, match="Redis does not answer") as refused:
        client.get(JOB_ID)

    assert refused.value.code == "store_unavailable"
    assert len(api.requests) == 3


def test_nobody_waits_an_hour_unasked(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", problem(429, "rate_limited", "x", {"Retry-After": "3600"}))

    with pytest.raises(Refused):
        client.get(JOB_ID)

    assert api.slept == []


@pytest.mark.parametrize(
    ("failure", "requests"),
    [
        pytest.param(httpx2.ConnectError("refused"), 3, id="never sent: may be sent again"),
        pytest.param(httpx2.ReadError("reset"), 1, id="lost answer: may have been acted upon"),
        pytest.param(httpx2.ReadTimeout("silence"), 1, id="silence"),
    ],
)
def test_what_is_asked_of_one_version_is_not_repeated_when_it_may_have_been_done(
    api, client, failure, requests
):
    """The first one has made another version of it, so the second would be told that somebody was faster."""
    api.on("POST", f"/v1/jobs/{JOB_ID}/cancel", failure)

    with pytest.raises(NotReachable):
        client.cancel(JOB_ID, version=3)

    assert len(api.requests) == requests


def test_a_lost_answer_to_a_resubmission_is_asked_for_again_with_the_same_key(api, client):
    path = f"/v1/jobs/{JOB_ID}/resubmit"
    api.on("POST", path, httpx2.ReadError("reset"), SUBMITTED)

    client.resubmit(JOB_ID, version=3)

    assert len({request.headers["Idempotency-Key"] for request in api.requests}) == 1
    assert [request.headers["If-Match"] for request in api.requests] == ['"3"', '"3"']


@pytest.mark.parametrize("verb", ["cancel", "hold", "release"])
def test_an_action_can_be_bound_to_a_version(api, client, verb):
    api.on("POST", f"/v1/jobs/{JOB_ID}/{verb}", job())

    getattr(client, verb)(JOB_ID)
    getattr(client, verb)(JOB_ID, version=3)

    assert [request.headers.get("If-Match") for request in api.requests] == [None, '"3"']


@pytest.mark.parametrize("tasks", ["3,5-9", (3, 5, 6), range(3), []], ids=str)
def test_single_tasks_are_named_by_a_list_or_by_numbers(api, client, tasks):
    """An empty list must not become a cancel of the whole job."""
    api.on("POST", f"/v1/jobs/{JOB_ID}/cancel", job())

    client.cancel(JOB_ID, tasks=tasks)

    named = tasks if isinstance(tasks, str) else ",".join(str(one) for one in tasks)
    assert api.body() == {"tasks": named}


def test_a_cancel_of_the_whole_job_has_no_body(api, client):
    api.on("POST", f"/v1/jobs/{JOB_ID}/cancel", job())

    client.cancel(JOB_ID)

    assert api.last.content == b""


def test_nobody_there_says_what_to_do(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", httpx2.ConnectError("refused"))

    with pytest.raises(
        NotReachable, match=r"no broker answers at http://broker.example: start one with `broker dev`"
    ):
        client.get(JOB_ID)


def test_an_answer_that_is_no_problem_document_is_still_an_error(api, client):
    """A proxy in between answers with its own page."""
    api.on("GET", f"/v1/jobs/{JOB_ID}", httpx2.Response(502, text="<html>bad gateway</html>"))

    with pytest.raises(Refused, match="502") as refused:
        client.get(JOB_ID)

    assert refused.value.code == "http_502"


def test_a_refusal_carries_the_problem_document(api, client):
    faults = [{"pointer": "/resources/nodes", "message": "must be at least 1"}]
    api.on("POST", "/v1/jobs", problem(422, "nothing_fits", "no backend", errors=faults, decision=decision()))

    with pytest.raises(Refused) as refused:
        client.submit([SPEC])

    assert refused.value.faults == tuple(faults)
    assert refused.value.decision["summary"] == decision()["summary"]


# ---- reading -----------------------------------------------------------------------------------------


def test_a_list_goes_on_over_short_pages_until_there_is_no_next(api, client):
    first, second, last = (
        {"items": [summary("a")], "next": "c1"},
        {"items": [], "next": "c2"},
        {"items": [summary("b")]},
    )
    api.on("GET", "/v1/jobs", first, second, last)

    assert [found["id"] for found in client.list(state=["RUNNING", "QUEUED"], backend=None)] == ["a", "b"]
    assert [request.url.params.get("cursor") for request in api.requests] == [None, "c1", "c2"]
    assert api.last.url.params.get_list("state") == ["RUNNING", "QUEUED"]
    assert "backend" not in api.last.url.params


def page(data, cursor, at_end, complete):
    said = {"Cursor": cursor, "At-End": at_end, "Complete": complete}
    headers = {f"Broker-Log-{name}": str(value).lower() for name, value in said.items()}
    return httpx2.Response(200, content=data, headers=headers)


def test_a_log_is_read_by_cursor_and_as_bytes(api, client):
    """A character that is cut by the end of a page must survive."""
    whole = "déjà vu".encode()
    pages = [page(whole[:2], 2, False, True), page(whole[2:], 9, True, True)]
    api.on("GET", f"/v1/jobs/{JOB_ID}/logs", *pages)

    assert b"".join(client.logs(JOB_ID, stream="stderr")) == whole
    assert [request.url.params.get("cursor") for request in api.requests] == [None, "2"]
    assert api.last.url.params["stream"] == "stderr"


def test_what_a_reader_should_know_is_told_once_and_before_the_text(api, client):
    note = {"Broker-Log-Note": "its pod is gone; the last 3 bytes were kept"}
    pages = [page(b"one", 3, False, True), page(b"two", 6, True, True)]
    for one in pages:
        one.headers.update(note)
    api.on("GET", f"/v1/jobs/{JOB_ID}/logs", *pages)
    heard = []

    pieces = [(list(heard), piece) for piece in client.logs(JOB_ID, told=heard.append)]

    assert pieces == [([note["Broker-Log-Note"]], b"one"), ([note["Broker-Log-Note"]], b"two")]


def test_following_waits_for_the_start_and_ends_when_no_more_will_come(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("QUEUED"), job("RUNNING"))
    pages = [page(b"one", 3, True, False), page(b"", 3, True, False), page(b"two", 6, True, True)]
    api.on("GET", f"/v1/jobs/{JOB_ID}/logs", *pages)

    assert list(client.logs(JOB_ID, follow=True)) == [b"one", b"two"]


def test_following_a_job_that_never_started_ends(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("ACCEPTED", attempt=0), job("CANCELLED", attempt=0))

    assert list(client.logs(JOB_ID, follow=True)) == []


def test_without_following_the_end_of_now_is_the_end(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}/logs", page(b"so far", 6, True, False))

    assert list(client.logs(JOB_ID)) == [b"so far"]


def test_both_streams_are_followed_in_one_loop_until_each_is_complete(api, client):
    """One that is over is not asked again; nobody sleeps while there is more of the other."""
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("RUNNING"))
    pages = [
        page(b"out 1", 5, False, False),
        page(b"", 0, True, False),
        page(b"out 2", 9, True, False),
        page(b"err 1", 5, True, False),
        page(b"", 9, True, True),
        page(b"", 5, True, False),
        page(b"err 2", 9, True, True),
    ]
    api.on("GET", f"/v1/jobs/{JOB_ID}/logs", *pages)

    pieces = list(client.output(JOB_ID, follow=True, tail_bytes=9))

    assert pieces == [("stdout", b"out 1"), ("stdout", b"out 2"), ("stderr", b"err 1"), ("stderr", b"err 2")]
    asked = [(request.url.params["stream"], request.url.params.get("cursor")) for request in api.requests[1:]]
    assert asked[:4] == [("stdout", None), ("stderr", None), ("stdout", "5"), ("stderr", "0")]
    assert asked[4:] == [("stdout", "9"), ("stderr", "5"), ("stderr", "5")]
    assert len(api.slept) == 2
    assert ["tail_bytes" in request.url.params for request in api.requests[1:4]] == [True, True, False]


def sse(*events):
    text = "retry: 2000\n\n: heartbeat\n\n"
    text += "".join(f"id: {event['id']}\nevent: running\ndata: {json.dumps(event)}\n\n" for event in events)
    return httpx2.Response(200, content=text, headers={"Content-Type": "text/event-stream"})


def test_events_go_on_behind_the_last_one_when_the_connection_breaks(api, client):
    events = [{"id": f"i-{number}"} for number in range(3)]
    api.on("GET", "/v1/events", sse(events[0]), httpx2.ReadError("reset"), sse(*events[1:]))

    stream = client.events(follow=True)

    assert [next(stream) for _ in range(3)] == events
    assert api.last.headers["Last-Event-ID"] == "i-0"


def test_a_stream_that_breaks_before_its_first_event_goes_on_where_it_began(api, client):
    began = httpx2.Response(
        200, content="retry: 2000\nid: i-7\n\n", headers={"Content-Type": "text/event-stream"}
    )
    api.on("GET", "/v1/operator/events", began, httpx2.ReadError("reset"), sse({"id": "i-8"}))

    stream = client.events(after="latest", follow=True, operator=True)

    assert next(stream) == {"id": "i-8"}
    assert [request.headers.get("Last-Event-ID") for request in api.requests] == [None, "i-7", "i-7"]
    assert {request.url.params["after"] for request in api.requests} == {"latest"}


def test_a_problem_within_a_stream_is_raised(api, client):
    text = 'event: problem\ndata: {"code": "gone", "detail": "no longer kept"}\n\n'
    api.on(
        "GET", "/v1/events", httpx2.Response(200, content=text, headers={"Content-Type": "text/event-stream"})
    )

    with pytest.raises(Refused, match="no longer kept"):
        next(client.events(follow=True))


def test_pages_of_events_end_with_an_empty_one(api, client):
    api.on("GET", "/v1/events", {"items": [{"id": "i-1"}], "next": "i-1"}, {"items": [], "next": "i-1"})

    assert [event["id"] for event in client.events()] == ["i-1"]
    assert api.last.url.params["after"] == "i-1"


# ---- waiting -----------------------------------------------------------------------------------------


def test_waiting_tells_each_change_once(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("QUEUED"), job("RUNNING"), job("RUNNING"), job("COMPLETED"))
    told = []

    jobs = client.wait([JOB_ID], progress=lambda found: told.append(found["state"]))

    assert told == ["QUEUED", "RUNNING", "COMPLETED"]
    assert [found["state"] for found in jobs] == ["COMPLETED"]


def test_the_last_job_is_asked_for_its_next_change(api, client):
    unchanged = httpx2.Response(304)
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("RUNNING"), unchanged, job("COMPLETED", version=4))

    assert client.wait([JOB_ID])[0]["state"] == "COMPLETED"
    assert api.last.headers["If-None-Match"] == '"3"'
    assert api.last.headers["Prefer"].startswith("wait=")


@pytest.mark.parametrize(
    ("until", "found"),
    [
        ("started", job("RUNNING")),
        ("ready", job("RUNNING", service={"ready": 1})),
        ("succeeded", job("FAILED")),  # it never will
        ("ready", job("CANCELLED")),
    ],
)
def test_waiting_ends_when_it_has_come_or_never_will(api, client, until, found):
    api.on("GET", f"/v1/jobs/{JOB_ID}", found)

    assert client.wait([JOB_ID], until=until, timeout=0) == [found]


def test_waiting_too_long_says_for_what(api, client):
    api.on("GET", f"/v1/jobs/{JOB_ID}", job("QUEUED"))

    with pytest.raises(WaitTimeout, match=f"{JOB_ID} is QUEUED") as late:
        client.wait([JOB_ID], timeout=0)

    assert late.value.jobs[0]["state"] == "QUEUED"


# ---- where the broker is -----------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path):
    return {"HOME": str(tmp_path)}


def test_the_environment_stands_before_the_files(home):
    save_context("site", Connection("http://site", "t1"), home)

    assert resolve(environ=home | {"BROKER_URL": "http://other/", "BROKER_TOKEN": "t2"}) == Connection(
        "http://other", "t2"
    )


def test_a_token_is_never_sent_to_another_url_than_its_file_names(home):
    save_context("site", Connection("http://site", "t1"), home)

    assert resolve(environ=home | {"BROKER_URL": "http://other"}).token is None
    assert resolve(environ=home | {"BROKER_URL": "http://site"}).token == "t1"


def test_contexts_are_chosen_by_name_and_the_last_saved_is_current(home):
    save_context("a", Connection("http://a", "t1"), home)
    path = save_context("b", Connection("http://b", "t2", "ana"), home)

    assert resolve(environ=home) == Connection("http://b", "t2", "ana")
    assert resolve(context="a", environ=home).url == "http://a"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotConfigured, match="known: a, b"):
        resolve(context="c", environ=home)


def test_a_running_broker_dev_is_found(home, tmp_path):
    write_private(tmp_path / "dev.json", {"url": "http://127.0.0.1:5", "token": "t", "pid": 1})

    assert resolve(environ=home | {"BROKER_DATA_DIR": str(tmp_path)}) == Connection("http://127.0.0.1:5", "t")


def test_a_token_that_others_can_read_is_refused(home):
    os.chmod(save_context("a", Connection("http://a", "t1"), home), 0o640)

    with pytest.raises(NotConfigured, match="chmod 600"):
        resolve(environ=home)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"contexts": ["site"]}, '"contexts": {NAME: {"url": '),
        ({"contexts": {"site": "http://site"}}, "the context 'site' must hold {\"url\": "),
        ({"contexts": {"site": {"token": "wb_x"}}}, "the context 'site' must hold {\"url\": "),
        (
            {"contexts": {"site": {"url": "http://site", "token": 5}}},
            "the context 'site' must hold {\"url\": ",
        ),
    ],
)
def test_a_configuration_file_without_its_form_is_told_the_form(home, content, said):
    write_private(save_context("a", Connection("http://a"), home), content | {"current": "site"})

    with pytest.raises(NotConfigured) as caught:
        resolve(environ=home)

    assert said in str(caught.value)
    assert str(config_path(home)) in str(caught.value)


def test_a_token_alone_in_a_file_is_no_configuration(home):
    config_path(home).parent.mkdir(parents=True)
    config_path(home).write_text("wb_secret\n")
    config_path(home).chmod(0o600)

    with pytest.raises(NotConfigured, match=r"is not JSON .*docs/command-line.md") as caught:
        resolve(environ=home)

    assert "wb_secret" not in str(caught.value)


def test_with_nothing_at_all_it_is_this_machine(home):
    assert resolve(environ=home) == Connection("http://127.0.0.1:8080")


# ---- the quick wire ----------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """A real one, on a port of this machine."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers, self.seen = {}, []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, self.headers, body))
        missing = (404, {"detail": "nothing there"})
        status, document = self.server.answers.get((self.command, self.path), missing)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        """The output of the tests is for the tests."""


@pytest.fixture
def http_server():
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def plain(http_server):
    with Client(wire=PlainWire(Connection(http_server.url, "wb_secret", "ana"), 5.0)) as client:
        yield client


def test_the_quick_wire_says_the_same_as_the_other(plain, http_server):
    http_server.answers["GET", f"/v1/jobs/{JOB_ID}"] = (200, job())
    http_server.answers["POST", "/v1/jobs"] = (202, SUBMITTED)

    assert plain.get(JOB_ID) == job()
    assert plain.submit([SPEC]) == [SUBMITTED]
    method, path, headers, body = http_server.seen[-1]
    assert (method, path, json.loads(body)) == ("POST", "/v1/jobs", SPEC)
    assert headers["Authorization"] == "Bearer wb_secret"
    assert headers["Broker-Owner"] == "ana"
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"]


def test_the_quick_wire_raises_the_same_refusals(plain):
    with pytest.raises(Refused, match="nothing there") as refused:
        plain.get("nobody")

    assert refused.value.status == 404


def test_the_quick_wire_knows_when_nobody_is_there():
    client = Client(wire=PlainWire(Connection("http://127.0.0.1:1"), 1.0), sleep=lambda _: None)

    with client, pytest.raises(NotReachable, match="no broker answers"):
        client.get(JOB_ID)


@pytest.mark.parametrize(
    ("environ", "answer"),
    [
        ({}, True),
        ({"HTTPS_PROXY": "http://proxy"}, False),
        ({"http_proxy": ""}, True),
    ],
)
def test_the_quick_wire_leaves_proxies_to_the_other(environ, answer):
    assert suits(environ) is answer


def test_a_token_that_was_left_empty_is_not_replaced_by_another(tmp_path):
    """``BROKER_TOKEN=$(a command that failed)`` acted with the rights of the kept administrator."""
    with pytest.raises(NotConfigured, match="empty"):
        resolve(environ={"HOME": str(tmp_path), "BROKER_URL": "http://site", "BROKER_TOKEN": ""})
