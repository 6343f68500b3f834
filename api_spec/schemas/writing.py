"""Views as they go over the wire.  Plain code, because every answer runs it; ``views`` has the schemas of it.

Every member is always there, as ``null`` where nothing is known, but for a spec, which is in canonical form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from api_spec.decisions import Decision, Refusal, Verdict
from api_spec.schemas.canonical import Document, dump_spec
from api_spec.times import to_rfc3339
from api_spec.views import (
    Accepted,
    AttemptView,
    BackendView,
    EventView,
    JobSummary,
    JobView,
    Page,
    ServiceView,
    TaskCancel,
    TaskView,
    UsageView,
)

T = TypeVar("T")


def dump_job(job: JobView, spec: Document | None = None) -> Document:
    """``spec``: what ``dump_spec`` wrote, where somebody has it already."""
    return {
        "id": job.id,
        "version": job.version,
        "spec": dump_spec(job.spec) if spec is None else spec,
        "project": job.project,
        "owner": job.owner,
        "submitter": job.submitter,
        "state": job.state.value,
        "reason": job.reason and job.reason.value,
        "message": job.message,
        "backend": job.backend,
        "attempt": job.attempt,
        "created_at": to_rfc3339(job.created_at),
        "updated_at": to_rfc3339(job.updated_at),
        "started_at": _time(job.started_at),
        "ended_at": _time(job.ended_at),
        "exit_code": job.exit_code,
        "signal": job.signal,
        "ended_by": job.ended_by,
        "cancel_requested": job.cancel_requested,
        "held": job.held,
        "revision": job.revision,
        "replicas_wanted": job.replicas_wanted,
        "service": job.service and dump_service(job.service),
        "tasks": dict(job.tasks),
        "observed_at": _time(job.observed_at),
        "backend_reachable": job.backend_reachable,
        "recovered": job.recovered,
        "resubmit_of": job.resubmit_of,
    }


def dump_service(service: ServiceView) -> Document:
    return {
        "endpoint": service.endpoint,
        "wanted": service.wanted,
        "updated": service.updated,
        "ready": service.ready,
        "revision": service.revision,
        "message": service.message,
    }


def dump_summary(job: JobSummary) -> Document:
    return {
        "id": job.id,
        "kind": job.kind.value,
        "name": job.name,
        "project": job.project,
        "owner": job.owner,
        "state": job.state.value,
        "reason": job.reason and job.reason.value,
        "backend": job.backend,
        "labels": dict(job.labels),
        "created_at": to_rfc3339(job.created_at),
        "ended_at": _time(job.ended_at),
        "message": job.message,
        "service": job.service and dump_service(job.service),
    }


def dump_attempt(attempt: AttemptView) -> Document:
    return {
        "number": attempt.number,
        "marker": attempt.marker,
        "backend": attempt.backend,
        "state": attempt.state.value,
        "outcome": attempt.outcome and attempt.outcome.value,
        "reason": attempt.reason and attempt.reason.value,
        "message": attempt.message,
        "native_id": attempt.native_id,
        "native_state": attempt.native_state,
        "native_reason": attempt.native_reason,
        "restarts": attempt.restarts,
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "submitted_at": _time(attempt.submitted_at),
        "started_at": _time(attempt.started_at),
        "ended_at": _time(attempt.ended_at),
        "nodes": list(attempt.nodes),
        "inputs": dict(attempt.inputs),
        "outputs": dict(attempt.outputs),
        "task_indices": attempt.task_indices,
    }


def dump_usage(usage: UsageView) -> Document:
    return {"attempt": usage.attempt, "backend": usage.backend, **asdict(usage)}


def dump_task(task: TaskView) -> Document:
    return {
        "index": task.index,
        "state": task.state.value,
        "attempt": task.attempt,
        "reason": task.reason and task.reason.value,
        "exit_code": task.exit_code,
        "signal": task.signal,
        "started_at": _time(task.started_at),
        "ended_at": _time(task.ended_at),
        "cancel_requested": task.cancel_requested,
        "cancelled_by": task.cancelled_by,
    }


def dump_task_cancel(done: TaskCancel) -> Document:
    return {"requested": done.requested, "ended_before": done.ended_before}


def dump_event(event: EventView) -> Document:
    return {
        "id": event.id,
        "at": to_rfc3339(event.at),
        "type": event.type,
        "job": event.job,
        "data": dict(event.data),
    }


def dump_backend(backend: BackendView) -> Document:
    return {
        "name": backend.name,
        "type": backend.type,
        "reachable": backend.reachable,
        "message": backend.message,
        "drained": backend.drained,
        "paused": backend.paused,
        "configured": backend.configured,
        "capabilities": list(backend.capabilities),
        "seen_at": _time(backend.seen_at),
        "watched": backend.watched,
        "live_jobs": backend.live_jobs,
        "caps": backend.caps and asdict(backend.caps),
        "inventory": backend.inventory and dict(backend.inventory),
        "load": backend.load and dict(backend.load),
    }


def dump_decision(decision: Decision) -> Document:
    return {
        "outcome": decision.outcome.value,
        "chosen": decision.chosen,
        "summary": decision.summary,
        "verdicts": [dump_verdict(verdict) for verdict in decision.verdicts],
        "binding": decision.binding,
        "policy": decision.policy,
        "policy_digest": decision.policy_digest,
        "decided_at": to_rfc3339(decision.decided_at),
        "attempt": decision.attempt,
        "warnings": list(decision.warnings),
        "options": dict(decision.options),
    }


def dump_verdict(verdict: Verdict) -> Document:
    return {
        "backend": verdict.backend,
        "type": verdict.type,
        "eligible": verdict.eligible,
        "refusals": [dump_refusal(refusal) for refusal in verdict.refusals],
        "score": verdict.score,
        "parts": [
            {"rule": part.rule, "points": part.points, "message": part.message} for part in verdict.parts
        ],
        "snapshot_age_s": verdict.snapshot_age_s,
    }


def dump_refusal(refusal: Refusal) -> Document:
    return {"code": refusal.code.value, "message": refusal.message, "field": refusal.field}


def dump_accepted(accepted: Accepted) -> list[Document]:
    """One document for each job."""
    documents = accepted.documents or (None,) * len(accepted.jobs)
    each = zip(accepted.jobs, documents, accepted.decisions, strict=True)
    return [{"job": dump_job(job, spec), "decision": dump_decision(decision)} for job, spec, decision in each]


def dump_page(page: Page[T], dump: Callable[[T], Document]) -> Document:
    return {"items": [dump(item) for item in page.items], "next": page.next}


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else to_rfc3339(seconds)
