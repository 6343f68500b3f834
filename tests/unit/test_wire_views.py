"""What is written can be read, and is what the OpenAPI document says: one source of truth in three places."""

from __future__ import annotations

import json

import pytest
from apispec import APISpec
from apispec_oneofschema import MarshmallowPlugin
from openapi_spec_validator import validate

from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.jobs import Kind
from api_spec.reasons import Reason
from api_spec.schemas import reading, views, writing
from api_spec.schemas.usage_views import UsageSchema
from api_spec.states import AttemptState, JobState
from api_spec.views import (
    AttemptView,
    BackendView,
    Caps,
    EventView,
    JobSummary,
    JobView,
    Page,
    ServiceView,
    TaskView,
    UsageView,
)
from tests.builders import spec

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
NOW = 1795313934.123

# fmt: off
REFUSAL = Refusal(Reason.NEVER_FITS, "asks for 8 GPUs a node; the largest has 4", "/resources/gpus_per_node")
DECISION = Decision(
    outcome=Outcome.PLACED, chosen="hpc", summary="hpc: the only one that fits", binding=True,
    policy="default", policy_digest="sha256:0", decided_at=NOW, attempt=1, warnings=("the facts are old",),
    options={"qos": "high"},
    verdicts=(
        Verdict(backend="hpc", type="slurm", score=1.5, snapshot_age_s=0.5,
                parts=(ScorePart(rule="slurm-for-training", points=1.5, message="training"),)),
        Verdict(backend="k8s", type="kubernetes", refusals=(REFUSAL,)),
    ),
)
SERVICE = ServiceView(endpoint="http://x:8000", wanted=2, updated=1, ready=1, revision=2, message="starts")
JOB = JobView(
    id=ID, version=7, spec=spec(kind="inference"), project="vision", owner="ana", submitter="portal",
    state=JobState.RUNNING, reason=Reason.STARTING, message="m", backend="k8s", attempt=1, created_at=NOW,
    updated_at=NOW, started_at=NOW, ended_at=NOW, exit_code=0, signal=9, ended_by="user:ana",
    replicas_wanted=2, cancel_requested=True, held=True, service=SERVICE, tasks={"RUNNING": 3},
    observed_at=NOW, backend_reachable=False, recovered=True, resubmit_of=ID,
)
NEW_JOB = JobView(
    id=ID, version=1, spec=spec(), project="vision", owner="ana", submitter="ana", state=JobState.ACCEPTED,
    reason=None, message=None, backend=None, attempt=0, created_at=NOW, updated_at=NOW,
)
SUMMARY = JobSummary(
    id=ID, kind=Kind.BATCH, name="a", project="p", owner="o", state=JobState.FAILED, reason=Reason.LOST,
    backend="hpc", labels={"team": "vision"}, created_at=NOW, ended_at=NOW,
    message="m", service=SERVICE,
)
ATTEMPT = AttemptView(
    number=2, marker="wb-a-x-2", backend="hpc", state=AttemptState.ENDED, outcome=JobState.FAILED,
    reason=Reason.NODE_LOST, message="m", native_id="7", native_state="NODE_FAIL", native_reason="n",
    restarts=1, exit_code=1, signal=9, submitted_at=NOW, started_at=NOW, ended_at=NOW, nodes=("n1", "n2"),
    inputs={"data": "s3://a"}, outputs={"model": "file:///m"}, task_indices="0-3",
)
NEW_ATTEMPT = AttemptView(number=1, marker="m", backend="hpc", state=AttemptState.SUBMITTING)
TASK = TaskView(index=3, state=JobState.FAILED, attempt=1, reason=Reason.TIME_LIMIT, exit_code=1, signal=15,
                started_at=NOW, ended_at=NOW)
USAGE = UsageView(attempt=2, backend="hpc", elapsed_s=1.5, cpu_s=12.0, gpu_s=3.0, memory_mib_s=1e9,
                  peak_cpus=7.5, peak_memory_mib=100.25, energy_j=1e6)
NO_USAGE = UsageView(attempt=1, backend="k8s")
EVENT = EventView(id="a-1", at=NOW, type="accepted", job=ID, data={"n": [1, None]})
BACKEND = BackendView(
    name="hpc", type="slurm", reachable=True, message="m", drained=False, paused=True, configured=True,
    capabilities=("logs", "arrays"), seen_at=NOW, watched=True, live_jobs=3,
    inventory={"shapes": []}, load={"queued": 1},
    caps=Caps(max_drains=2, max_submits_per_s=0.5, max_live_jobs=7),
)
NEW_BACKEND = BackendView(name="k", type="kubernetes", reachable=None, message=None, drained=False,
                          paused=False, configured=True, capabilities=(), seen_at=None, live_jobs=0)

WIRE = [
    pytest.param(JOB, writing.dump_job, reading.load_job_view, views.JobSchema, id="job"),
    pytest.param(NEW_JOB, writing.dump_job, reading.load_job_view, views.JobSchema, id="new job"),
    pytest.param(SUMMARY, writing.dump_summary, reading.load_summary, views.JobSummarySchema, id="summary"),
    pytest.param(ATTEMPT, writing.dump_attempt, reading.load_attempt, views.AttemptSchema, id="attempt"),
    pytest.param(NEW_ATTEMPT, writing.dump_attempt, reading.load_attempt, views.AttemptSchema, id="new"),
    pytest.param(TASK, writing.dump_task, reading.load_task, views.TaskSchema, id="task"),
    pytest.param(USAGE, writing.dump_usage, reading.load_usage, UsageSchema, id="usage"),
    pytest.param(NO_USAGE, writing.dump_usage, reading.load_usage, UsageSchema, id="not measured"),
    pytest.param(EVENT, writing.dump_event, reading.load_event, views.EventSchema, id="event"),
    pytest.param(BACKEND, writing.dump_backend, reading.load_backend, views.BackendSchema, id="backend"),
    pytest.param(NEW_BACKEND, writing.dump_backend, reading.load_backend, views.BackendSchema, id="unseen"),
    pytest.param(DECISION, writing.dump_decision, reading.load_decision, views.DecisionSchema, id="decision"),
    pytest.param(REFUSAL, writing.dump_refusal, reading.load_refusal, views.RefusalSchema, id="refusal"),
]
# fmt: on


@pytest.mark.parametrize(("view", "dump", "load", "shape"), WIRE)
def test_what_is_written_is_read_as_what_it_was(view, dump, load, shape):
    assert load(json.loads(json.dumps(dump(view)))) == view


@pytest.mark.parametrize(("view", "dump", "load", "shape"), WIRE)
def test_what_is_written_is_valid_by_its_schema(view, dump, load, shape):
    assert shape().validate(dump(view)) == {}


@pytest.mark.parametrize(("view", "dump", "load", "shape"), WIRE)
def test_schema_and_writer_and_dataclass_have_the_same_members(view, dump, load, shape):
    in_schema = {field.data_key or name for name, field in shape().fields.items()}

    assert set(dump(view)) == in_schema
    assert in_schema - {"eligible"} == set(type(view).__dataclass_fields__)


def test_a_verdict_says_whether_it_is_eligible():
    chosen, refused = writing.dump_decision(DECISION)["verdicts"]

    assert (chosen["eligible"], refused["eligible"]) == (True, False)
    assert set(chosen) == set(views.VerdictSchema().fields)
    assert set(writing.dump_service(SERVICE)) == set(views.ServiceStatusSchema().fields)


def test_a_schema_leaves_alone_what_was_written():
    document = writing.dump_job(JOB)

    assert views.JobSchema().dump(document) is document


def test_a_page_keeps_its_cursor():
    page = Page(items=(TASK,), next="c")

    assert reading.load_page(writing.dump_page(page, writing.dump_task), reading.load_task) == page


# ---- reading another release -------------------------------------------------------------------------


def test_members_and_reasons_of_a_newer_server_do_not_stop_a_client():
    document = {**writing.dump_job(NEW_JOB), "colour": "blue", "reason": "SolarStorm"}

    assert reading.load_job_view(document).reason is Reason.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"state": "FROZEN"},
        {"created_at": "yesterday"},
        {"spec": None},
        {"spec": {"kind": "new"}},
        {"service": 5},
    ],
    ids=str,
)
def test_what_cannot_be_understood_is_an_error_that_says_so(change):
    with pytest.raises(reading.UnreadableAnswer, match="the server's"):
        reading.load_job_view({**writing.dump_job(NEW_JOB), **change})


@pytest.mark.parametrize("answer", [{}, {"items": None}, {"items": 5}], ids=str)
def test_an_answer_that_is_no_page_is_an_error(answer):
    with pytest.raises(reading.UnreadableAnswer):
        reading.load_page(answer, reading.load_task)


# ---- the OpenAPI document ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def components():
    document = APISpec("broker", "1", "3.1.1", plugins=[MarshmallowPlugin()])
    for name in (
        "BundleAccepted",
        "Bundle",
        "JobPage",
        "AttemptList",
        "BackendList",
        "EventPage",
        "TaskPage",
    ):
        document.components.schema(name, schema=getattr(views, f"{name}Schema"))
    complete = document.to_dict()
    validate(complete)
    return complete["components"]["schemas"]


def test_a_generated_client_can_narrow_a_spec_by_its_kind(components):
    spec_of_any_kind = components["JobSpec"]

    assert [each["$ref"].rpartition("/")[2] for each in spec_of_any_kind["oneOf"]] == [
        "TrainingSpec",
        "BatchSpec",
        "InferenceSpec",
    ]
    assert spec_of_any_kind["discriminator"]["propertyName"] == "kind"
    assert components["TrainingSpec"]["properties"]["kind"]["enum"] == ["training"]


def test_each_kind_documents_only_what_it_takes(components):
    assert "service" not in components["TrainingSpec"]["properties"]
    assert "array" not in components["InferenceSpec"]["properties"]
    assert "service" in components["InferenceSpec"]["required"]
    assert components["BatchSpec"]["additionalProperties"] is False


def test_limits_and_units_stand_in_the_document(components):
    assert components["TrainingSpec"]["properties"]["labels"]["maxProperties"] == 8
    assert components["Resources"]["properties"]["nodes"]["default"] == 1
    assert "GiB" in components["Resources"]["properties"]["memory_per_node"]["example"]
    assert components["Job"]["properties"]["created_at"]["format"] == "date-time"


def test_answers_may_grow(components):
    assert "additionalProperties" not in components["Job"]
