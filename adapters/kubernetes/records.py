"""Pods as the API server shows them, read into what the adapter asks of them.  Pure.

What is missing or odd in an object is ``None`` or empty, never an error: a strange pod must not hide others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapters.kubernetes.names import MAIN, MARKER, REVISION, Manifest, member, rows

INDEX = "batch.kubernetes.io/job-completion-index"
LIVE_PHASES = frozenset({"Pending", "Running", "Unknown"})
LARGE = {
    "metadata": {"managedFields", "ownerReferences"},
    "spec": {"template", "selector"},
    "status": {"uncountedTerminatedPods"},
}
"""Of a root object: what nobody asks of the many that a pass or a watch has."""
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a container ended."""

    exit_code: int
    reason: str | None
    message: str | None
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Why a container has not started."""

    reason: str
    message: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    type: str
    status: str
    reason: str | None
    message: str | None
    since: float | None

    @property
    def holds(self) -> bool:
        return self.status == "True"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pod:
    name: str
    uid: str
    marker: str
    phase: str
    reason: str | None
    message: str | None
    index: int | None
    revision: int | None
    node: str | None
    leaving: bool  # told to go
    created_at: float | None
    conditions: Mapping[str, Condition]
    running_since: float | None
    ended: Ended | None
    waiting: Waiting | None
    restarts: int
    ready: bool

    @property
    def live(self) -> bool:
        """It may have a process, or get one."""
        return self.phase in LIVE_PHASES

    @property
    def started_at(self) -> float | None:
        return self.running_since or (self.ended.started_at if self.ended else None)

    @property
    def has_started(self) -> bool:
        return self.started_at is not None or self.phase in ("Running", "Succeeded")


def pod(found: Manifest) -> Pod:
    status = member(found, "status")
    container = _main(status)
    state = member(container, "state")
    conditions_ = conditions(status)
    ready = conditions_.get("Ready")
    return Pod(
        name=_text(member(found, "metadata", "name")) or "",
        uid=_text(member(found, "metadata", "uid")) or "",
        marker=_text(member(found, "metadata", "labels", MARKER)) or "",
        phase=_text(member(status, "phase")) or "Pending",
        reason=_text(member(status, "reason")),
        message=_text(member(status, "message")),
        index=_number(member(found, "metadata", "annotations", INDEX)),
        revision=_number(member(found, "metadata", "labels", REVISION)),
        node=_text(member(found, "spec", "nodeName")),
        leaving=member(found, "metadata", "deletionTimestamp") is not None,
        created_at=moment(member(found, "metadata", "creationTimestamp")),
        conditions=conditions_,
        running_since=moment(member(state, "running", "startedAt")),
        ended=_ended(member(state, "terminated") or member(container, "lastState", "terminated")),
        waiting=_waiting(member(state, "waiting")),
        restarts=_number(member(container, "restartCount")) or 0,
        ready=ready is not None and ready.holds,
    )


def root(found: Manifest) -> Manifest:
    """The object of an attempt without what is ``LARGE``: thousands of them are kept."""
    kept = {**found}
    for part, large in LARGE.items():
        if isinstance(there := found.get(part), Mapping):
            kept[part] = {key: value for key, value in there.items() if key not in large}
    notes = member(kept, "metadata", "annotations")
    if isinstance(notes, Mapping) and APPLIED in notes:
        kept["metadata"]["annotations"] = {key: one for key, one in notes.items() if key != APPLIED}
    return kept


def conditions(status: Any) -> dict[str, Condition]:
    """Of any object, by type."""
    return {one.type: one for one in _conditions(rows(member(status, "conditions")))}


def _conditions(found: list[Mapping[str, Any]]) -> Iterator[Condition]:
    for row in found:
        yield Condition(
            type=_text(row.get("type")) or "",
            status=_text(row.get("status")) or "Unknown",
            reason=_text(row.get("reason")),
            message=_text(row.get("message")),
            since=moment(row.get("lastTransitionTime")),
        )


def _main(status: Any) -> Mapping[str, Any]:
    named = [one for one in rows(member(status, "containerStatuses")) if one.get("name") == MAIN]
    return named[0] if named else {}


def _ended(found: Any) -> Ended | None:
    code = _number(member(found, "exitCode"))
    if not isinstance(found, Mapping) or code is None:
        return None
    return Ended(
        exit_code=code,
        reason=_text(found.get("reason")),
        message=_text(found.get("message")),
        started_at=moment(found.get("startedAt")),
        ended_at=moment(found.get("finishedAt")),
    )


def _waiting(found: Any) -> Waiting | None:
    if not isinstance(found, Mapping) or not found.get("reason"):
        return None
    return Waiting(reason=str(found["reason"]), message=_text(found.get("message")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def moment(value: Any) -> float | None:
    """Seconds since the epoch; ``None`` for what is no time, such as the year 1 that stands for none."""
    try:
        found = datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found > 0 else None
