"""The ordered streams, one a project and one for operators, by page and as server-sent events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from flask import Response
from flask_smorest import Blueprint

from api_spec.errors import Gone, TooManyStreams, bad_event_id
from api_spec.ids import is_event_id
from api_spec.schemas import dump_event
from api_spec.schemas.views import EventPageSchema, EventSchema
from api_spec.views import LATEST, OLDEST, EventView, Page
from broker.web.context import broker, web, who
from broker.web.describing import JSON, Says, operation
from broker.web.paging import answer_page
from broker.web.queries import EventListQuery, read_query
from broker.web.streaming import (
    CONTENT_TYPE,
    LAST_EVENT_ID,
    LOOK_S,
    Event,
    Source,
    last_event_id,
    stream,
    wants_stream,
    whose_place,
)
from broker.web.tail import OPERATOR, Tail

blueprint = Blueprint("events", __name__, url_prefix="/v1", description="What happened, in order")

QUERY = EventListQuery()
GOES_ON = {LAST_EVENT_ID: "Where a stream goes on: the id of the last event that was seen."}
ENDING = frozenset({"completed", "failed", "cancelled"})
STREAM = {JSON: EventPageSchema, CONTENT_TYPE: EventSchema}


@blueprint.get("/events")
@operation(
    "listEvents",
    [
        Says(
            description="Events, oldest first; `next` is the id of the last one",
            content=STREAM,
            examples=["project_events"],
        )
    ],
    query=EventListQuery,
    headers=GOES_ON,
    fails=[Gone, TooManyStreams],
)
def list_events() -> Response:
    """List or follow the events of the project."""
    return answer_events(who().project, partial(broker().events, who()))


@blueprint.get("/operator/events")
@operation(
    "listOperatorEvents",
    [
        Says(
            description="Events of all backends, oldest first; `next` is the id of the last one",
            content=STREAM,
            examples=["operator_events"],
        )
    ],
    query=EventListQuery,
    headers=GOES_ON,
    fails=[Gone, TooManyStreams],
)
def list_operator_events() -> Response:
    """List or follow what happens to the backends; needs the scope backends:admin."""
    return answer_events(OPERATOR, partial(broker().operator_events, who()))


def answer_events(name: str, read: Callable[[str, int], Page[EventView]]) -> Response:
    """``name``: as ``Tail`` knows the stream.  What reading it raises comes before the status is sent."""
    asked = read_query(QUERY)
    after = last_event_id() or asked.get("after") or (LATEST if wants_stream() else OLDEST)
    with whose_place("after"):
        page = read(after, asked["limit"])
    if not wants_stream():
        return answer_page(page, dump_event, parameter="after")
    seen = {OLDEST: None, LATEST: page.next}.get(after, after)
    return stream(events_after(web().tail, name, seen), begins_after=seen)


def events_after(tail: Tail, project: str, seen: str | None) -> Source:
    while True:
        news = tail.after(project, seen, LOOK_S)
        for event in news:
            yield as_sent(event)
            seen = event.id
        if not news:
            yield None


def job_events(
    tail: Tail, project: str, job_id: str, history: Sequence[EventView], seen: str | None
) -> Source:
    """The job's own history after ``seen``, then what the project's stream says of it, until it has ended."""
    ids = [event.id for event in history]
    for event in history[ids.index(seen) + 1 if seen in ids else 0 :]:
        yield as_sent(event)
    told, at = set(ids), ids[-1] if ids else None
    ended = bool(history) and history[-1].type in ENDING
    while not ended:
        try:
            news = tail.after(project, at, LOOK_S)
        except Gone as error:  # the history was read in full, so nothing of this job is missed
            at = error.extra.get("oldest")
            continue
        for event in news:
            at = event.id
            if event.job == job_id and event.id not in told:
                yield as_sent(event)
                ended = event.type in ENDING
        if not news:
            yield None
    yield Event("end", {})


def last_seen() -> str | None:
    """The header of a job's own stream."""
    seen = last_event_id()
    if seen is not None and not is_event_id(seen):
        raise bad_event_id(seen, LAST_EVENT_ID)
    return seen


def as_sent(event: EventView) -> Event:
    return Event(event.type, dump_event(event), event.id)
