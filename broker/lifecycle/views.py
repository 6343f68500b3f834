"""Records as people see them.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from adapters.base import Adapter
from api_spec.jobs import JobSpec
from api_spec.reasons import PENDING, Reason
from api_spec.states import AT_A_BACKEND, FINAL, JobState
from api_spec.times import to_rfc3339
from api_spec.views import AttemptView, BackendView, Caps, JobSummary, JobView, ServiceView, TaskView
from broker.lifecycle.tasks import TaskRow
from broker.store.backends import BackendRecord
from broker.store.records import AttemptRecord, JobRecord


def job_view(record: JobRecord, spec: JobSpec, backend: BackendRecord | None = None) -> JobView:
    """``backend``: what is known of the job's backend now; it tells how old the job's state may be."""
    reachable, observed_at = _freshness(record, backend)
    reason, message = record.reason, record.message
    if reachable is False and record.state not in FINAL and _goes_before(Reason.BACKEND_DOWN, reason):
        reason, message = Reason.BACKEND_DOWN, backend.message if backend else None
    return JobView(
        id=record.id,
        version=record.version,
        spec=spec,
        project=record.project,
        owner=record.owner,
        submitter=record.submitter or record.owner,
        state=record.state,
        reason=reason,
        message=message,
        backend=record.backend,
        attempt=record.attempt,
        created_at=record.created / 1000,
        updated_at=record.updated / 1000,
        started_at=_seconds(record.started),
        ended_at=_seconds(record.ended),
        exit_code=record.exit_code,
        signal=record.signal,
        ended_by=record.ended_by,
        cancel_requested=record.cancel is not None,
        held=record.held,
        revision=record.revision,
        replicas_wanted=record.replicas,
        service=_service_view(record),
        tasks=record.tasks,
        observed_at=observed_at,
        backend_reachable=reachable,
        recovered=record.recovered,
        resubmit_of=record.resubmit_of,
    )


def _goes_before(one: Reason, other: Reason | None) -> bool:
    """What the backend said before it fell silent is no longer the reason."""
    return other is None or other not in PENDING or PENDING.index(one) < PENDING.index(other)


def _freshness(record: JobRecord, backend: BackendRecord | None) -> tuple[bool | None, float | None]:
    """An ended job is as fresh as it will ever be; one at no backend has nothing to be fresh about.  A pass
    that was not let to a job tells nothing of it."""
    if backend is None or record.state in FINAL or record.backend is None:
        return None, None
    if backend.reachable and record.reason is Reason.BACKEND_DOWN and record.state in AT_A_BACKEND:
        return False, None
    return backend.reachable, _seconds(backend.seen_at)


def job_summary(record: JobRecord, silent: Mapping[str, str]) -> JobSummary:
    """``silent``: backends that do not answer now, and what is said of them."""
    reason, message = record.reason, record.message
    said = silent.get(record.backend or "")
    if said is not None and record.state not in FINAL and _goes_before(Reason.BACKEND_DOWN, reason):
        reason, message = Reason.BACKEND_DOWN, said
    return JobSummary(
        id=record.id,
        kind=record.kind,
        name=record.name,
        project=record.project,
        owner=record.owner,
        state=record.state,
        reason=reason,
        backend=record.backend,
        labels=record.labels,
        created_at=record.created / 1000,
        ended_at=_seconds(record.ended),
        message=message,
        service=_service_view(record),
    )


def _service_view(record: JobRecord) -> ServiceView | None:
    return ServiceView(**record.service) if record.service else None


def attempt_view(attempt: AttemptRecord) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        marker=attempt.marker,
        backend=attempt.backend,
        state=attempt.state,
        outcome=attempt.outcome,
        reason=attempt.reason,
        message=attempt.message,
        native_id=_native_id(attempt.handle),
        native_state=attempt.native_state,
        native_reason=attempt.native_reason,
        restarts=attempt.restarts,
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        submitted_at=attempt.submitted_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        nodes=attempt.nodes,
        inputs=attempt.inputs,
        outputs=attempt.outputs,
        task_indices=attempt.task_indices,
    )


def _native_id(handle: Mapping[str, Any] | None) -> str | None:
    """Adapters put what people would look for under ``id``."""
    return None if handle is None or "id" not in handle else str(handle["id"])


def task_view(row: TaskRow, job: JobRecord, asked: str | None = None) -> TaskView:
    """``asked``: who has cancelled this very task; the cancel of the whole job is one of every task."""
    of_all = job.ended_by if job.state is JobState.CANCELLED else None
    by = asked or job.cancel or (of_all if of_all and of_all.startswith("user:") else None)
    return TaskView(
        **asdict(row),
        cancel_requested=by is not None and row.state not in FINAL,
        cancelled_by=by if row.state is JobState.CANCELLED else None,
    )


def backend_view(
    record: BackendRecord, adapter: Adapter | None, *, live_jobs: int, caps: Caps, watched: bool | None
) -> BackendView:
    """``adapter`` None: taken out of the configuration; its live jobs are kept."""
    removed = "it was taken out of the configuration; its jobs are kept as they were last seen"
    return BackendView(
        name=record.name,
        type=adapter.type if adapter else record.type,
        reachable=record.reachable if adapter else False,
        message=record.message if adapter else removed,
        drained=record.drained,
        paused=record.paused,
        configured=adapter is not None,
        capabilities=tuple(sorted(adapter.capabilities)) if adapter else (),
        seen_at=_seconds(record.seen_at),
        live_jobs=live_jobs,
        caps=caps if adapter else None,
        inventory=_dated(record.inventory),
        load=_dated(record.load),
        watched=watched,
    )


def _dated(told: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """With its time as all times are written."""
    return None if told is None else {**told, "as_of": to_rfc3339(told["as_of"])}


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
