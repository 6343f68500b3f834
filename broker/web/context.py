"""What every view needs: the broker, who asks, and a JSON answer.  One ``Web`` a process holds the rest.

Knows where these are kept (``app.extensions`` and ``g``); nobody else does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, Request, Response, current_app, g, request
from werkzeug.datastructures import Headers

from api_spec.encoding import encode
from broker.access import Principal
from broker.web.limits import RateLimit
from broker.web.metrics import Metrics
from broker.web.slots import Slots
from broker.web.tail import Tail

if TYPE_CHECKING:
    from broker.lifecycle.broker import Broker
    from broker.settings import Settings

EXTENSION = "workload-broker"
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Web:
    """What the requests of one process share."""

    broker: Broker
    settings: Settings
    rate_limit: RateLimit
    slots: Slots
    tail: Tail
    metrics: Metrics


def web_of(app: Flask) -> Web:
    return cast(Web, app.extensions[EXTENSION])


def web() -> Web:
    return web_of(current_app)


def broker() -> Broker:
    return web().broker


def who() -> Principal:
    """Whom the checked token of this request acts for."""
    return cast(Principal, g.who)


def public(view: View) -> View:
    """This view needs no token."""
    view.public = True  # type: ignore[attr-defined]
    return view


def this_request() -> Request:
    """Itself: whoever looks at it more than once would pay for Flask's proxy each time."""
    itself: Request = request._get_current_object()  # type: ignore[attr-defined]
    return itself


class Answer(Response):
    """Its headers are complete as they are: ASCII, with the length; Werkzeug would look all of them over."""

    def get_wsgi_headers(self, environ: Any) -> Headers:
        return self.headers


def answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Answer(encode(document), status, headers, content_type="application/json")
