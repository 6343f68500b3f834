"""The outermost layer: each request gets a name, and each answer the headers that all have.

The headers are put on where WSGI sends them and not in ``after_request``: Werkzeug checks each one that is
set there, which for constants costs more than routing does.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from broker.logs import bound

REQUEST_ID = "broker.request_id"  # in the WSGI environment
SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")

ALWAYS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        # Swagger UI sets styles from script and has its icons as data: URLs.
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
NOT_CACHED = [("Cache-Control", "no-store")]


class WithHeaders:
    """WSGI middleware.  What is logged within the request carries its name as ``request_id``."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        sent = environ.get("HTTP_X_REQUEST_ID", "")
        name = environ[REQUEST_ID] = sent if SANE.fullmatch(sent) else secrets.token_hex(8)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            cached = any(header == "Cache-Control" for header, _ in headers)
            ours = [("X-Request-Id", name), *ALWAYS, *(() if cached else NOT_CACHED)]
            return start_response(status, headers + ours, *error)

        with bound(request_id=name):
            return self.app(environ, start)
