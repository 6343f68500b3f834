"""What is known of the backends, between the store's JSON, the adapters' words and the policy's facts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from adapters.base import Inventory, Load, NodeShape, ShapeLoad
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason
from broker.lifecycle.context import Context
from broker.store.backends import BackendRecord
from policies.facts import BackendFacts, Facts, ShapeFacts

CACHE_S = 0.5  # a snapshot is seconds old anyway


def dump_snapshot(inventory: Inventory, load: Load) -> dict[str, str]:
    return {"inventory": _json(asdict(inventory)), "load": _json(asdict(load))}


def inventory_of(raw: Mapping[str, Any] | None) -> Inventory | None:
    if raw is None:
        return None
    shapes = [NodeShape(**{**shape, "features": frozenset(shape["features"])}) for shape in raw["shapes"]]
    return Inventory(
        as_of=raw["as_of"],
        shapes=tuple(shapes),
        features=frozenset(raw["features"]),
        limits=raw["limits"],
        details=raw.get("details", {}),  # an older release did not write it
    )


def load_of(raw: Mapping[str, Any] | None) -> Load | None:
    if raw is None:
        return None
    return Load(**{**raw, "shapes": tuple(ShapeLoad(**shape) for shape in raw["shapes"])})


@dataclass(frozen=True)
class _Known:
    """One backend, with its JSON read once for all jobs that are decided on it."""

    record: BackendRecord
    inventory: Inventory | None
    load: Load | None
    shapes: tuple[ShapeFacts, ...] | None
    live_jobs: int
    assigned: int
    assigned_here: int = 0  # since the record was read

    @classmethod
    def of(cls, record: BackendRecord, live_jobs: int) -> _Known:
        inventory, load = inventory_of(record.inventory), load_of(record.load)
        shapes = _shapes(inventory, load) if inventory else None
        return cls(record, inventory, load, shapes, live_jobs, record.assigned)


class Snapshots:
    """The records of the configured backends, read at most every ``CACHE_S`` seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._read_at = float("-inf")
        self._known: tuple[_Known, ...] = ()

    def facts(self, spec: JobSpec, owner: str, groups: frozenset[str], excluded: Sequence[str] = ()) -> Facts:
        """``excluded``: backends that have rejected this very job."""
        self._refresh()
        now = self._context.store.now()
        backends = tuple(self._backend(one, spec, owner, now) for one in self._known)
        backends = tuple(_rejecting(one) if one.name in excluded else one for one in backends)
        return Facts(backends=backends, owner=owner, groups=groups, project=spec.project or "", now=now)

    def forget(self) -> None:
        """The next look is at the store."""
        self._read_at = float("-inf")

    def assigned(self, backend: str) -> None:
        """Counted here at once, so that the jobs of one batch do not all go to the place that looked free."""
        self._known = tuple(
            replace(one, assigned=one.assigned + 1, assigned_here=one.assigned_here + 1)
            if one.record.name == backend
            else one
            for one in self._known
        )

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at < CACHE_S:
            return
        store = self._context.store.backends
        records = store.read_many(tuple(self._context.adapters))
        self._known = tuple(_Known.of(record, store.live_count(record.name)) for record in records)
        self._read_at = time.monotonic()

    def _backend(self, known: _Known, spec: JobSpec, owner: str, now: float) -> BackendFacts:
        record, inventory, load = known.record, known.inventory, known.load
        adapter = self._context.adapters[record.name]
        return BackendFacts(
            name=record.name,
            type=adapter.type,
            capabilities=frozenset(adapter.capabilities),
            reachable=record.reachable,
            message=record.message,
            drained=record.drained,
            paused=record.paused,
            shapes=known.shapes,
            features=inventory.features if inventory else frozenset(),
            limits=inventory.limits if inventory else {},
            queued_count=load.queued_count if load else None,
            running_count=load.running_count if load else None,
            snapshot_age_s=max(0.0, now - record.snapshot_at / 1000) if record.snapshot_at else None,
            refusals=tuple(adapter.refusals(spec, inventory, owner)),
            assigned_since_snapshot=known.assigned,
            live_jobs=known.live_jobs + known.assigned_here,
            max_live_jobs=self._context.settings.caps_of(record.name).max_live_jobs,
        )


def _rejecting(facts: BackendFacts) -> BackendFacts:
    refusal = Refusal(Reason.REJECTED, "has refused this job for good")
    return replace(facts, refusals=(*facts.refusals, refusal))


def _shapes(inventory: Inventory, load: Load | None) -> tuple[ShapeFacts, ...]:
    free = {shape.name: shape for shape in load.shapes} if load else {}
    out = []
    for shape in inventory.shapes:
        now = free.get(shape.name)
        out.append(
            ShapeFacts(
                name=shape.name,
                count=shape.count,
                cpus=shape.cpus,
                memory_mib=shape.memory_mib,
                gpus=shape.gpus,
                gpu_type=shape.gpu_type,
                features=shape.features,
                free_nodes=now.free_nodes if now else 0,
                free_cpus=now.free_cpus if now else 0,
                free_memory_mib=now.free_memory_mib if now else 0,
                free_gpus=now.free_gpus if now else 0,
            )
        )
    return tuple(out)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=sorted)
