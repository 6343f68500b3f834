"""A job's log: by page as JSON or as it is, and followed as server-sent events.

JSON carries text, so a page is cut between characters, never within one: the pages put together are the
text.  What is no UTF-8 at all shows as U+FFFD; ``text/plain`` has every byte as it was written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from adapters.base import LogPage, LogQuery
from api_spec.errors import (
    BackendUnavailable,
    LogGone,
    LogReaderUnavailable,
    NotFound,
    NotSupported,
    TooManyStreams,
)
from api_spec.schemas import views as shapes
from broker.web.context import answer, broker, who
from broker.web.describing import JSON, Says, operation
from broker.web.queries import LogQuerySchema, read_query
from broker.web.streaming import CONTENT_TYPE as EVENT_STREAM
from broker.web.streaming import Event, Source, last_event_id, stream, wants_stream, whose_place

blueprint = Blueprint("logs", __name__, url_prefix="/v1", description="What jobs print")

QUERY = LogQuerySchema()
PLAIN = "text/plain"
LOOK_S = (0.25, 0.5, 1.0)  # between two looks at a silent log: each is a call to the backend
CONTINUATION = bytes(range(0x80, 0xC0))  # bytes within a character of UTF-8
LOG_HEADERS = {
    "Broker-Log-Cursor": "Where the next page begins; only with text/plain, as the next three.",
    "Broker-Log-At-End": "`true`: this is all there is now.",
    "Broker-Log-Complete": "`true`: no more will come.",
    "Broker-Log-Note": "What a reader should know, such as that only the end of the log was kept.",
}

Read = Callable[[LogQuery], LogPage]


@blueprint.get("/jobs/<job_id>/logs")
@operation(
    "readLog",
    [
        Says(
            description="A page of the log; a stream has the events `log` and, once it is complete, `end`",
            content={
                JSON: shapes.LogPageSchema,
                PLAIN: {"type": "string"},
                EVENT_STREAM: shapes.LogPageSchema,
            },
            examples=["log"],
            headers=LOG_HEADERS,
        )
    ],
    query=LogQuerySchema,
    headers={"Last-Event-ID": "Where a stream goes on: a cursor."},
    fails=[NotFound, NotSupported, LogGone, BackendUnavailable, LogReaderUnavailable, TooManyStreams],
)
def read_log(job_id: str) -> Response:
    """Read or follow a job's log."""
    query, read = asked_for(job_id)
    if wants_stream():
        query = replace(query, cursor=last_event_id() or query.cursor)
        with whose_place("cursor"):
            first = whole_characters(read, query)
        return stream(followed(first, read, query))
    if request.accept_mimetypes.best_match([JSON, PLAIN]) == PLAIN:
        return as_it_is(read(query))
    return answer(dump_page(whole_characters(read, query)))


def asked_for(job_id: str) -> tuple[LogQuery, Read]:
    asked = read_query(QUERY)
    attempt, our_broker, principal = asked.pop("attempt", None), broker(), who()
    query = LogQuery(task_index=asked.pop("task", None), **asked)
    return query, lambda query: our_broker.log(job_id, principal, query, attempt)


def as_it_is(page: LogPage) -> Response:
    headers = {
        "Broker-Log-Cursor": page.cursor,
        "Broker-Log-At-End": str(page.at_end).lower(),
        "Broker-Log-Complete": str(page.complete).lower(),
    }
    if page.note is not None:
        headers["Broker-Log-Note"] = " ".join(page.note.encode("ascii", "replace").decode().split())
    return Response(page.data, headers=headers, content_type="text/plain; charset=utf-8")


def dump_page(page: LogPage) -> dict[str, Any]:
    return {
        "data": page.data.decode("utf-8", "replace"),
        "cursor": page.cursor,
        "at_end": page.at_end,
        "complete": page.complete,
        "note": page.note,
    }


def followed(page: LogPage, read: Read, query: LogQuery) -> Source:
    """From a first page that was read before the status was sent, so that a refusal has one of its own."""
    silent, told = 0, None
    while True:
        if page.data or page.note != told:
            silent, told = 0, page.note
            said = {"data": page.data.decode("utf-8", "replace"), "note": page.note}
            yield Event("log", said, page.cursor or None)
        query = replace(query, cursor=page.cursor, tail_bytes=None)
        if page.at_end and page.complete:
            yield Event("end", {}, page.cursor or None)
            return
        if page.at_end:
            yield None
            time.sleep(LOOK_S[min(silent, len(LOOK_S) - 1)])
            silent += 1
        page = whole_characters(read, query)


def whole_characters(read: Read, query: LogQuery) -> LogPage:
    """A page that does not end within a character, read a second time without the cut one.

    The cursor is the backend's own, so a shorter page has to be asked for.
    """
    page = read(query)
    if query.tail_bytes and not query.cursor:
        page = replace(page, data=page.data.lstrip(CONTINUATION))
    cut = cut_bytes(page.data)
    if not cut or (page.complete and page.at_end):
        return page
    if cut < len(page.data):
        shorter = read(replace(query, limit_bytes=len(page.data) - cut))
        return replace(shorter, at_end=page.at_end, complete=page.complete)
    if not query.cursor:
        return page
    return replace(page, data=b"", cursor=query.cursor)  # the rest of the character is not yet written


def cut_bytes(data: bytes) -> int:
    """How many bytes at the end are the start of a character whose rest is missing."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte >= 0xC0:
            return count if count < 2 + (byte >= 0xE0) + (byte >= 0xF0) else 0
        if byte < 0x80:
            return 0
    return 0
