"""The application factory, and what happens before and after every request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g

from api_spec.errors import Unauthenticated
from api_spec.views import EventView, Page
from broker.access import Principal, Scope
from broker.auth import check_name
from broker.web import backends, events, headers, jobs, logs, operations, problems, submissions
from broker.web.context import EXTENSION, Web, this_request
from broker.web.limits import RateLimit
from broker.web.metrics import Metrics
from broker.web.queries import refuse_query
from broker.web.slots import Slots
from broker.web.tail import OPERATOR, Read, Tail

if TYPE_CHECKING:
    from broker.lifecycle.broker import Broker
    from broker.settings import Settings

access_log = logging.getLogger("broker.web.access")

NOUNS = (submissions, jobs, logs, events, backends, operations)
STARTED = "broker.started"  # in the WSGI environment
STREAMS_SHARE = 0.75  # of the threads; the others answer what does not wait


class App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Flask looks at each function before each call whether it is a coroutine; none of ours is."""
        return func


def create_app(broker: Broker, settings: Settings, *, limits_url: str | None = None) -> Flask:
    app = App("broker.web", static_folder=None)
    shared = app.extensions[EXTENSION] = Web(
        broker=broker,
        settings=settings,
        rate_limit=RateLimit(settings.rate_limit, limits_url or settings.redis_url),
        slots=Slots(max(1, int(settings.api_threads * STREAMS_SHARE))),
        tail=Tail(events_reader(broker)),
        metrics=Metrics(broker.figures),
    )
    problems.register(app)
    doors = Doors(shared, app)
    app.before_request(doors.admit)
    app.after_request(doors.finish)
    app.wsgi_app = headers.WithHeaders(app.wsgi_app)  # type: ignore[method-assign]
    for noun in NOUNS:
        app.register_blueprint(noun.blueprint)
    return app


def events_reader(broker: Broker) -> Read:
    """How the tail reads a project: each stream's own right to it was checked when it opened."""

    def read(project: str, after: str | None, limit: int) -> Page[EventView]:
        reader = Principal(
            token_id="-",  # noqa: S106
            subject="broker",
            owner="broker",
            project=project,
            scopes=frozenset({Scope.JOBS_READ, Scope.BACKENDS_ADMIN}),
        )
        read = broker.operator_events if project == OPERATOR else broker.events
        return read(reader, after, limit)

    return read


class Doors:
    """What happens before and after every request.  Holds what it needs: a look-up through Flask's proxies
    costs more than the work done here."""

    def __init__(self, shared: Web, app: Flask) -> None:
        self.check = shared.broker.tokens.check
        self.count = shared.rate_limit.count
        self.observe = shared.metrics.observe
        self.views = app.view_functions

    def admit(self) -> None:
        """Check the token and count the request.  Flask answers an unknown path or method itself."""
        sent = this_request()
        environ, endpoint = sent.environ, sent.endpoint
        environ[STARTED] = time.perf_counter()
        if endpoint is None or hasattr(self.views[endpoint], "public"):
            return
        scheme, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("send the header: Authorization: Bearer wb_...")
        principal = self.check(bearer.strip())
        owner = environ.get("HTTP_BROKER_OWNER")
        g.who = principal.acting_for(check_name(owner, "Broker-Owner")) if owner is not None else principal
        self.count(principal.token_id)
        if environ.get("QUERY_STRING") and hasattr(self.views[endpoint], "takes_no_query"):
            refuse_query()

    def finish(self, response: Response) -> Response:
        """Time it.  A success is logged for debugging only: the line would cost a tenth of the request."""
        sent, status = this_request(), response.status_code
        route = sent.url_rule.rule if sent.url_rule is not None else "-"
        self.observe(sent.method, route, status, time.perf_counter() - sent.environ[STARTED])
        level = logging.DEBUG if status < 400 else logging.INFO
        access_log.log(level, "%s %s %d", sent.method, sent.path, status)
        return response
