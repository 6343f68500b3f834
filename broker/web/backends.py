"""The configured backends: how they are, and what an operator tells them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Response
from flask_smorest import Blueprint

from api_spec import schemas
from api_spec.errors import BrokerError, NotFound
from api_spec.schemas import load_spec
from api_spec.schemas import views as shapes
from api_spec.schemas.oneof import JobSpecSchema
from broker.web.bodies import BODY_ERRORS, read_json, take_no_body
from broker.web.context import answer, broker, web, who
from broker.web.describing import JSON, Says, Takes, operation

blueprint = Blueprint("backends", __name__, url_prefix="/v1", description="Where jobs run")

BACKEND = Says(description="The backend", content={JSON: shapes.BackendSchema}, examples=["backend"])


def control(operation_id: str, *fails: type[BrokerError]) -> Any:
    return operation(operation_id, [BACKEND], fails=[NotFound, *fails])


@blueprint.get("/backends")
@operation(
    "listBackends",
    [Says(description="Every backend", content={JSON: shapes.BackendListSchema}, examples=["backends"])],
)
def list_backends() -> Response:
    """List the backends with their health, inventory and load."""
    return answer({"items": [schemas.dump_backend(backend) for backend in broker().backends(who())]})


@blueprint.get("/backends/<name>")
@control("getBackend")
def get_backend(name: str) -> Response:
    """Read a backend."""
    return answer(schemas.dump_backend(broker().backend(name, who())))


@blueprint.post("/backends/<name>/drain")
@control("drainBackend", *BODY_ERRORS)
def drain_backend(name: str) -> Response:
    """Place no new jobs there; what it has goes on."""
    take_no_body()
    return answer(schemas.dump_backend(broker().drain_backend(name, who())))


@blueprint.post("/backends/<name>/pause")
@control("pauseBackend", *BODY_ERRORS)
def pause_backend(name: str) -> Response:
    """Submit nothing there; observing and cancelling go on."""
    take_no_body()
    return answer(schemas.dump_backend(broker().pause_backend(name, who())))


@blueprint.post("/backends/<name>/resume")
@control("resumeBackend", *BODY_ERRORS)
def resume_backend(name: str) -> Response:
    """End a drain and a pause."""
    take_no_body()
    return answer(schemas.dump_backend(broker().resume_backend(name, who())))


@blueprint.post("/backends/<name>/check")
@operation(
    "checkBackend",
    [Says(description="What was found", content={JSON: shapes.FindingListSchema}, examples=["findings"])],
    fails=[*BODY_ERRORS, NotFound],
)
def check_backend(name: str) -> Response:
    """Ask the backend itself what it has and what is missing; it may take as long as its time-outs."""
    take_no_body()
    return answer({"items": [asdict(one) for one in broker().check_backend(name, who())]})


@blueprint.post("/backends/<name>/render")
@operation(
    "renderJob",
    [Says(description="The script or manifest", content={"text/plain": {"type": "string"}})],
    takes=Takes(schema=JobSpecSchema, examples=["training"]),
    fails=[NotFound, *BODY_ERRORS],
)
def render_job(name: str) -> Response:
    """Show exactly what would be sent to the backend; nothing is stored or sent."""
    spec = load_spec(read_json(web().settings.max_body_bytes))
    return Response(broker().render(spec, name, who()), content_type="text/plain; charset=utf-8")
