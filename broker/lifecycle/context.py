"""What every verb needs, passed in: store, adapters, policy, settings, and the way to send hints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from adapters.base import Adapter, AttemptRef
from api_spec.errors import NotFound
from api_spec.ids import marker
from broker.blobs import Blobs, Nowhere
from broker.lifecycle.points import point
from broker.settings import Settings
from broker.store import Store
from broker.store.changes import Live
from broker.store.records import AttemptRecord, JobRecord
from policies.policy import Policy

log = logging.getLogger("broker.lifecycle")

UNPLACED = "-"  # the queue of jobs that no backend could take when they were last decided
LONGEST_NAME_SHOWN = 100
SUBMIT, ACT = "submit", "act"  # the lanes


@dataclass(frozen=True, kw_only=True)
class Context:
    """``publish`` sends a hint such as ``drain:hpc``; it may fail or be lost, the sweeper sends it again."""

    store: Store
    adapters: Mapping[str, Adapter]
    policy: Policy
    settings: Settings
    publish: Callable[[str], None]
    holder: str  # this process, for leases
    blobs: Blobs = field(default_factory=Nowhere)
    pass_s: dict[str, float] = field(default_factory=dict)  # of each backend: the last pass took so long

    def hint(self, name: str) -> None:
        """Best effort, and at most one is outstanding."""
        if self.store.leases.hint(name):
            point("hint_marked")
            self.publish(name)
            point("hint_sent")

    def adapter(self, backend: str) -> Adapter:
        if backend not in self.adapters:
            raise self.no_backend(backend)
        return self.adapters[backend]

    def no_backend(self, name: str) -> NotFound:
        known = ", ".join(sorted(self.adapters))
        there_are = f"configured are {known}" if known else "none is configured"
        return NotFound(f"there is no backend {name[:LONGEST_NAME_SHOWN]}; {there_are}")

    def marker(self, job_id: str, number: int) -> str:
        return marker(self.settings.instance, job_id, number)

    def ref(self, job_id: str, live: Live) -> AttemptRef:
        """Of a live attempt, without a look at its job: where it is, and no more."""
        return AttemptRef(
            marker=self.marker(job_id, live.attempt), handle=live.handle, job_id=job_id, number=live.attempt
        )


def not_configured(backend: str) -> str:
    """Of one that was there, and that a store with live jobs still knows."""
    return f"the backend {backend} is not in the configuration"


def ref_of(record: JobRecord, attempt: AttemptRecord) -> AttemptRef:
    """What an adapter gets to know of an attempt."""
    from api_spec.quantities import expand_indices

    return AttemptRef(
        marker=attempt.marker,
        handle=attempt.handle,
        submitted_at=attempt.submitted_at,
        job_id=record.id,
        number=attempt.number,
        project=record.project,
        owner=record.owner,
        kind=record.kind,
        name=record.name,
        digest=record.digest,
        task_indices=expand_indices(attempt.task_indices) if attempt.task_indices else (),
        revision=record.revision,
        replicas=record.replicas,
    )
