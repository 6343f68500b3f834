"""What may stand behind the ``?`` of each list, as marshmallow schemas; unknown parameters are errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from flask import request
from marshmallow import Schema, ValidationError, fields, validate

from api_spec.errors import Fault, InvalidRequest, InvalidSpec
from api_spec.jobs import Kind
from api_spec.states import JobState
from api_spec.times import from_rfc3339

TRUE, FALSE = {"true", "1"}, {"false", "0"}


class Moment(fields.DateTime):
    """RFC 3339 on the wire, seconds since the epoch inside."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        try:
            return from_rfc3339(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error


class Label(fields.String):
    """``team=vision``"""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **_: Any) -> Any:
        name, equals, wanted = value.partition("=")
        if not (name and equals):
            raise ValidationError("must read like team=vision")
        return name, wanted


def limit(default: int, most: int, least: int = 1) -> fields.Integer:
    return fields.Integer(load_default=default, validate=validate.Range(min=least, max=most))


def text(what: str) -> fields.String:
    return fields.String(validate=validate.Length(1, 500), metadata={"description": what})


class SubmitQuery(Schema):
    dry_run = fields.Boolean(
        load_default=False,
        truthy=TRUE,
        falsy=FALSE,
        metadata={"description": "Answer the decision alone; nothing is stored."},
    )


class JobListQuery(Schema):
    state = fields.List(
        fields.Enum(JobState, by_value=fields.String),
        load_default=(),
        metadata={"description": "Any of these."},
    )
    kind = fields.Enum(Kind, by_value=fields.String)
    backend = text("The backend where the job is or was.")
    owner = text("Whom the job is for.")
    project = text("The token's own; another is refused.")
    name = text("The exact name.")
    label = fields.List(
        Label(), load_default=(), metadata={"description": "`team=vision`; repeated, all must hold."}
    )
    created_after = Moment()
    created_before = Moment()
    cursor = text("`next` of the page before.")
    limit = limit(100, 500)


class PageQuery(Schema):
    cursor = text("`next` of the page before.")
    limit = limit(100, 1000)


class EventListQuery(Schema):
    after = text(
        "The id of the last event that was seen; `oldest`: all that are kept; `latest`: what happens from "
        "now on. Without it a page begins with the oldest, and a stream with what happens next."
    )
    limit = limit(100, 1000)


class DecisionQuery(Schema):
    all = fields.Boolean(
        load_default=False, truthy=TRUE, falsy=FALSE, metadata={"description": "All decisions, oldest first."}
    )


class LogQuerySchema(Schema):
    stream = fields.String(load_default="stdout", validate=validate.OneOf(["stdout", "stderr"]))
    attempt = fields.Integer(validate=validate.Range(min=1))
    task = fields.Integer(validate=validate.Range(min=0))
    replica = fields.Integer(validate=validate.Range(min=0))
    node = fields.Integer(
        validate=validate.Range(min=0),
        metadata={"description": "Rank of a node, of a job on several whose nodes have logs of their own."},
    )
    cursor = fields.String(
        validate=validate.Length(0, 500),
        metadata={"description": "Where to go on; without it, or empty, from the start."},
    )
    tail_bytes = fields.Integer(validate=validate.Range(min=0, max=1024**2))
    limit_bytes = limit(65536, 1024**2, least=4)  # the longest character


def read_query(schema: Schema) -> dict[str, Any]:
    """The checked parameters of this request.  Raises ``InvalidRequest`` with every fault."""
    try:
        loaded: dict[str, Any] = schema.load(arguments_for(schema))
    except ValidationError as error:
        faults = [Fault(f"?{name}", message) for name, message in flatten(error.normalized_messages())]
        summary = "; ".join(f"{fault.pointer[1:]}: {fault.message}" for fault in faults)
        raise InvalidRequest(f"the query is not valid: {summary}", faults=faults) from error
    return loaded


def refuse_query() -> NoReturn:
    """What is not read must not look as if it were: ``?dry_run=true`` where there is no such thing."""
    faults = [Fault(f"?{name}", "this request takes no parameters") for name in request.args]
    raise InvalidRequest("this request takes no query parameters", faults=faults)


def arguments_for(schema: Schema) -> dict[str, Any]:
    """Only a list may be repeated."""
    arguments: dict[str, Any] = {}
    for name, values in request.args.lists():
        if isinstance(schema.fields.get(name), fields.List):
            arguments[name] = values
        elif len(values) > 1:
            raise InvalidRequest(
                f"the query parameter {name} is given {len(values)} times",
                faults=[Fault(f"?{name}", "may be given once")],
            )
        else:
            arguments[name] = values[0]
    return arguments


def load_document(schema: Schema, document: Any) -> dict[str, Any]:
    """A checked small body.  Raises ``InvalidSpec``; specs have a door of their own (``load_spec``)."""
    try:
        loaded: dict[str, Any] = schema.load(document)
    except ValidationError as error:
        found = flatten(error.normalized_messages())
        faults = [Fault("" if name == "_schema" else f"/{name}", message) for name, message in found]
        raise InvalidSpec(f"{faults[0].pointer or 'the body'} {faults[0].message}", faults=faults) from error
    return loaded


def flatten(messages: Mapping[Any, Any]) -> list[tuple[str, str]]:
    """Position within a repeated parameter is left out: the name says enough."""
    found = []
    for name, inner in messages.items():
        lists = inner.values() if isinstance(inner, Mapping) else [inner]
        found += [(str(name), str(message)) for several in lists for message in several]
    return found
