"""What a guarded write may say: who writes (``Guard``) and what changes (``Change``).  Plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from api_spec.encoding import encode_text
from api_spec.states import JobState
from broker.store.records import After, AttemptRecord, dump_attempt, write_value

Event = tuple[str, Mapping[str, Any]]  # (type, data)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The write is refused unless all that is set still holds when it arrives."""

    epoch: int | None = None  # of the claim: somebody else has claimed the job since
    version: int | None = None  # of the record that was read
    states: tuple[JobState, ...] = ()
    lease: tuple[str, int] | None = None  # name and epoch of the lease that the writer holds
    below: tuple[str, int] | None = None  # a backend, and how many live jobs it may have
    live: tuple[str, str] | None = None  # a backend, and the job's entry there, as ``Live.dump`` wrote it
    after: tuple[After, ...] = ()  # each predecessor is at its backend with this attempt, and wanted

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {}
        if self.epoch is not None:
            out["epoch"] = str(self.epoch)
        if self.version is not None:
            out["version"] = str(self.version)
        if self.states:
            out["states"] = list(self.states)
        if self.lease is not None:
            out["lease"] = [self.lease[0], str(self.lease[1])]
        if self.below is not None:
            out["below"] = list(self.below)
        if self.live is not None:
            out["live"] = list(self.live)
        if self.after:
            out["after"] = [[job_id, str(number)] for job_id, _, number in self.after]
        return out


@dataclass(frozen=True, kw_only=True)
class Live:
    """One value of ``live:<backend>``: what an observer needs to ask, and what it saw last."""

    attempt: int
    handle: Mapping[str, Any] | None = None
    fingerprint: str = ""

    def dump(self) -> str:
        return encode_text([self.attempt, self.fingerprint, self.handle])

    @classmethod
    def load(cls, text: str) -> Live:
        attempt, fingerprint, handle = json.loads(text)
        return cls(attempt=attempt, fingerprint=fingerprint, handle=handle)


@dataclass(frozen=True, kw_only=True)
class Change:
    """``set`` holds fields of ``JobRecord``; a value of None removes the field."""

    set: Mapping[str, Any] = field(default_factory=dict)
    attempt: AttemptRecord | None = None
    decision: tuple[int, bytes] | None = None  # number of the attempt, packed
    spec: bytes | None = None
    tasks: bytes | None = None
    live: tuple[str, Live] | None = None  # backend
    not_live: str | None = None  # backend
    assigned: str | None = None  # a backend: one more placement since its snapshot
    due: tuple[str, float] | None = None  # queue, seconds from now
    unless_cancelled: bool = False  # ``due`` is for a job that is wanted: a cancel makes it due at once
    unless_tasks_cancelled: bool = False  # the same of a cancel of single tasks
    no_due: bool = False
    events: tuple[Event, ...] = ()
    keeps_claim: bool = False  # the writer goes on with the job; otherwise the claim ends with the write
    no_progress: bool = False  # the claim goes on counting as a try
    quiet: bool = False  # only due times or live entries change: the version stays
    wake: bool = False  # dependants, because something that they may wait for has happened
    look_again: bool = False  # at this job as a dependant, because its backend has it now
    judged: bool = False  # nothing came of a wait for others: they say what becomes of the job

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "set": {name: write_value(value) for name, value in self.set.items() if value is not None},
            "del": [name for name, value in self.set.items() if value is None],
            "events": [[kind, encode_text(dict(data))] for kind, data in self.events],
        }
        if self.attempt:
            out["attempt"] = [str(self.attempt.number), dump_attempt(self.attempt)]
        if self.decision:
            out["decision"] = str(self.decision[0])
        if self.live:
            out["live"] = [self.live[0], self.live[1].dump()]
        if self.due:
            out["due"] = [self.due[0], int(self.due[1] * 1000)]
        flags = {
            "spec": self.spec is not None,
            "tasks": self.tasks is not None,
            "not_live": self.not_live,
            "assigned": self.assigned,
            "unless_cancelled": self.unless_cancelled,
            "unless_tasks_cancelled": self.unless_tasks_cancelled,
            "no_due": self.no_due,
            "keeps_claim": self.keeps_claim,
            "no_progress": self.no_progress,
            "quiet": self.quiet,
            "wake": self.wake,
            "look_again": self.look_again,
            "judged": self.judged,
        }
        return {**out, **{name: flag for name, flag in flags.items() if flag}}

    @property
    def blobs(self) -> tuple[bytes, bytes, bytes]:
        return (self.decision[1] if self.decision else b"", self.spec or b"", self.tasks or b"")


class Write(NamedTuple):
    """One guarded write."""

    job_id: str
    guard: Guard
    change: Change

    def to_json(self) -> dict[str, Any]:
        return {"id": self.job_id, "guard": self.guard.to_json(), "change": self.change.to_json()}
