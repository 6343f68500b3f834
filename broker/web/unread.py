"""What is not HTTP, or exceeds the server's limits, is answered with a problem document as all else.

gunicorn finds most of it before the application is called, and would answer with a page of HTML; what is
wrong with a body in chunks it finds while the application reads it.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
from http import HTTPStatus
from typing import Any

from flask import Response
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from api_spec.encoding import encode
from api_spec.errors import BrokerError, InvalidRequest, TooLarge
from broker.web.headers import ALWAYS, NOT_CACHED
from broker.web.problems import CONTENT_TYPE, UNFORESEEN, answer_plainly, document_of

log = logging.getLogger(__name__)

REQUEST_LINE_BYTES = 8190
HEADERS = 100
HEADER_BYTES = 8190  # of one, with its name
SEND_WITHIN_S = 2.0  # to a client that may not read
NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's, but for what it says of a request that it cannot read."""

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Called in the thread of the connection, which is closed afterwards."""
        request_id = secrets.token_hex(8)
        extra = {"request_id": request_id, "client": addr[0] if addr else ""}
        if isinstance(exc, errors.ParseException) and not isinstance(exc, OURS):
            status, error = refusal_of(exc)
            log.warning("not read as a request: %s", error, extra=extra)
        else:
            status, error = 500, BrokerError(UNFORESEEN)
            log.error("the request failed", exc_info=exc, extra=extra)
        try:
            client.settimeout(SEND_WITHIN_S)
            client.sendall(answer_of(status, error, request_id))
        except OSError:
            log.debug("the client has gone", extra=extra)


def refusal_of(error: Exception) -> tuple[int, BrokerError]:
    """Of what was sent it has a header's name only: in a broken request a token may stand anywhere."""
    match error:
        case errors.LimitRequestLine():
            most = f"method, path and query are longer than the {REQUEST_LINE_BYTES} bytes that are taken"
            return 414, TooLarge(most)
        case errors.LimitRequestHeaders():
            most = f"at most {HEADERS} headers of {HEADER_BYTES} bytes each are taken"
            return 431, TooLarge(most)
        case errors.ObsoleteFolding() | errors.InvalidHeader() | errors.InvalidHeaderName():
            named = f" {error.hdr}" if NAME.fullmatch(str(error.hdr)) else ""
            return 400, InvalidRequest(f"the header{named} is not as HTTP wants it")
        case errors.UnsupportedTransferCoding():
            return 501, InvalidRequest("Transfer-Encoding may be chunked, or be left out")
        case errors.ExpectationFailed():
            return 417, InvalidRequest("Expect may be 100-continue, or be left out")
        case errors.InvalidHTTPVersion():
            return 400, InvalidRequest("the version of HTTP must be 1.0 or 1.1")
        case errors.InvalidChunkSize() | errors.ChunkMissingTerminator() | errors.InvalidChunkExtension():
            return 400, InvalidRequest("a chunk of the body is not as HTTP wants it")
    return 400, InvalidRequest("what was sent is not HTTP/1.1; is the address one of http://?")


def answer_broken_body(error: errors.ParseException) -> Response:
    status, ours = refusal_of(error)
    return answer_plainly(ours, status)


def answer_of(status: int, error: BrokerError, request_id: str) -> bytes:
    body = encode(document_of(error, request_id, status))
    headers = [
        ("Connection", "close"),
        ("Content-Type", CONTENT_TYPE),
        ("Content-Length", str(len(body))),
        ("X-Request-Id", request_id),
        *ALWAYS,
        *NOT_CACHED,
    ]
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {text}" for name, text in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + body
