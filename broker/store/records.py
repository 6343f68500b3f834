"""A job and its attempts as they stand in Redis.  Every value there is a string; here they have types.

Records carry ``v``.  ``UPGRADES`` holds one pure function a version, applied when a record is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from api_spec.encoding import encode_text
from api_spec.frozen import quick
from api_spec.ids import marker, parse_marker
from api_spec.jobs import Kind
from api_spec.quantities import expand_indices
from api_spec.reasons import Reason
from api_spec.states import FINAL, AttemptState, JobState

VERSION = 1
UPGRADES: dict[int, Callable[[dict[str, str]], dict[str, str]]] = {}

HOLD, UPDATE, TASKS = "hold", "update", "tasks"  # held or released; replicas or spec; tasks to cancel

Edge = tuple[str, str]  # (id of the predecessor, when)
After = tuple[str, str, int]  # the same, and the attempt of the predecessor that a backend waits for itself


@quick
@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """The hash ``job:<id>``.  Times in milliseconds."""

    id: str
    version: int
    epoch: int
    kind: Kind
    name: str
    project: str
    owner: str
    state: JobState
    created: int
    updated: int
    submitter: str | None = None  # None: the owner
    digest: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    reason: Reason | None = None
    message: str | None = None
    started: int | None = None
    ended: int | None = None
    backend: str | None = None
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    ended_by: str | None = None
    cancel: str | None = None  # who asked
    held: bool = False
    cancel_tasks: Mapping[str, str] = field(default_factory=dict)  # who asked -> which tasks of an array
    act: tuple[str, ...] = ()  # what is still to be carried out at the backend: HOLD, UPDATE, TASKS
    before: str | None = None  # what the backend has while an UPDATE is: lifecycle.refusals
    waits: bool = False  # for a predecessor
    deps: tuple[Edge, ...] = ()
    natively: bool = False  # a backend that has its predecessors may be asked to wait for them itself
    withdrawn: int = 0  # attempts that a backend held back for a predecessor, and that came to nothing
    ready: bool = False
    revision: int = 1
    replicas: int | None = None
    service: Mapping[str, Any] | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)
    tries: int = 0  # claims since somebody last wrote
    patience: int = 0  # how often no backend was found in a row
    next_tasks: str | None = None  # array jobs: what the next attempt runs; None: all
    reroutes: int = 0
    excluded: tuple[str, ...] = ()  # backends that rejected it
    groups: tuple[str, ...] = ()  # of the owner's token, for the policy
    lease: int = 0
    queue: str | None = None
    next_queue: str | None = None
    recovered: bool = False
    resubmit_of: str | None = None

    @property
    def ended_for_good(self) -> bool:
        return self.state in FINAL

    @property
    def unwanted(self) -> dict[int, str]:
        """The tasks that somebody has asked the end of, and who."""
        return {index: who for who, text in self.cancel_tasks.items() for index in expand_indices(text)}


@quick
@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """One value of ``attempts:<id>``.  Times in seconds on the clock they came from."""

    number: int
    marker: str
    backend: str
    state: AttemptState
    submitted_at: float  # the last time a submit was about to be called; Redis' clock
    sent: bool = True  # False: proven that the backend has not acted
    sent_by: float | None = None  # when the last call of submit had surely been made; None: not known
    again: bool = False  # sent once more after nobody knew: a late copy may turn up
    after: tuple[After, ...] = ()  # what the backend itself waits for before it starts this one
    outcome: JobState | None = None
    reason: Reason | None = None
    message: str | None = None
    handle: Mapping[str, Any] | None = None
    native_state: str | None = None
    native_reason: str | None = None
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    nodes: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    task_indices: str | None = None  # None: it is no array
    usage: Mapping[str, float] = field(default_factory=dict)  # what is known of its RunUsage


def _json(text: str) -> Any:
    return json.loads(text)


def _edges(text: str) -> tuple[Edge, ...]:
    return tuple((edge[0], edge[1]) for edge in json.loads(text))


# How each field that is not plain text is read.
READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(["version", "epoch", "created", "updated", "started", "ended", "attempt"], int),
    **dict.fromkeys(["exit_code", "signal", "revision", "replicas", "tries", "patience", "reroutes"], int),
    **dict.fromkeys(["lease", "withdrawn"], int),
    **dict.fromkeys(["held", "waits", "natively", "ready", "recovered"], lambda text: text == "1"),
    **dict.fromkeys(["labels", "service", "tasks", "cancel_tasks"], _json),
    "kind": Kind,
    "state": JobState,
    "reason": Reason,
    "deps": _edges,
    **dict.fromkeys(["act", "excluded", "groups"], lambda text: tuple(text.split())),
}
KNOWN = {f.name for f in fields(JobRecord)}
_WRITTEN = {"instance", *(f.name for f in fields(AttemptRecord))}
ATTEMPT_DEFAULTS = {f.name: f.default for f in fields(AttemptRecord) if f.name not in ("number", "marker")}


def read_job(job_id: str, raw: Mapping[str, str]) -> JobRecord:
    """Fields that this release does not know (written by a newer one) are left alone."""
    current = dict(raw)
    for version in range(int(current.get("v", VERSION)), VERSION):
        current = UPGRADES[version](current)
    known = {name: READ.get(name, str)(text) for name, text in current.items() if name in KNOWN}
    return JobRecord(**{**known, "id": job_id})


def write_value(value: Any) -> str:
    """The inverse of ``READ``."""
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, Mapping):
        return encode_text(dict(value))
    if isinstance(value, tuple):
        return " ".join(value)
    return str(value)


def dump_attempt(attempt: AttemptRecord) -> str:
    """Compact JSON without what stands at its default (a plain falsy test would drop exit code 0)."""
    named = parse_marker(attempt.marker)
    if named is None:
        raise ValueError(f"{attempt.marker} is no marker")
    short = {
        name: value
        for name, default in ATTEMPT_DEFAULTS.items()
        if (value := getattr(attempt, name)) is not default and value not in ({}, ())
    }
    short["instance"] = named.instance
    return encode_text(short)


def read_attempt(job_id: str, number: int, text: str) -> AttemptRecord:
    """The number is not in the text, it is the name of the field; of the marker only the instance is.  What
    a newer release wrote beside it is left alone."""
    raw = {name: value for name, value in json.loads(text).items() if name in _WRITTEN}
    raw["number"] = number
    raw["marker"] = marker(raw.pop("instance"), job_id, number)
    raw["state"] = AttemptState(raw["state"])
    raw["nodes"] = tuple(raw.get("nodes", ()))
    raw["after"] = tuple((edge[0], edge[1], edge[2]) for edge in raw.get("after", ()))
    if "outcome" in raw:
        raw["outcome"] = JobState(raw["outcome"])
    if "reason" in raw:
        raw["reason"] = Reason(raw["reason"])
    raw.setdefault("submitted_at", 0.0)
    return AttemptRecord(**raw)
