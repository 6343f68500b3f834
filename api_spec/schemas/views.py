"""The shapes of what is read back, for the OpenAPI document and for tests; ``writing`` writes them.

Server only, because a job's shape holds a spec of any kind.  A newer server may add members, so unknown ones
are not errors here.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields
from marshmallow.validate import Length

from api_spec.decisions import Outcome
from api_spec.jobs import Kind
from api_spec.reasons import Reason
from api_spec.schemas.fields import Indices, Number, Options, Whole, about
from api_spec.schemas.oneof import JobSpecSchema
from api_spec.schemas.strict import Strict
from api_spec.states import AttemptState, JobState
from api_spec.times import from_rfc3339

BUNDLE_AT_MOST = 1000  # jobs in one submission; they are accepted in one step of the store


class Shape(Schema):
    class Meta:
        unknown = EXCLUDE

    def dump(self, obj: Any, **_: Any) -> Any:
        """Documents come ready from ``writing``."""
        return obj


class Moment(fields.String):
    def __init__(self, **options: Any) -> None:
        super().__init__(metadata={"format": "date-time", "example": "2026-11-22T02:18:54.123Z"}, **options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **options)
        try:
            from_rfc3339(text)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        return text


def one_of(enum: type[Enum], **options: Any) -> fields.Enum[Any]:
    return fields.Enum(enum, by_value=fields.String, required=True, **options)


Text = partial(fields.String, required=True)
TextOrNull = partial(fields.String, required=True, allow_none=True)
Count = partial(fields.Integer, required=True, strict=True)
CountOrNull = partial(fields.Integer, required=True, strict=True, allow_none=True)
Truth = partial(fields.Boolean, required=True)
TruthOrNull = partial(fields.Boolean, required=True, allow_none=True)
Time = partial(Moment, required=True)
TimeOrNull = partial(Moment, required=True, allow_none=True)
ReasonOrNull = partial(one_of, Reason, allow_none=True)
Texts = partial(fields.List, fields.String(), required=True)
TextByName = partial(fields.Dict, fields.String(), fields.String(), required=True)
FreeForm = partial(fields.Dict, required=True)


def many(shape: type[Schema], **options: Any) -> fields.List[Any]:
    return fields.List(fields.Nested(shape), required=True, **options)


class RefusalSchema(Shape):
    code = one_of(Reason)
    message = Text()
    field = TextOrNull(metadata=about("A JSON pointer into the spec."))


class ScorePartSchema(Shape):
    rule = Text()
    points = fields.Float(required=True)
    message = Text()


class VerdictSchema(Shape):
    backend = Text()
    type = Text()
    eligible = Truth()
    refusals = many(RefusalSchema)
    score = fields.Float(required=True)
    parts = many(ScorePartSchema)
    snapshot_age_s = fields.Float(required=True, allow_none=True, metadata=about("null: never seen."))


class DecisionSchema(Shape):
    outcome = one_of(Outcome)
    chosen = TextOrNull()
    summary = Text()
    verdicts = many(VerdictSchema, metadata=about("Every configured backend, each once."))
    binding = Truth(metadata=about("False: made at accept, from the last snapshots."))
    policy = Text()
    policy_digest = Text()
    decided_at = Time()
    attempt = CountOrNull()
    warnings = Texts()
    options = FreeForm(metadata=about("What rules of the policy hand the chosen backend."))


class ServiceStatusSchema(Shape):
    endpoint = TextOrNull()
    wanted = Count()
    updated = Count()
    ready = Count()
    revision = Count()
    message = TextOrNull(metadata=about("Why fewer replicas are ready than wanted."))


class JobSummarySchema(Shape):
    id = Text()
    kind = one_of(Kind)
    name = Text()
    project = Text()
    owner = Text()
    state = one_of(JobState)
    reason = ReasonOrNull()
    backend = TextOrNull()
    labels = TextByName()
    created_at = Time()
    ended_at = TimeOrNull()
    message = TextOrNull()
    service = fields.Nested(ServiceStatusSchema, required=True, allow_none=True)


class JobSchema(Shape):
    id = Text()
    version = Count(metadata=about("Rises with every change; the ETag."))
    spec = fields.Nested(JobSpecSchema, required=True)
    project = Text()
    owner = Text()
    submitter = Text()
    state = one_of(JobState)
    reason = ReasonOrNull()
    message = TextOrNull()
    backend = TextOrNull()
    attempt = Count(metadata=about("0: none yet."))
    created_at = Time()
    updated_at = Time()
    started_at = TimeOrNull()
    ended_at = TimeOrNull()
    exit_code = CountOrNull()
    signal = CountOrNull()
    ended_by = TextOrNull(metadata=about("Who or what caused the end.", example="user:ana"))
    cancel_requested = Truth()
    held = Truth()
    revision = Count()
    replicas_wanted = CountOrNull()
    service = fields.Nested(ServiceStatusSchema, required=True, allow_none=True)
    tasks = fields.Dict(
        fields.String(),
        fields.Integer(strict=True),
        required=True,
        metadata=about("Array jobs: how many tasks are in each state."),
    )
    observed_at = TimeOrNull()
    backend_reachable = TruthOrNull()
    recovered = Truth()
    resubmit_of = TextOrNull()


class TaskCancelSchema(Shape):
    requested = TextOrNull(metadata=about("They end, or never run.", example="3,5-7"))
    ended_before = TextOrNull(metadata=about("They had ended, and stay as they ended.", example="8-9"))


class CancelledJobSchema(JobSchema):
    """The job, and what became of a cancel that named tasks."""

    task_cancel = fields.Nested(
        TaskCancelSchema, required=True, allow_none=True, metadata=about("null: the whole job was meant.")
    )


class AttemptSchema(Shape):
    number = Count()
    marker = Text()
    backend = Text()
    state = one_of(AttemptState)
    outcome = one_of(JobState, allow_none=True)
    reason = ReasonOrNull()
    message = TextOrNull()
    native_id = TextOrNull()
    native_state = TextOrNull()
    native_reason = TextOrNull()
    restarts = Count()
    exit_code = CountOrNull()
    signal = CountOrNull()
    submitted_at = TimeOrNull()
    started_at = TimeOrNull()
    ended_at = TimeOrNull()
    nodes = Texts()
    inputs = TextByName(metadata=about("What this attempt read: name to URI."))
    outputs = TextByName()
    task_indices = TextOrNull(metadata=about("Array jobs: the tasks that this attempt runs."))


class TaskSchema(Shape):
    index = Count()
    state = one_of(JobState)
    attempt = Count()
    reason = ReasonOrNull()
    exit_code = CountOrNull()
    signal = CountOrNull()
    started_at = TimeOrNull()
    ended_at = TimeOrNull()
    cancel_requested = Truth(metadata=about("And it is not over yet."))
    cancelled_by = TextOrNull(
        metadata=about("Who asked the broker for its end; null: nobody did.", example="user:ana")
    )


class EventSchema(Shape):
    id = Text(metadata=about("Opaque; the events of a stream are in its order."))
    at = Time()
    type = Text()
    job = TextOrNull()
    data = FreeForm()


class CapsSchema(Shape):
    """What the broker asks of one backend at most, over all workers."""

    max_drains = Count(metadata=about("At the same time."))
    max_submits_per_s = Number(required=True)
    max_live_jobs = Count(metadata=about("More wait in the broker."))


class BackendSchema(Shape):
    name = Text()
    type = Text()
    reachable = TruthOrNull(metadata=about("null: not looked at yet."))
    message = TextOrNull()
    drained = Truth(metadata=about("Takes no new placements."))
    paused = Truth(metadata=about("Submits nothing; cancels work."))
    configured = Truth()
    capabilities = Texts()
    seen_at = TimeOrNull()
    watched = TruthOrNull(
        metadata=about("Changes are heard as they happen; false: not just now; null: it has no watch.")
    )
    live_jobs = Count()
    caps = fields.Nested(
        CapsSchema, required=True, allow_none=True, metadata=about("null: it left the configuration.")
    )
    inventory = FreeForm(allow_none=True)
    load_now = FreeForm(data_key="load", allow_none=True)  # ``load`` is a method of every schema


class AcceptedSchema(Shape):
    job = fields.Nested(JobSchema, required=True)
    decision = fields.Nested(DecisionSchema, required=True)


class BundleSchema(Shape):
    """What ``POST /v1/jobs:batch`` takes: whole or not at all."""

    jobs = many(JobSpecSchema, validate=Length(1, BUNDLE_AT_MOST))


class BundleAcceptedSchema(Shape):
    jobs = many(AcceptedSchema)


class BundlePreviewSchema(Shape):
    decisions = many(DecisionSchema)


class JobPatchSchema(Strict):
    """What ``PATCH`` takes: a merge patch of a job; of finite work its time limit and priority."""

    replicas = Whole(1, 10_000)
    spec = Options(metadata=about("A merge patch (RFC 7396) of the spec; it makes a new revision."))


class CancelSchema(Strict):
    """What a cancel may take; without ``tasks`` the whole job is meant."""

    tasks = Indices(metadata=about("Tasks of an array job, as in array.indices.", example="3,5-9"))


class LogPageSchema(Shape):
    data = Text()
    cursor = Text(metadata=about("Continues after data."))
    at_end = Truth(metadata=about("All there is now."))
    complete = Truth(metadata=about("No more will come."))
    note = TextOrNull()


class _Page(Shape):
    next = TextOrNull(metadata=about("A cursor. A page may be short: this alone says that there is more."))


class JobPageSchema(_Page):
    items = many(JobSummarySchema)


class TaskPageSchema(_Page):
    items = many(TaskSchema)


class EventPageSchema(_Page):
    items = many(EventSchema)


class AttemptListSchema(Shape):
    items = many(AttemptSchema)


class EventListSchema(Shape):
    items = many(EventSchema)


class DecisionListSchema(Shape):
    items = many(DecisionSchema)


class RefusalListSchema(Shape):
    items = many(RefusalSchema)


class BackendListSchema(Shape):
    items = many(BackendSchema)


class FindingSchema(Shape):
    subject = Text(metadata=about("What was looked at; may come several times."))
    well = Truth(metadata=about("false: somebody has to mend it."))
    message = Text()


class FindingListSchema(Shape):
    items = many(FindingSchema)
