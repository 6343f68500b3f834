"""Lists by cursor.  A page may be short, even empty: ``next`` alone says that there is more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlencode

from flask import Response, request

from api_spec.views import Page
from broker.web.context import answer

T = TypeVar("T")


def answer_page(page: Page[T], dump: Callable[[T], object], parameter: str = "cursor") -> Response:
    """With ``Link: rel="next"`` (RFC 8288): this request with the cursor of the next page."""
    document = {"items": [dump(item) for item in page.items], "next": page.next}
    if page.next is None:
        return answer(document)
    arguments = [(name, value) for name, value in request.args.items(multi=True) if name != parameter]
    query = urlencode([*arguments, (parameter, page.next)])
    return answer(document, headers={"Link": f'<{request.path}?{query}>; rel="next"'})
