"""Submissions: one job, several at once, or one that was submitted before."""

from __future__ import annotations

from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from api_spec import schemas
from api_spec.errors import (
    Fault,
    IdempotencyConflict,
    InvalidSpec,
    NotFound,
    NothingFits,
    PreconditionFailed,
    summary_of,
)
from api_spec.jobs import JobSpec
from api_spec.schemas import load_spec
from api_spec.schemas import views as shapes
from api_spec.schemas.oneof import JobSpecSchema
from api_spec.views import Accepted
from broker.web import etags
from broker.web.bodies import BODY_ERRORS, digest_of, idempotency_key, read_json, take_no_body
from broker.web.context import answer, broker, web, who
from broker.web.describing import JSON, Says, Takes, operation
from broker.web.queries import SubmitQuery, read_query

blueprint = Blueprint("submissions", __name__, url_prefix="/v1", description="Training, batch work, services")

SUBMIT = SubmitQuery()
LOCATION = {"Location": "Where the job is."}
KEY = {"Idempotency-Key": "Repeated with its key, a request does nothing and is answered as before."}
IF_MATCH = {"If-Match": "412 when the job that is resubmitted no longer has this ETag."}
FOR = {"Broker-Owner": "The person to act for; needs the scope jobs:act-as."}


@blueprint.post("/jobs")
@operation(
    "submitJob",
    [
        Says(
            status=202,
            description="Accepted; a worker submits it",
            content={JSON: shapes.AcceptedSchema},
            examples=["submission"],
            headers=LOCATION,
        ),
        Says(
            description="With dry_run: the decision",
            content={JSON: shapes.DecisionSchema},
            examples=["decision"],
        ),
    ],
    takes=Takes(schema=JobSpecSchema, examples=["hello", "training", "array", "inference"]),
    query=SubmitQuery,
    headers=KEY | FOR,
    fails=[*BODY_ERRORS, NothingFits, IdempotencyConflict],
)
def submit_job() -> Response:
    """Place a job and store it."""
    document = read_json(web().settings.max_body_bytes)
    spec = load_spec(document)
    if is_dry_run():
        return answer(schemas.dump_decision(broker().preview([spec], who())[0]))
    return answer_accepted(accept([spec], document))


@blueprint.post("/jobs:batch")
@operation(
    "submitJobs",
    [
        Says(
            status=202,
            description="All accepted; had one been refused, none would be",
            content={JSON: shapes.BundleAcceptedSchema},
            examples=["submissions"],
        ),
        Says(
            description="With dry_run: the decisions, in the order of the jobs",
            content={JSON: shapes.BundlePreviewSchema},
            examples=["decisions"],
        ),
    ],
    takes=Takes(schema=shapes.BundleSchema, examples=["bundle"]),
    query=SubmitQuery,
    headers=KEY | FOR,
    fails=[*BODY_ERRORS, NothingFits, IdempotencyConflict],
)
def submit_jobs() -> Response:
    """Place and store several jobs, all or none; they may depend on each other by name."""
    document = read_json(web().settings.max_bundle_bytes)
    specs = load_bundle(document)
    if is_dry_run():
        decisions = broker().preview(specs, who(), bundled=True)
        return answer({"decisions": [schemas.dump_decision(decision) for decision in decisions]})
    accepted = accept(specs, document, bundled=True)
    return answer({"jobs": schemas.dump_accepted(accepted)}, 202, replay_header(accepted))


@blueprint.post("/jobs/<job_id>/resubmit")
@operation(
    "resubmitJob",
    [
        Says(
            status=202,
            description="A new job with the same spec",
            content={JSON: shapes.AcceptedSchema},
            examples=["submission"],
            headers=LOCATION,
        )
    ],
    headers=KEY | IF_MATCH | FOR,
    fails=[*BODY_ERRORS, NotFound, NothingFits, IdempotencyConflict, PreconditionFailed],
)
def resubmit_job(job_id: str) -> Response:
    """Submit the spec of a job again."""
    take_no_body()
    accepted = broker().resubmit(job_id, who(), key=idempotency_key(), if_version=etags.if_version())
    return answer_accepted(accepted)


def load_bundle(document: Any) -> list[JobSpec]:
    """Raises ``InvalidSpec`` with the faults of all jobs."""
    jobs = document.get("jobs") if isinstance(document, dict) else None
    if not isinstance(jobs, list) or len(document) > 1 or not 0 < len(jobs) <= shapes.BUNDLE_AT_MOST:
        message = f'must be {{"jobs": [...]}} with 1 to {shapes.BUNDLE_AT_MOST} jobs'
        raise InvalidSpec(f"the bundle {message}", faults=[Fault("/jobs", message)])
    specs: list[JobSpec] = []
    faults: list[Fault] = []
    for index, job in enumerate(jobs):
        try:
            specs.append(load_spec(job, f"/jobs/{index}"))
        except InvalidSpec as error:
            faults += error.faults
    if faults:
        raise InvalidSpec(summary_of(faults), faults=faults)
    return specs


def is_dry_run() -> bool:
    return bool(request.query_string) and bool(read_query(SUBMIT)["dry_run"])


def accept(specs: list[JobSpec], document: Any, *, bundled: bool = False) -> Accepted:
    key = idempotency_key()
    digest = digest_of(document) if key else ""
    return broker().accept(specs, who(), key=key, body_digest=digest, bundled=bundled)


def answer_accepted(accepted: Accepted) -> Response:
    location = {"Location": f"/v1/jobs/{accepted.jobs[0].id}"}
    return answer(schemas.dump_accepted(accepted)[0], 202, location | replay_header(accepted))


def replay_header(accepted: Accepted) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if accepted.replayed else {}
