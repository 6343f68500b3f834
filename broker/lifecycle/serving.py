"""What a service shows of its replicas, as its backend sees them.  Pure."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from adapters.base import Observation, ServiceObservation
from api_spec.states import AttemptState
from broker.store.changes import Event
from broker.store.records import JobRecord


def between_replicas(observation: Observation) -> Observation:
    """A service that has none for a while runs on, and its numbers say so."""
    return replace(observation, state=AttemptState.RUNNING, reason=None)


def shown(record: JobRecord, service: ServiceObservation) -> tuple[dict[str, Any], Event | None]:
    """What is written, and what is told: that it can be called now, or no longer."""
    ready, said = service.ready > 0, asdict(service)
    changed: Event | None = ("ready" if ready else "not_ready", said) if ready != record.ready else None
    return {"service": said, "ready": True if ready else None}, changed
