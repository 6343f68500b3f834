"""Server-sent events: the form on the wire, heartbeats, and the end of every stream.

A stream ends by itself after ``OPEN_S`` (a graceful restart need not wait for it), when the process stops,
or when its token is no longer good; the client comes back with ``Last-Event-ID`` and misses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from flask import Response, request

from api_spec.encoding import encode_text
from api_spec.errors import BrokerError, InvalidRequest
from broker.web.context import web
from broker.web.problems import document_of, request_id
from broker.web.slots import Slots

LAST_EVENT_ID = "Last-Event-ID"
CONTENT_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0  # below the idle time-out of common proxies (60 s, some 30 s)
OPEN_S = 600.0
RETRY_MS = 2000
HEARTBEAT = b": heartbeat\n\n"
LOOK_S = 1.0  # how often a waiting stream looks whether the process stops


@dataclass(frozen=True)
class Event:
    name: str
    data: Any
    id: str | None = None


Source = Iterator[Event | None]
"""Events as they come; ``None`` at least every ``LOOK_S`` while there is nothing to say."""


def wants_stream() -> bool:
    """Only who names the type gets a stream; ``*/*`` and HEAD are answered with a page."""
    return request.method == "GET" and CONTENT_TYPE in request.headers.get("Accept", "")


def last_event_id() -> str | None:
    return request.headers.get(LAST_EVENT_ID) or None


@contextmanager
def whose_place(parameter: str) -> Iterator[None]:
    """Where a stream goes on may stand in ``Last-Event-ID``: then that is what a refusal of it points at."""
    try:
        yield
    except InvalidRequest as error:
        if last_event_id() is None:
            raise
        at = {f"?{parameter}": LAST_EVENT_ID}
        faults = [replace(fault, pointer=at.get(fault.pointer, fault.pointer)) for fault in error.faults]
        raise InvalidRequest(str(error), faults=faults) from error


def stream(source: Source, begins_after: str | None = None) -> Response:
    """Raises ``TooManyStreams`` where the process has no thread left for it.

    ``begins_after`` is told at once: a client whose stream breaks before its first event loses none either.
    """
    slots = web().slots
    slots.take_or_refuse()
    response = Response(
        lines(source, slots, token_check(), request_id(), begins_after), content_type=CONTENT_TYPE
    )
    response.call_on_close(slots.give_back)
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would collect it otherwise
    return response


def token_check() -> Callable[[], object]:
    """Raises ``Unauthenticated`` once the token of this request is revoked or has expired."""
    tokens = web().broker.tokens
    bearer = request.headers["Authorization"].partition(" ")[2].strip()
    return lambda: tokens.check(bearer)


def lines(
    source: Source, slots: Slots, check: Callable[[], object], name: str, begins_after: str | None = None
) -> Iterator[bytes]:
    """An error in the middle becomes the event ``problem``: the status has long been sent."""
    ends_at = time.monotonic() + OPEN_S
    beat_at = time.monotonic() + HEARTBEAT_S
    place = b"id: %b\n" % begins_after.encode() if begins_after else b""
    yield b"retry: %d\n%b\n" % (RETRY_MS, place)
    try:
        for event in source:
            if event is not None:
                yield line(event)
            now = time.monotonic()
            if now >= beat_at:
                check()
                beat_at = now + HEARTBEAT_S
                yield HEARTBEAT
            if now >= ends_at or slots.is_stopping():
                return
    except BrokerError as error:
        yield line(Event("problem", document_of(error, name)))


def line(event: Event) -> bytes:
    """The data is JSON in one line, so that no text can forge a line of its own."""
    identity = f"id: {event.id}\n" if event.id is not None else ""
    return f"{identity}event: {event.name}\ndata: {encode_text(event.data)}\n\n".encode()
