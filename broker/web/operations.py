"""Health, figures and documents: what operators and tools ask, not users.

``/healthz``: this process runs.  ``/readyz``: it reaches the store (a backend that is down does not matter).
``/metrics`` needs a token with ``backends:admin``, from loopback too: behind a proxy on the same machine
everybody comes from there.
"""

from __future__ import annotations

import html
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api_spec.errors import NotFound, StoreUnavailable, all_errors
from broker.access import Scope
from broker.web.context import answer, broker, public, web, who
from broker.web.describing import JSON, Says, operation

blueprint = Blueprint("operations", __name__, description="Health, figures and documents")

STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
    "page.css": "text/css",
    "favicon-32x32.png": "image/png",
    "LICENSE": "text/plain",
    "NOTICE": "text/plain",
}
TO_THE_DOCS = Says(status=302, description="To the page", headers={"Location": "Where it is."})
A_DAY = "public, max-age=86400"


@blueprint.get("/healthz")
@operation("isAlive", [Says(description="The process runs", content={JSON: STATUS})])
@public
def healthz() -> Response:
    """Tell that the process runs."""
    return answer({"status": "ok"})


@blueprint.get("/readyz")
@operation(
    "isReady", [Says(description="The store answers", content={JSON: STATUS})], fails=[StoreUnavailable]
)
@public
def readyz() -> Response:
    """Tell whether requests can be served; a backend that is down does not count."""
    broker().ready()
    return answer({"status": "ready"})


@blueprint.get("/metrics")
@operation(
    "readMetrics",
    [Says(description="In Prometheus' text format", content={"text/plain": {"type": "string"}})],
)
def metrics() -> Response:
    """Read the figures; needs the scope backends:admin."""
    who().need(Scope.BACKENDS_ADMIN)
    return Response(web().metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


@blueprint.get("/openapi.json")
@operation("readOpenApi", [Says(description="This document", content={JSON: {"type": "object"}})])
@public
def openapi_json() -> Response:
    """Read the OpenAPI document."""
    return cached(openapi_document(), JSON)


@blueprint.get("/")
@operation("goToDocs", [TO_THE_DOCS])
@public
def root() -> Response:
    """Lead a browser to the documentation page."""
    return to_the_docs()


@blueprint.get("/docs/")
@operation("goToDocsWithoutSlash", [TO_THE_DOCS])
@public
def docs_with_slash() -> Response:
    """Lead a browser to the documentation page."""
    return to_the_docs()


@blueprint.get("/docs")
@operation("readDocs", [Says(description="A page", content={"text/html": {"type": "string"}})])
@public
def docs() -> Response:
    """Read and try the API in a browser."""
    return cached(DOCS_PAGE.encode(), "text/html; charset=utf-8")


@blueprint.get("/docs/errors")
@operation("readErrorDocs", [Says(description="A page", content={"text/html": {"type": "string"}})])
@public
def error_docs() -> Response:
    """Read what each error code means; the `type` of a problem leads here."""
    return cached(errors_page().encode(), "text/html; charset=utf-8")


@blueprint.get("/docs/<asset>")
@operation(
    "readDocsAsset",
    [Says(description="A file of the page", content={"*/*": {"type": "string"}})],
    fails=[NotFound],
)
@public
def docs_asset(asset: str) -> Response:
    """Read a file of the documentation page."""
    if asset not in ASSETS:
        raise NotFound(f"there is no file {asset}")
    return cached(asset_bytes(asset), ASSETS[asset])


def to_the_docs() -> Response:
    """Not for ever: something else may stand there one day."""
    return Response(status=302, headers={"Location": "/docs"})


def cached(body: bytes, content_type: str) -> Response:
    return Response(body, content_type=content_type, headers={"Cache-Control": A_DAY})


@cache
def openapi_document() -> bytes:
    return (files("api_spec") / "openapi.json").read_bytes()


@cache
def asset_bytes(name: str) -> bytes:
    return (files("broker.web") / "static" / "swagger" / name).read_bytes()


DOCS_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Workload Broker API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""


ERRORS_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Errors of the Workload Broker</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/page.css">
<h1>Errors</h1>
<p>Every error is a JSON document with one of these codes. <a href="/docs">The API</a> says where they come.
<table><tr><th>code<th>status<th>meaning<th>same request again</tr>{rows}</table>
</html>
"""


@cache
def errors_page() -> str:
    kinds = sorted(all_errors(), key=lambda kind: (kind.http_status, kind.code))
    rows = "".join(error_row(kind) for kind in kinds)
    return ERRORS_PAGE.format(rows=rows)


def error_row(kind: Any) -> str:
    meaning = html.escape(f"{kind.title}. {(kind.__doc__ or '').strip()}")
    again = "may succeed later" if kind.retryable else "fails again"
    cells = f"<td><code>{kind.code}</code><td>{kind.http_status}<td>{meaning}<td>{again}"
    return f'<tr id="{kind.code}">{cells}</tr>'
