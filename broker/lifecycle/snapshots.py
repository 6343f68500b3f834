"""What is known of the backends, between the store's JSON, the adapters' words and the policy's facts."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.base import Adapter, Inventory, Load, NodeShape, ShapeLoad
from api_spec.decisions import Refusal
from api_spec.frozen import changed
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
    facts: BackendFacts  # but for what differs from job to job

    @classmethod
    def of(cls, record: BackendRecord, adapter: Adapter, live_jobs: int, max_live_jobs: int) -> _Known:
        inventory, load = inventory_of(record.inventory), load_of(record.load)
        facts = BackendFacts(
            name=record.name,
            type=adapter.type,
            capabilities=frozenset(adapter.capabilities),
            reachable=record.reachable,
            message=record.message,
            drained=record.drained,
            paused=record.paused,
            shapes=_shapes(inventory, load) if inventory else None,
            features=inventory.features if inventory else frozenset(),
            limits=inventory.limits if inventory else {},
            queued_count=load.queued_count if load else None,
            running_count=load.running_count if load else None,
            assigned_since_snapshot=record.assigned,
            live_jobs=live_jobs,
            max_live_jobs=max_live_jobs,
        )
        return cls(record, inventory, facts)


class Snapshots:
    """The records of the configured backends, read at most every ``CACHE_S`` seconds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._read_at = float("-inf")
        self._known: tuple[_Known, ...] = ()
        self._assigned: dict[str, int] = {}  # here, since the records were read

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
        self._assigned[backend] = self._assigned.get(backend, 0) + 1

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at < CACHE_S:
            return
        store, adapters = self._context.store.backends, self._context.adapters
        settings = self._context.settings
        self._known = tuple(
            _Known.of(
                record,
                adapters[record.name],
                store.live_count(record.name),
                settings.caps_of(record.name).max_live_jobs,
            )
            for record in store.read_many(tuple(adapters))
        )
        self._assigned = {}
        self._read_at = time.monotonic()

    def _backend(self, known: _Known, spec: JobSpec, owner: str, now: float) -> BackendFacts:
        name, read_at = known.record.name, known.record.snapshot_at
        here = self._assigned.get(name, 0)
        return changed(
            known.facts,
            snapshot_age_s=max(0.0, now - read_at / 1000) if read_at else None,
            refusals=tuple(self._context.adapters[name].refusals(spec, known.inventory, owner)),
            assigned_since_snapshot=known.facts.assigned_since_snapshot + here,
            live_jobs=known.facts.live_jobs + here,
        )


def _rejecting(facts: BackendFacts) -> BackendFacts:
    refusal = Refusal(Reason.REJECTED, "has refused this job for good")
    return changed(facts, refusals=(*facts.refusals, refusal))


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
                gpus_by_type=shape.gpus_by_type,
                slices=shape.slices,
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
