"""How a view is described in the OpenAPI document, with no cost for its requests.

flask-smorest's own decorators wrap the view and dump its answer by marshmallow; these only leave a note on
it, and the view does both by itself.  Examples are named here; ``openapi`` reads their files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema

from api_spec.errors import (
    BrokerError,
    Forbidden,
    InvalidRequest,
    RateLimited,
    StoreUnavailable,
    Unauthenticated,
)
from broker.auth import NAME
from broker.web.context import View

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
ALWAYS: tuple[type[BrokerError], ...] = (
    InvalidRequest,
    Unauthenticated,
    Forbidden,
    RateLimited,
    StoreUnavailable,
)


HEADER_FORMS: Mapping[str, Mapping[str, Any]] = {
    "Broker-Owner": {"pattern": f"^{NAME.pattern}$"},
    "Idempotency-Key": {"pattern": '^("[!-~]{1,255}"|[!-~]{1,255})$'},
    "If-Match": {"pattern": r'^(\*|(W/)?"[!#-~]*")$'},
}


@dataclass(frozen=True, kw_only=True)
class Says:
    """A good answer, by content type."""

    status: int = 200
    description: str
    content: Mapping[str, Any] = field(default_factory=dict)  # content type -> schema
    examples: Sequence[str] = ()  # of the JSON
    headers: Mapping[str, str] = field(default_factory=dict)  # name -> description


@dataclass(frozen=True, kw_only=True)
class Takes:
    """A body."""

    schema: Any
    examples: Sequence[str] = ()
    content_type: str = JSON
    required: bool = True


def operation(
    operation_id: str,
    says: Sequence[Says],
    *,
    takes: Takes | None = None,
    query: type[Schema] | None = None,
    headers: Mapping[str, str] | None = None,
    fails: Sequence[type[BrokerError]] = (),
) -> Any:
    """The first line of the view's docstring is the summary."""
    note: dict[str, Any] = {"operationId": operation_id, "responses": {}}
    for said in says:
        note["responses"][str(said.status)] = response_of(said)
    if takes is not None:
        note["requestBody"] = {
            "required": takes.required,
            "content": content_of({takes.content_type: takes.schema}, takes),
        }
    parameters = [{"in": "query", "schema": query}] if query is not None else []
    parameters += [header_parameter(name, text) for name, text in (headers or {}).items()]
    if parameters:
        note["parameters"] = parameters

    def leave_note(view: View) -> View:
        failures = (*fails, *([] if hasattr(view, "public") else ALWAYS))
        note["responses"] |= {str(kind.http_status): f"Problem{kind.http_status}" for kind in failures}
        note["responses"]["default"] = "Problem"
        if hasattr(view, "public"):
            note["security"] = []
        view._apidoc = {"manual_doc": note}  # type: ignore[attr-defined]
        if query is None:
            view.takes_no_query = True  # type: ignore[attr-defined]
        return view

    return leave_note


def response_of(said: Says) -> dict[str, Any]:
    response: dict[str, Any] = {"description": said.description}
    if said.content:
        response["content"] = content_of(said.content, said)
    if said.headers:
        response["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in said.headers.items()
        }
    return response


def content_of(schemas: Mapping[str, Any], examples: Says | Takes) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    for kind in content:
        if examples.examples and kind.endswith("json"):
            content[kind]["examples"] = {
                name: {"externalValue": f"{name}.json"} for name in examples.examples
            }
    return content


def header_parameter(name: str, text: str) -> dict[str, Any]:
    schema = {"type": "string", **HEADER_FORMS.get(name, {})}
    return {"in": "header", "name": name, "description": text, "schema": schema}
