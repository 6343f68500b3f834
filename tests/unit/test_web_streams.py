"""Logs and events, by page and followed."""

import random

import pytest
from web_stub import TRAINING, parse_stream, running_api

from adapters.base import LogPage
from api_spec.errors import BackendUnavailable, Fault, InvalidRequest
from api_spec.states import JobState
from broker.access import Scope
from broker.web import logs, streaming
from broker.web.logs import cut_bytes

STREAM = {"Accept": "text/event-stream"}
EVENTS = ["/v1/events", "/v1/operator/events"]
TEXT = "größer 漢字 😀 plain\n" * 50


@pytest.fixture
def api():
    with running_api(api_threads=4) as api:
        yield api


@pytest.fixture
def ana(api):
    return api.as_("ana")


@pytest.fixture
def job_id(ana):
    return ana.post("/v1/jobs", json=TRAINING).json["job"]["id"]


# ---- log pages ---------------------------------------------------------------------------------------


def test_a_page_of_the_log_says_where_the_next_begins(api, ana, job_id):
    api.broker.log_bytes = b"one\ntwo\n"

    first = ana.get(f"/v1/jobs/{job_id}/logs?limit_bytes=4").json
    second = ana.get(f"/v1/jobs/{job_id}/logs?cursor={first['cursor']}").json

    assert (first["data"], first["at_end"], first["complete"]) == ("one\n", False, False)
    assert (second["data"], second["at_end"], second["complete"]) == ("two\n", True, True)


def test_an_empty_cursor_is_the_start(api, ana, job_id):
    """A page says so before there is a log, and a client hands back what it was given."""
    api.broker.log_bytes = b"one\n"

    assert ana.get(f"/v1/jobs/{job_id}/logs?cursor=").json["data"] == "one\n"


def test_what_is_asked_of_a_log_reaches_the_backend(api, ana, job_id):
    ana.get(f"/v1/jobs/{job_id}/logs?stream=stderr&attempt=2&task=7&replica=1&tail_bytes=10&limit_bytes=99")

    query, attempt = api.broker.log_reads[-1]
    assert (query.stream, query.task_index, query.replica) == ("stderr", 7, 1)
    assert (query.tail_bytes, query.limit_bytes, attempt) == (10, 99, 2)


def test_plain_text_has_the_note_beside_it(api, ana, job_id):
    """What a node says may hold anything, and a header only so much."""
    api.broker.log_note = "its pod is gone:\r\nX: größer"

    answer = ana.get(f"/v1/jobs/{job_id}/logs", headers={"Accept": "text/plain"})

    assert answer.headers["Broker-Log-Note"] == "its pod is gone: X: gr??er"


def test_plain_text_has_every_byte_as_it_was_written(api, ana, job_id):
    api.broker.log_bytes = bytes(range(256))

    answer = ana.get(f"/v1/jobs/{job_id}/logs", headers={"Accept": "text/plain, application/problem+json"})

    assert "Broker-Log-Note" not in answer.headers
    assert answer.data == bytes(range(256))
    assert answer.headers["Broker-Log-Cursor"] == "256"
    assert (answer.headers["Broker-Log-At-End"], answer.headers["Broker-Log-Complete"]) == ("true", "true")


@pytest.mark.parametrize("seed", range(5))
def test_pages_of_any_size_put_together_are_the_text(api, ana, job_id, seed):
    """A character of four bytes may lie across any cut."""
    api.broker.log_bytes = TEXT.encode()
    sizes, pieces, cursor, complete = random.Random(seed), [], "0", False

    while not complete:
        size = sizes.randint(4, 40)
        page = ana.get(f"/v1/jobs/{job_id}/logs?cursor={cursor}&limit_bytes={size}").json
        pieces.append(page["data"])
        cursor, complete = page["cursor"], page["at_end"] and page["complete"]

    assert "".join(pieces) == TEXT


def test_the_tail_of_a_log_begins_with_a_whole_character(api, ana, job_id):
    api.broker.log_bytes = "漢字".encode()

    assert ana.get(f"/v1/jobs/{job_id}/logs?tail_bytes=5").json["data"] == "字"


def test_half_a_character_waits_for_its_rest(api, ana, job_id):
    api.broker.log_bytes, api.broker.log_complete = "ab漢".encode()[:-1], False
    first = ana.get(f"/v1/jobs/{job_id}/logs").json
    again = ana.get(f"/v1/jobs/{job_id}/logs?cursor={first['cursor']}").json
    api.broker.log_bytes, api.broker.log_complete = "ab漢".encode(), True

    last = ana.get(f"/v1/jobs/{job_id}/logs?cursor={again['cursor']}").json

    assert (first["data"], again["data"], last["data"]) == ("ab", "", "漢")


@pytest.mark.parametrize(
    "data, cut",
    [
        (b"", 0),
        (b"abc", 0),
        ("é".encode(), 0),
        ("é".encode()[:1], 1),
        ("漢".encode()[:2], 2),
        ("😀".encode(), 0),
        ("😀".encode()[:3], 3),
        (b"\x80\x80\x80\x80", 0),
        (b"a\xff", 1),
    ],
)
def test_what_is_cut_of_a_character_is_counted(data, cut):
    assert cut_bytes(data) == cut


@pytest.mark.parametrize(
    "query", ["stream=both", "limit_bytes=3", "limit_bytes=9999999", "attempt=0", "task=-1"]
)
def test_a_log_query_that_means_nothing_is_refused(ana, job_id, query):
    assert ana.get(f"/v1/jobs/{job_id}/logs?{query}").status_code == 400


# ---- followed logs -----------------------------------------------------------------------------------


def test_a_followed_log_ends_when_it_is_complete(api, ana, job_id):
    api.broker.log_bytes = TEXT.encode()

    answer = ana.get(f"/v1/jobs/{job_id}/logs?limit_bytes=50", headers=STREAM)
    events = parse_stream(answer.response, "end")

    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "".join(data["data"] for name, data, _ in events if name == "log") == TEXT
    assert events[-1][0] == "end"


def test_a_broken_stream_goes_on_where_it_was(api, ana, job_id):
    api.broker.log_bytes = b"one\ntwo\n"

    answer = ana.get(f"/v1/jobs/{job_id}/logs", headers={**STREAM, "Last-Event-ID": "4"})

    assert parse_stream(answer.response, "end")[0][1]["data"] == "two\n"


@pytest.mark.parametrize(
    "path, parameter",
    [("/v1/events", "after"), ("/v1/operator/events", "after"), ("/v1/jobs/{}/logs", "cursor")],
)
def test_a_wrong_place_to_go_on_is_shown_where_it_was_said(api, job_id, path, parameter):
    def refuse(*_):
        raise InvalidRequest("no such place", faults=[Fault(f"?{parameter}", "no such place")])

    for name in ("events", "operator_events", "log"):
        setattr(api.broker, name, refuse)
    ana, url = api.as_("ana", scopes=frozenset(Scope)), path.format(job_id)

    for answer, pointer in (
        (ana.get(f"{url}?{parameter}=foo"), f"?{parameter}"),
        (ana.get(f"{url}?{parameter}=foo", headers=STREAM), f"?{parameter}"),
        (ana.get(url, headers={**STREAM, "Last-Event-ID": "foo"}), "Last-Event-ID"),
    ):
        assert answer.status_code == 400
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]


def test_the_stream_of_a_job_refuses_what_is_no_event(ana, job_id):
    answer = ana.get(f"/v1/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": "foo"})

    assert answer.status_code == 400
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["Last-Event-ID"]


def test_a_silent_log_is_looked_at_again(api, ana, job_id, monkeypatch):
    api.broker.log_bytes, api.broker.log_complete = b"one\n", False
    monkeypatch.setattr(logs, "LOOK_S", (0.01,))
    chunks = ana.get(f"/v1/jobs/{job_id}/logs", headers=STREAM, buffered=False).response
    first = parse_stream(chunks, "log")

    api.broker.log_bytes, api.broker.log_complete = b"one\ntwo\n", True
    rest = parse_stream(chunks, "end")

    assert [data.get("data") for _, data, _ in first + rest] == ["one\n", "two\n", None]


def test_a_stream_that_begins_before_the_log_goes_on_with_it(api, ana, job_id, monkeypatch):
    """An event without a place has no id: an empty one would make a browser forget the last."""
    monkeypatch.setattr(logs, "LOOK_S", (0.0,))
    early = LogPage(data=b"", cursor="", at_end=True, complete=False, note="not at a backend yet")
    pages = [early, early]
    api.broker.log_bytes, read = b"one\n", api.broker.log
    api.broker.log = lambda *asked: pages.pop() if pages else read(*asked)

    events = parse_stream(ana.get(f"/v1/jobs/{job_id}/logs", headers=STREAM).response, "end")

    assert [(name, data.get("data"), place) for name, data, place in events] == [
        ("log", "", None),
        ("log", "one\n", "4"),
        ("end", None, "4"),
    ]


def test_a_note_is_told_once(api, ana, job_id, monkeypatch):
    monkeypatch.setattr(logs, "LOOK_S", (0.0,))
    monkeypatch.setattr(streaming, "OPEN_S", 0.1)
    nothing_yet = LogPage(data=b"", cursor="0", at_end=True, complete=False, note="not started")
    api.broker.log = lambda *_: nothing_yet

    events = parse_stream(ana.get(f"/v1/jobs/{job_id}/logs", headers=STREAM).response, "end")

    assert [data["note"] for _, data, _ in events] == ["not started"]


def test_a_backend_that_is_gone_before_the_stream_is_a_503(api, ana, job_id):
    def gone(*_):
        raise BackendUnavailable("local does not answer")

    api.broker.log = gone

    assert ana.get(f"/v1/jobs/{job_id}/logs", headers=STREAM).status_code == 503


def test_a_backend_that_goes_within_the_stream_is_told_by_an_event(api, ana, job_id):
    api.broker.log_bytes, read = b"one\ntwo\n", api.broker.log

    def goes(job, who, query, attempt=None):
        if query.cursor:
            raise BackendUnavailable("local does not answer")
        return read(job, who, query, attempt)

    api.broker.log = goes
    answer = ana.get(f"/v1/jobs/{job_id}/logs?limit_bytes=4", headers=STREAM)

    events = parse_stream(answer.response, "problem")

    assert [name for name, *_ in events] == ["log", "problem"]
    assert events[-1][1]["code"] == "backend_unavailable"


# ---- events ------------------------------------------------------------------------------------------


def test_the_events_of_a_project_are_read_page_by_page(ana):
    for _ in range(3):
        ana.post("/v1/jobs", json=TRAINING)

    first = ana.get("/v1/events?limit=2")
    second = ana.get(f"/v1/events?after={first.json['next']}")

    assert [event["id"] for event in first.json["items"]] == ["1-1", "1-2"]
    assert [event["id"] for event in second.json["items"]] == ["1-3"]
    assert f"after={first.json['next']}" in first.headers["Link"]


def test_another_projects_events_are_not_shown(api, ana, job_id):
    eve = api.as_("eve", project="speech")

    assert eve.get("/v1/events").json["items"] == []


def test_an_event_that_is_no_longer_kept_is_gone_with_the_oldest(api, ana, job_id):
    ana.post("/v1/jobs", json=TRAINING)
    ana.post("/v1/jobs", json=TRAINING)
    api.broker.oldest["vision"] = 3

    for headers in ({}, STREAM):
        answer = ana.get("/v1/events?after=1-1", headers=headers)
        assert (answer.status_code, answer.json["code"], answer.json["oldest"]) == (410, "gone", "1-3")


@pytest.mark.parametrize("path", EVENTS)
def test_who_may_not_control_backends_does_not_see_the_operators_events(api, path):
    plain = api.as_("ben", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_ADMIN}))

    for headers in ({}, STREAM):
        answer = plain.get(path, headers=headers, buffered=False)
        assert answer.status_code == (403 if "operator" in path else 200)
        answer.close()


def test_operators_follow_what_happens_to_the_backends(api, ana):
    """Whoever follows a project must not see it, and neither the other way round."""
    api.broker.tell("operator", "backend_down", None)
    api.broker.tell("vision", "accepted", None)
    chunks = ana.get("/v1/operator/events?after=oldest", headers=STREAM, buffered=False).response
    first = parse_stream(chunks, "backend_down")
    api.broker.tell("operator", "backend_up", None)

    rest = parse_stream(chunks, "backend_up")

    assert [name for name, *_ in first + rest] == ["backend_down", "backend_up"]
    assert [event["type"] for event in ana.get("/v1/operator/events").json["items"]] == [
        "backend_down",
        "backend_up",
    ]


@pytest.mark.parametrize("path", EVENTS)
def test_an_operators_event_that_is_no_longer_kept_is_gone_too(api, ana, path):
    api.broker.oldest |= {"operator": 3, "vision": 3}

    for headers in ({}, STREAM):
        assert ana.get(f"{path}?after=1-1", headers=headers).json["code"] == "gone"


def test_a_stream_begins_with_what_happens_next_and_a_page_with_the_oldest(api, ana, job_id):
    chunks = ana.get("/v1/events", headers=STREAM, buffered=False).response
    next(chunks)
    api.broker.change(job_id, state=JobState.QUEUED)

    assert [name for name, *_ in parse_stream(chunks, "queued")] == ["queued"]
    assert [event["type"] for event in ana.get("/v1/events").json["items"]] == ["accepted", "queued"]


@pytest.mark.parametrize("path", EVENTS)
@pytest.mark.parametrize("kept", [0, 2])
def test_between_a_page_and_a_stream_nothing_is_lost_or_repeated(api, ana, path, kept):
    """A page says where the next begins, also an empty one and one that was asked for the latest."""
    name = "operator" if "operator" in path else "vision"
    for _ in range(kept):
        api.broker.tell(name, "old", None)
    pages = [ana.get(f"{path}?after=latest").json, ana.get(path).json]
    for _ in range(2):
        api.broker.tell(name, "new", None)

    for page in pages:
        chunks = ana.get(f"{path}?after={page['next']}", headers=STREAM, buffered=False).response
        api.broker.tell(name, "last", None)
        events = parse_stream(chunks, "last")
        assert [event for event, *_ in events][:3] == ["new", "new", "last"]


@pytest.mark.parametrize("path", EVENTS)
def test_a_stream_that_breaks_before_its_first_event_goes_on_where_it_began(api, ana, path):
    name = "operator" if "operator" in path else "vision"
    api.broker.tell(name, "old", None)
    response = ana.get(path, headers=STREAM, buffered=False)
    place = next(iter(response.response))
    response.close()
    api.broker.tell(name, "new", None)

    headers = {**STREAM, "Last-Event-ID": "1-1"}
    events = parse_stream(ana.get(path, headers=headers, buffered=False).response, "new")

    assert place == b"retry: 2000\nid: 1-1\n\n"
    assert [event for event, *_ in events] == ["new"]


def test_a_followed_project_shows_old_and_new_events_once_and_in_order(api, ana, job_id):
    chunks = ana.get("/v1/events?after=oldest", headers=STREAM, buffered=False).response
    first = parse_stream(chunks, "accepted")
    api.broker.change(job_id, state=JobState.QUEUED)
    api.broker.change(job_id, state=JobState.RUNNING)

    rest = parse_stream(chunks, "running")

    assert [event_id for *_, event_id in first + rest] == ["1-1", "1-2", "1-3"]


def test_a_stream_goes_on_after_the_last_event_that_was_seen(api, ana, job_id):
    api.broker.change(job_id, state=JobState.QUEUED)

    answer = ana.get("/v1/events", headers={**STREAM, "Last-Event-ID": "1-1"}, buffered=False)

    assert [event_id for *_, event_id in parse_stream(answer.response, "queued")] == ["1-2"]


def test_a_followed_job_shows_its_own_events_and_ends_with_it(api, ana, job_id):
    other = ana.post("/v1/jobs", json=TRAINING).json["job"]["id"]
    chunks = ana.get(f"/v1/jobs/{job_id}/events", headers=STREAM, buffered=False).response
    first = parse_stream(chunks, "accepted")
    api.broker.change(other, state=JobState.RUNNING)
    api.broker.change(job_id, state=JobState.COMPLETED)

    rest = parse_stream(chunks, "end")

    assert [name for name, *_ in first + rest] == ["accepted", "completed", "end"]


def test_a_job_that_has_ended_is_followed_to_its_end_at_once(api, ana, job_id):
    api.broker.change(job_id, state=JobState.FAILED)
    api.broker.oldest["vision"] = 3

    answer = ana.get(f"/v1/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": "1-1"})

    assert [name for name, *_ in parse_stream(answer.response, "end")] == ["failed", "end"]


def test_a_job_whose_history_left_the_project_stream_is_followed_all_the_same(api, ana, job_id):
    for _ in range(3):
        ana.post("/v1/jobs", json=TRAINING)
    api.broker.oldest["vision"] = 4
    chunks = ana.get(f"/v1/jobs/{job_id}/events", headers=STREAM, buffered=False).response
    first = parse_stream(chunks, "accepted")
    api.broker.change(job_id, state=JobState.CANCELLED)

    rest = parse_stream(chunks, "end")

    assert [name for name, *_ in first + rest] == ["accepted", "cancelled", "end"]


# ---- the life of a stream ----------------------------------------------------------------------------


def test_streams_are_capped_and_give_their_place_back(api, ana, job_id):
    """Four threads: three may stream, the last one answers what does not wait."""
    open_streams = [ana.get("/v1/events", headers=STREAM, buffered=False) for _ in range(3)]

    refused = ana.get("/v1/events", headers=STREAM)
    by_page = ana.get("/v1/events")
    for stream in open_streams:
        stream.close()

    assert (refused.status_code, refused.json["code"]) == (503, "too_many_streams")
    assert int(refused.headers["Retry-After"]) > 0
    assert by_page.status_code == 200
    assert api.web.slots.free._value == 3


def test_a_head_request_keeps_no_place(api, ana):
    ana.head("/v1/events", headers=STREAM)

    assert api.web.slots.free._value == 3


def test_a_quiet_stream_has_a_heartbeat(api, ana, monkeypatch):
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.0)

    chunks = iter(ana.get("/v1/events", headers=STREAM, buffered=False).response)

    assert next(chunks) == b"retry: 2000\nid: 1-0\n\n"
    assert next(chunks) == b": heartbeat\n\n"


def test_a_stream_ends_after_its_time(ana, monkeypatch):
    monkeypatch.setattr(streaming, "OPEN_S", 0.0)

    assert list(ana.get("/v1/events", headers=STREAM).response) == [b"retry: 2000\nid: 1-0\n\n"]


def test_a_stream_ends_when_the_process_stops(api, ana):
    api.web.slots.is_stopping = lambda: True

    assert list(ana.get("/v1/events", headers=STREAM).response) == [b"retry: 2000\nid: 1-0\n\n"]


def test_a_stream_ends_when_its_token_is_revoked(api, ana, monkeypatch):
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.0)
    chunks = ana.get("/v1/events", headers=STREAM, buffered=False).response
    api.broker.tokens.revoke(api.broker.tokens.list()[0]["id"])

    assert parse_stream(chunks, "problem")[-1][1]["code"] == "unauthenticated"


def test_no_text_can_forge_an_event(api, ana, job_id):
    api.broker.log_bytes = b"x\n\nevent: end\ndata: {}\n\n\r\n"

    events = parse_stream(ana.get(f"/v1/jobs/{job_id}/logs", headers=STREAM).response, "end")

    assert [name for name, *_ in events] == ["log", "end"]
    assert events[0][1]["data"] == "x\n\nevent: end\ndata: {}\n\n\r\n"
