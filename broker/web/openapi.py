"""The OpenAPI document, made from the code: ``python -m broker.web.openapi`` writes it, ``--print`` shows it.

It is committed as ``api_spec/openapi.json``; a test fails when the two differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from apispec_oneofschema import MarshmallowPlugin
from flask import Flask
from flask_smorest import Api

import api_spec
from api_spec.errors import BrokerError, all_errors
from broker import __version__
from broker.web.app import NOUNS
from broker.web.problems import CONTENT_TYPE as PROBLEM

FOLDER = Path(api_spec.__file__).parent
PATH = FOLDER / "openapi.json"
VERSION = "3.1.1"  # the generators of clients do not know 3.2 yet
DESCRIPTION = """\
One REST API in front of Slurm, Kubernetes and plain machines. To try it here, press *Authorize* and give a
token: `broker token create` makes one, and `broker dev` leaves its own in `dev.json` in its data directory.

Every error is `application/problem+json` with a [stable code](/docs/errors). Lists go on at `next`. With
`Accept: text/event-stream` logs and events are followed.
"""
TOKEN = {"type": "http", "scheme": "bearer", "description": "A token that begins with `wb_`."}
ABOUT = {
    "title": "Workload Broker",
    "version": __version__,
    "openapi_version": VERSION,
    "marshmallow_plugin": MarshmallowPlugin(),
    "info": {
        "description": DESCRIPTION,
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "security": [{"token": []}],
}


def document() -> dict[str, Any]:
    """Made from the notes that ``describing`` left on the views; no broker is needed."""
    api = DescribedApi(Flask("broker.web", static_folder=None), spec_kwargs=ABOUT)
    api.spec.components.security_scheme("token", TOKEN)
    for noun in NOUNS:
        api.register_blueprint(noun.blueprint)
    made: dict[str, Any] = with_examples(api.spec.to_dict())
    return made


def with_examples(part: Any) -> Any:
    """Every example's file put where it is named."""
    if isinstance(part, list):
        return [with_examples(item) for item in part]
    if not isinstance(part, dict):
        return part
    if isinstance(name := part.get("externalValue"), str):
        return {"value": json.loads((FOLDER / "examples" / name).read_text())}
    return {key: with_examples(value) for key, value in part.items()}


class DescribedApi(Api):  # type: ignore[misc]
    """flask-smorest, with problem documents for its error responses and our own error handlers."""

    DEFAULT_ERROR_RESPONSE_NAME = "Problem"

    def _register_error_handlers(self) -> None:
        """``problems.register`` has done it."""

    def _register_etag_headers(self) -> None:
        """Ours are described where they are used."""

    _register_pagination_header = _register_etag_headers

    def _register_responses(self) -> None:
        self.spec.components.schema("Problem", problem_schema())
        kinds: dict[int, list[type[BrokerError]]] = {}
        for kind in all_errors():
            kinds.setdefault(kind.http_status, []).append(kind)
        for status, several in kinds.items():
            described = "; ".join(f"`{kind.code}`: {kind.title}" for kind in several)
            self.spec.components.response(f"Problem{status}", problem_response(described), lazy=True)
        self.spec.components.response("Problem", problem_response("Any other error"), lazy=True)


def problem_response(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {PROBLEM: {"schema": schema}}}


def problem_schema() -> dict[str, Any]:
    """RFC 9457; members beyond these depend on the code (``decision``, ``oldest`` ...)."""
    fault = {
        "type": "object",
        "required": ["pointer", "message"],
        "properties": {
            "pointer": {
                "type": "string",
                "description": "A JSON pointer into the body, `?name` of the query, or a header's name.",
            },
            "message": {"type": "string"},
        },
    }
    codes = sorted({kind.code for kind in all_errors()})
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {
                "type": "string",
                "format": "uri-reference",
                "examples": ["/docs/errors#invalid_request"],
            },
            "title": {"type": "string", "examples": ["The request cannot be read"]},
            "status": {"type": "integer", "examples": [400]},
            "detail": {"type": "string", "examples": ["the body is not JSON"]},
            "code": {"type": "string", "enum": codes},
            "retryable": {"type": "boolean", "description": "The same request may succeed later."},
            "request_id": {"type": "string"},
            "errors": {"type": "array", "items": fault},
        },
    }


def as_text(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    text = as_text(document())
    if "--print" in arguments:
        sys.stdout.write(text)
    else:
        PATH.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
