"""Jobs: list, read, act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint

from api_spec import schemas
from api_spec.errors import (
    BrokerError,
    Conflict,
    Fault,
    Forbidden,
    Gone,
    InvalidSpec,
    NotFound,
    NotSupported,
    PreconditionFailed,
    TooManyStreams,
)
from api_spec.jobs import JobSpec
from api_spec.schemas import dump_spec, load_spec
from api_spec.schemas import views as shapes
from api_spec.schemas.usage_views import UsageListSchema
from api_spec.states import FINAL
from api_spec.views import JobQuery, JobView, TaskCancel
from broker.access import Principal
from broker.web import etags, events, waiting
from broker.web.bodies import BODY_ERRORS, MERGE_PATCH, read_json, read_json_if_any, take_no_body
from broker.web.context import answer, broker, web, who
from broker.web.describing import JSON, Says, Takes, operation
from broker.web.paging import answer_page
from broker.web.queries import DecisionQuery, JobListQuery, PageQuery, load_document, read_query
from broker.web.streaming import CONTENT_TYPE as EVENT_STREAM
from broker.web.streaming import stream, wants_stream

blueprint = Blueprint("jobs", __name__, url_prefix="/v1", description="What is and was")

LIST, DECISIONS, TASKS = JobListQuery(), DecisionQuery(), PageQuery()
PATCH, CANCEL = shapes.JobPatchSchema(), shapes.CancelSchema()

ETAG = {"ETag": "The version of the job."}
FOR = {"Broker-Owner": "The person to act for; needs the scope jobs:act-as."}
WAIT = {
    "Prefer": "`wait=N`: answer when the job has ended (with If-None-Match: changed), or after N seconds, "
    "60 at most.",
    "If-None-Match": "304 when the job still has this ETag.",
}
JOB = {JSON: shapes.JobSchema}


# ---- read --------------------------------------------------------------------------------------------


@blueprint.get("/jobs")
@operation(
    "listJobs",
    [Says(description="Summaries, newest first", content={JSON: shapes.JobPageSchema}, examples=["jobs"])],
    query=JobListQuery,
    fails=[Gone],
)
def list_jobs() -> Response:
    """List the project's jobs."""
    asked = read_query(LIST)
    asked["labels"] = dict(asked.pop("label"))
    asked["state"] = tuple(asked["state"])
    asked["project"] = own_project(asked.get("project"))
    query = JobQuery(**asked)
    return answer_page(broker().list_jobs(query, who()), schemas.dump_summary)


def own_project(asked: str | None) -> str:
    project = who().project
    if asked not in (None, project):
        message = f"the token is for the project {project}"
        raise Forbidden(message, faults=[Fault("?project", message)])
    return project


@blueprint.get("/jobs/<job_id>")
@operation(
    "getJob",
    [
        Says(description="The job", content=JOB, examples=["job"], headers=ETAG),
        Says(status=304, description="It still has the ETag of If-None-Match", headers=ETAG),
    ],
    headers=WAIT,
    fails=[NotFound],
)
def get_job(job_id: str) -> Response:
    """Read a job; no backend is called."""
    if request.if_none_match:
        job, applied = waiting.wait_for(lambda: read(job_id), lambda job: not etags.is_known_to_client(job))
    else:
        job, applied = waiting.wait_for(lambda: read(job_id), lambda job: job.state in FINAL)
    if etags.is_known_to_client(job):
        return Response(status=304, headers={"ETag": etags.of(job)} | applied)
    return answer_job(job, 200, applied)


def read(job_id: str) -> JobView:
    return broker().get(job_id, who())


def answer_job(job: JobView, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return answer(schemas.dump_job(job), status, {"ETag": etags.of(job), **(headers or {})})


def answer_items(items: Any, dump: Callable[[Any], Any]) -> Response:
    return answer({"items": [dump(item) for item in items]})


@blueprint.get("/jobs/<job_id>/attempts")
@operation(
    "listAttempts",
    [
        Says(
            description="Attempts, oldest first",
            content={JSON: shapes.AttemptListSchema},
            examples=["attempts"],
        )
    ],
    fails=[NotFound],
)
def list_attempts(job_id: str) -> Response:
    """List a job's attempts."""
    return answer_items(broker().attempts(job_id, who()), schemas.dump_attempt)


@blueprint.get("/jobs/<job_id>/usage")
@operation(
    "readUsage",
    [
        Says(
            description="Of each attempt, oldest first; null is what nobody has measured, or not yet",
            content={JSON: UsageListSchema},
            examples=["usage"],
        )
    ],
    fails=[NotFound],
)
def read_usage(job_id: str) -> Response:
    """Read what a job was given and has used."""
    return answer_items(broker().usage(job_id, who()), schemas.dump_usage)


@blueprint.get("/jobs/<job_id>/tasks")
@operation(
    "listTasks",
    [Says(description="Tasks by index", content={JSON: shapes.TaskPageSchema}, examples=["tasks"])],
    query=PageQuery,
    fails=[NotFound],
)
def list_tasks(job_id: str) -> Response:
    """List the tasks of an array job."""
    asked = read_query(TASKS)
    return answer_page(broker().tasks(job_id, who(), asked.get("cursor"), asked["limit"]), schemas.dump_task)


@blueprint.get("/jobs/<job_id>/events")
@operation(
    "listJobEvents",
    [
        Says(
            description="Events, oldest first; a stream ends with the event `end`",
            content={JSON: shapes.EventListSchema, EVENT_STREAM: shapes.EventSchema},
            examples=["events"],
        )
    ],
    headers=events.GOES_ON,
    fails=[NotFound, TooManyStreams],
)
def list_job_events(job_id: str) -> Response:
    """List or follow what happened to a job."""
    history = broker().job_events(job_id, who())
    if wants_stream():
        seen = events.last_seen()
        return stream(events.job_events(web().tail, who().project, job_id, history, seen))
    return answer_items(history, schemas.dump_event)


@blueprint.get("/jobs/<job_id>/decision")
@operation(
    "getDecision",
    [
        Says(
            description="The decision in force; with `all` a list under `items`",
            content={JSON: {"oneOf": [shapes.DecisionSchema, shapes.DecisionListSchema]}},
            examples=["decision"],
        )
    ],
    query=DecisionQuery,
    fails=[NotFound],
)
def get_decision(job_id: str) -> Response:
    """Tell why the job is where it is."""
    decisions = broker().decisions(job_id, who())
    if read_query(DECISIONS)["all"]:
        return answer_items(decisions, schemas.dump_decision)
    if not decisions:
        raise NotFound(f"no decision is known for job {job_id}")  # rebuilt from a backend
    return answer(schemas.dump_decision(decisions[-1]))


@blueprint.get("/jobs/<job_id>/pending")
@operation(
    "explainPending",
    [
        Says(
            description="Reasons, the best one first",
            content={JSON: shapes.RefusalListSchema},
            examples=["pending"],
        )
    ],
    fails=[NotFound],
)
def explain_pending(job_id: str) -> Response:
    """Tell why the job has not started."""
    return answer_items(broker().pending(job_id, who()), schemas.dump_refusal)


# ---- act ---------------------------------------------------------------------------------------------


IF_MATCH = {"If-Match": "412 when the job no longer has this ETag; nothing is done then."}


STORED = Says(status=202, description="Stored; a worker does it", content=JOB, examples=["job"], headers=ETAG)


def action(
    operation_id: str, *fails: type[BrokerError], says: Says = STORED, takes: Takes | None = None
) -> Any:
    refusals: list[type[BrokerError]] = [NotFound, Conflict, PreconditionFailed, *fails]
    return operation(operation_id, [says], takes=takes, headers=IF_MATCH | FOR, fails=refusals)


@blueprint.post("/jobs/<job_id>/cancel")
@action(
    "cancelJob",
    *BODY_ERRORS,
    NotSupported,
    says=replace(STORED, content={JSON: shapes.CancelledJobSchema}, examples=["cancelled_job"]),
    takes=Takes(schema=shapes.CancelSchema, examples=["cancel_tasks"], required=False),
)
def cancel_job(job_id: str) -> Response:
    """Ask for the end of a job, or of single tasks of an array; repeated, or later, it does nothing."""
    asked = load_document(CANCEL, read_json_if_any(web().settings.max_body_bytes))
    if "tasks" in asked:
        done = broker().cancel_tasks(job_id, asked["tasks"], who(), if_version=etags.if_version())
        return answer_cancelled(done.job, done)
    return answer_cancelled(broker().cancel(job_id, who(), if_version=etags.if_version()))


def answer_cancelled(job: JobView, done: TaskCancel | None = None) -> Response:
    told = done and schemas.dump_task_cancel(done)
    return answer({**schemas.dump_job(job), "task_cancel": told}, 202, {"ETag": etags.of(job)})


@blueprint.post("/jobs/<job_id>/hold")
@action("holdJob", *BODY_ERRORS, NotSupported)
def hold_job(job_id: str) -> Response:
    """Keep a job from starting until it is released."""
    take_no_body()
    return answer_job(broker().hold(job_id, who(), if_version=etags.if_version()), 202)


@blueprint.post("/jobs/<job_id>/release")
@action("releaseJob", *BODY_ERRORS, NotSupported)
def release_job(job_id: str) -> Response:
    """Let a held job go on."""
    take_no_body()
    return answer_job(broker().release(job_id, who(), if_version=etags.if_version()), 202)


@blueprint.patch("/jobs/<job_id>")
@operation(
    "updateJob",
    [Says(status=202, description="Stored; a worker does it", content=JOB, examples=["job"], headers=ETAG)],
    takes=Takes(schema=shapes.JobPatchSchema, examples=["scale"], content_type=MERGE_PATCH[-1]),
    headers=IF_MATCH | FOR,
    fails=[*BODY_ERRORS, NotFound, Conflict, PreconditionFailed, NotSupported],
)
def update_job(job_id: str) -> Response:
    """Scale a service or give it a new revision; change the time limit or priority of other work."""
    patch = checked_patch(read_json(web().settings.max_body_bytes, MERGE_PATCH))
    spec = patched_spec(job_id, patch["spec"], who()) if "spec" in patch else None
    job = broker().update(
        job_id, who(), replicas=patch.get("replicas"), spec=spec, if_version=etags.if_version()
    )
    return answer_job(job, 202)


def checked_patch(document: Any) -> dict[str, Any]:
    patch = load_document(PATCH, document)
    if not patch:
        raise InvalidSpec('the patch must hold "replicas", "spec" or both', faults=[Fault("", "is empty")])
    return patch


def patched_spec(job_id: str, patch: dict[str, Any], principal: Principal) -> JobSpec:
    """What is set in neither the patch nor the job stays as it was."""
    return load_spec(merged(dump_spec(broker().get(job_id, principal).spec), patch), "/spec")


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396): null removes."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
