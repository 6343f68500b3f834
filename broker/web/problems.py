"""Every answer that is an error, as ``application/problem+json`` (RFC 9457).

Flask's own errors (404, 405, 413 ...) become the same document, with the headers they came with.  The
member ``errors`` lists what is wrong: a JSON pointer into the body, ``?name`` for a query parameter, or the
name of a header.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from api_spec.decisions import Decision
from api_spec.encoding import encode
from api_spec.errors import (
    BrokerError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
)
from api_spec.schemas import dump_decision
from broker.web.headers import REQUEST_ID

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
TYPE = "/docs/errors#"
RETRY_AFTER_S = 2  # for what is worth another try and does not say when
UNFORESEEN = "the broker failed; its log has the reason under the request_id"
HTTP_ERRORS: dict[int, type[BrokerError]] = {
    404: NotFound,
    405: MethodNotAllowed,
    413: TooLarge,
    415: UnsupportedMediaType,
}


def register(app: Flask) -> None:
    app.register_error_handler(BrokerError, answer_problem)
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(Exception, answer_unforeseen)


def answer_problem(error: BrokerError) -> Response:
    if error.http_status >= 500:
        log.warning("%s: %s", error.code, error, exc_info=error.http_status == 500)
    return Response(
        encode(document_of(error, request_id())),
        error.http_status,
        headers_of(error),
        content_type=CONTENT_TYPE,
    )


def document_of(error: BrokerError, request_id: str, status: int | None = None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": TYPE + error.code,
        "title": error.title,
        "status": status or error.http_status,
        "detail": str(error),
        "code": error.code,
        "retryable": error.retryable,
        "request_id": request_id,
    }
    if error.faults:
        document["errors"] = [{"pointer": fault.pointer, "message": fault.message} for fault in error.faults]
    for name, value in error.extra.items():
        document[name] = dump_decision(value) if isinstance(value, Decision) else value
    return document


def request_id() -> str:
    name: str = request.environ.get(REQUEST_ID, "")
    return name


def headers_of(error: BrokerError) -> dict[str, str]:
    headers = {}
    if error.http_status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="workload-broker"'
    if error.retryable:
        headers["Retry-After"] = str(round(error.extra.get("retry_after_s", RETRY_AFTER_S)))
    return headers


def answer_http_error(error: HTTPException) -> Response:
    """From Flask's own response, because it carries ``Allow`` and the like."""
    response = error.get_response()
    status = response.status_code
    if status < 400:
        return response  # type: ignore[return-value]  # a redirect
    if status >= 500:
        return answer_unforeseen(error)
    answer = answer_plainly(HTTP_ERRORS.get(status, InvalidRequest)(error.description or error.name), status)
    for name, value in response.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            answer.headers.add(name, value)
    return answer


def answer_unforeseen(error: Exception) -> Response:
    """What no code foresaw says nothing about itself outside; the log has it under the request's id."""
    log.error("the request failed", exc_info=error)
    return answer_plainly(BrokerError(UNFORESEEN))


def answer_plainly(error: BrokerError, status: int | None = None) -> Response:
    """Without the headers of its class.  ``status``: one that no class has."""
    document = document_of(error, request_id(), status)
    return Response(encode(document), document["status"], content_type=CONTENT_TYPE)
