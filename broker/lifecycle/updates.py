"""What an update changes of a job, checked against the job as it is.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from api_spec.errors import Conflict, Fault, InvalidSpec
from api_spec.jobs import JobSpec, Service
from api_spec.packing import spec_digest
from api_spec.schemas import dump_spec
from broker.lifecycle.bundle import resolve_update
from broker.store.records import JobRecord


@dataclass(frozen=True, kw_only=True)
class Update:
    """None: as it is."""

    replicas: int | None = None
    spec: JobSpec | None = None
    if_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Updated:
    """``fields`` of the record that change (none: nothing does), and the spec as it is then."""

    fields: Mapping[str, Any]
    spec: JobSpec


FINITE_MAY = ("time_limit", "priority")
SERVICE_MAY_NOT = ("kind", "name", "project", "depends_on", "hold", "labels")


def updated(record: JobRecord, spec: JobSpec, wanted: Update, predecessors: Mapping[str, str]) -> Updated:
    """``predecessors``: the ids of the jobs that this one waits for, by their names.

    Raises ``Conflict`` for what can no longer change, ``InvalidSpec`` for what cannot be.
    """
    asked = spec if wanted.spec is None else _as_stored(wanted.spec, spec, predecessors)
    changed = _changed(spec, asked)
    fields: dict[str, Any] = {}
    if asked != spec:
        fields |= {"revision": record.revision + 1, "digest": spec_digest(asked)[:16]}
    if spec.service is None:
        if wanted.replicas is not None:
            message = f"only an inference job can be scaled; {record.id} is a {record.kind} job"
            raise Conflict(message, faults=[Fault("/replicas", message)])
        allowed = " and ".join(FINITE_MAY)
        _refuse(changed.difference(FINITE_MAY), f"of a {record.kind} job only {allowed} can be changed")
        return Updated(fields=fields, spec=asked)
    _refuse(changed.intersection(SERVICE_MAY_NOT), f"an update cannot change {_in_words(SERVICE_MAY_NOT)}")
    _refuse_to_move(record, asked)
    return Updated(fields=fields | _scaled(record, spec.service, asked.service, wanted.replicas), spec=asked)


def _as_stored(asked: JobSpec, spec: JobSpec, predecessors: Mapping[str, str]) -> JobSpec:
    """As the file was submitted, it may name what is stored by id, and leave the project out."""
    resolved = resolve_update(asked, predecessors)
    if set(resolved.depends_on) == set(spec.depends_on):
        resolved = replace(resolved, depends_on=spec.depends_on)
    return replace(resolved, project=resolved.project or spec.project)


def _changed(spec: JobSpec, asked: JobSpec) -> set[str]:
    if asked == spec:
        return set()
    before, after = dump_spec(spec), dump_spec(asked)
    return {name for name in before | after if before.get(name) != after.get(name)}


def _refuse(names: set[str], message: str) -> None:
    if names:
        raise Conflict(
            message, faults=[Fault(f"/spec/{name}", "cannot be changed") for name in sorted(names)]
        )


def _refuse_to_move(record: JobRecord, asked: JobSpec) -> None:
    if record.backend and asked.placement.backends and record.backend not in asked.placement.backends:
        message = f"the job is at {record.backend}, and an update does not move it; resubmit it"
        raise Conflict(message, faults=[Fault("/spec/placement/backends", message)])


def _in_words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _scaled(
    record: JobRecord, service: Service, asked: Service | None, replicas: int | None
) -> dict[str, Any]:
    served = asked or service
    if replicas is not None and replicas != record.replicas:
        if fault := _cannot_scale(served, replicas):
            raise InvalidSpec(fault, faults=[Fault("/replicas", fault)])
        return {"replicas": replicas}
    if record.replicas is not None and served.replicas != service.replicas:
        within = min(max(record.replicas, served.replicas.min), served.replicas.max)
        return {"replicas": within} if within != record.replicas else {}
    return {}


def _cannot_scale(service: Service, replicas: int) -> str | None:
    if service.scale_on is not None:
        by = service.scale_on.metric
        return f"how many replicas run is scaled by {by}; a new spec can change service.replicas.min and max"
    least, most = service.replicas.min, service.replicas.max
    if replicas > most:
        return f"at most {most} replicas (service.replicas.max); a new spec can allow more"
    if replicas < least:
        return f"at least {least} replicas (service.replicas.min); a new spec can allow fewer"
    return None
