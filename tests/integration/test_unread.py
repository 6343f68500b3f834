"""What the server itself refuses, before there is a request: sent byte by byte, since no client would."""

from __future__ import annotations

import http.client
import json
import socket
from types import SimpleNamespace

import pytest

from broker.web.problems import CONTENT_TYPE
from tests.fakes import running_fake
from tests.stack import Parts

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("processes")]

HEAD = "GET /healthz HTTP/1.1\r\nHost: here\r\n"
SECRET = "wb_not-to-be-seen"
BROKEN = [
    pytest.param(
        f"GET /{'a' * 9000} HTTP/1.1\r\n\r\n", 414, "too_large", "longer than the 8190 bytes", id="line"
    ),
    pytest.param(
        f"{HEAD}X: {'a' * 9000}\r\n\r\n", 431, "too_large", "headers of 8190 bytes", id="long header"
    ),
    pytest.param(
        HEAD + "X: a\r\n" * 150 + "\r\n", 431, "too_large", "at most 100 headers", id="many headers"
    ),
    pytest.param(HEAD + f"X: {'a' * 4000}\r\n" * 60 + "\r\n", 200, "", "", id="within the limits"),
    pytest.param(
        f"{HEAD}X-Name: a\x01b\r\n\r\n", 400, "invalid_request", "header X-NAME", id="control character"
    ),
    pytest.param(
        f"{HEAD}Bearer {SECRET}\r\n\r\n", 400, "invalid_request", "the header is not", id="no colon"
    ),
    pytest.param(f"{HEAD}A: b\r\n c\r\n\r\n", 400, "invalid_request", "header A ", id="folded"),
    pytest.param(f"{HEAD}Content-Length: -1\r\n\r\n", 400, "invalid_request", "CONTENT-LENGTH", id="length"),
    pytest.param(
        f"{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "invalid_request",
        "CONTENT-LENGTH",
        id="lengths",
    ),
    pytest.param(
        f"{HEAD}Transfer-Encoding: rot13\r\n\r\n", 501, "invalid_request", "may be chunked", id="coding"
    ),
    pytest.param(f"{HEAD}Expect: the worst\r\n\r\n", 417, "invalid_request", "100-continue", id="expect"),
    pytest.param("GET /healthz HTTP/9.9\r\n\r\n", 400, "invalid_request", "must be 1.0 or 1.1", id="version"),
    pytest.param("what is this\r\n\r\n", 400, "invalid_request", "not HTTP/1.1", id="prose"),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unread")
    with running_fake(folder) as fake, Parts(folder, fake.config("fake")) as parts:
        parts.start("api")
        yield parts


def said(parts: Parts, sent: str) -> SimpleNamespace:
    """What the server answers to these bytes, and whether it closes."""
    with socket.create_connection(("127.0.0.1", parts.port), timeout=20) as connection:
        connection.sendall(sent.encode("latin-1"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return SimpleNamespace(status=answer.status, headers=answer.headers, body=answer.read())


@pytest.mark.parametrize(("sent", "status", "code", "words"), BROKEN)
def test_what_is_no_request_is_a_problem_as_all_others(api, sent, status, code, words):
    answer = said(api, sent)

    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if status == http.client.OK:
        return
    assert answer.headers["Content-Type"] == CONTENT_TYPE
    assert answer.headers["Connection"] == "close"
    document = json.loads(answer.body)
    assert (document["status"], document["code"]) == (status, code)
    assert document["type"] == f"/docs/errors#{code}"
    assert words in document["detail"]
    assert document["request_id"] == answer.headers["X-Request-Id"]
    log = (api.directory / "api.log").read_text()
    assert document["request_id"] in log
    assert SECRET not in answer.body.decode() + log


def test_a_body_whose_chunks_are_broken_is_the_clients_fault(api):
    sent = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {api.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n{}\r\n0\r\n\r\n"
    )

    answer = said(api, sent)

    assert (answer.status, answer.headers["Content-Type"]) == (400, CONTENT_TYPE)
    assert "a chunk of the body" in json.loads(answer.body)["detail"]


def chunked(*pieces: str) -> str:
    return "".join(f"{len(one):x}\r\n{one}\r\n" for one in (*pieces, ""))


def post(parts: Parts, headers: str, body: str) -> SimpleNamespace:
    about = f"Host: here\r\nAuthorization: Bearer {parts.token}\r\nContent-Type: application/json\r\n"
    return said(parts, f"POST /v1/jobs HTTP/1.1\r\n{about}{headers}\r\n\r\n{body}")


JOB = '{"kind": "batch", "name": "one", "command": ["true"]}'


@pytest.mark.parametrize(
    "pieces, status",
    [
        ((JOB[:9], JOB[9:]), 202),
        ((JOB, " " * (1024**2 - len(JOB))), 202),
        ((JOB, " " * (1024**2 - len(JOB)), "and more"), 413),
        ((JOB, " " * 3 * 1024**2), 413),
    ],
    ids=["whole", "as long as may be", "cut at the limit", "far beyond"],
)
def test_a_body_in_chunks_is_read_whole_or_refused(api, pieces, status):
    """What comes first may be a job by itself."""
    assert post(api, "Transfer-Encoding: chunked", chunked(*pieces)).status == status


def test_a_body_that_is_shorter_than_it_says_is_refused(api):
    sent = f"POST /v1/jobs HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {api.token}\r\n"
    sent += f"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{JOB}"
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, "ends after" in json.loads(answer.read())["detail"]) == (400, True)
