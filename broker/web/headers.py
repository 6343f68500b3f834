"""The headers of every answer, put on where WSGI sends them.

Not in ``after_request``: Werkzeug checks each header that is set there, which for constants costs more than
routing does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

REQUEST_ID = "broker.request_id"  # in the WSGI environment

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
    """WSGI middleware."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            cached = any(name == "Cache-Control" for name, _ in headers)
            identity = [("X-Request-Id", environ.get(REQUEST_ID, "-"))]
            return start_response(
                status, headers + ALWAYS + identity + ([] if cached else NOT_CACHED), *error
            )

        return self.app(environ, start)
