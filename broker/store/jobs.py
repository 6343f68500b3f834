"""The steps of a job's life, each one script, and the reading of what they wrote."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from broker.store.archive import Parts, unpack_parts
from broker.store.changes import Change, Guard, Write
from broker.store.connection import Client
from broker.store.idempotency import TTL_MS, Idempotency
from broker.store.records import AttemptRecord, Edge, JobRecord, read_attempt, read_job, write_value
from broker.store.scripts import Scripts

SEND_WITHIN = 0.5
"""A claim's holder may submit during this share of its lease.  Whoever claims the job next looks for it at
the end of the lease; the rest of it is the time that a request may be on its way and still be found."""


LATE_S = 300.0
"""How long a backend may take to see that what a job there waits for has happened.  Why a job waits may be
told a minute late, and by a busy cluster four."""


class Written(StrEnum):
    """What became of a guarded write."""

    OK = "ok"
    MISSING = "missing"
    STALE = "stale"  # the writer's epoch is over
    CHANGED = "changed"  # somebody else was faster
    FULL = "full"  # the backend has as many live jobs as it may have
    STATE = "state"  # the job is not, or no longer, in a state that allows it
    CANCELLED = "cancelled"  # a cancel came first


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """One job to accept.  ``fields`` are those of ``JobRecord`` that the store does not set itself."""

    id: str
    fields: Mapping[str, Any]
    spec: bytes
    decision: bytes
    queue: str
    deps: tuple[Edge, ...] = ()
    event: str = "{}"


@dataclass(frozen=True)
class AcceptAnswer:
    """``verdict``: ok, replay (``ids`` are the earlier jobs), conflict, changed, or no_such_job (``ids``)."""

    verdict: str
    ids: tuple[str, ...] = ()
    at_ms: int = 0
    waits: tuple[bool, ...] = ()  # of each new job: for a predecessor
    hints: tuple[str, ...] = ()  # to publish; they are marked as outstanding already


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds until its lease is over; ``record.epoch`` is the fencing token."""

    record: JobRecord
    spec: bytes
    attempt: AttemptRecord | None
    send_by: float  # on the local monotonic clock; see ``SEND_WITHIN``


@dataclass(frozen=True, kw_only=True)
class ClaimLimits:
    count: int
    lease_s: float
    per_s: float | None = None  # submits a second


@dataclass(frozen=True)
class Jobs:
    client: Client
    scripts: Scripts
    prefix: str
    hint_ms: int
    retention_ms: int

    # ---- writing -------------------------------------------------------------------------------------

    def accept(
        self,
        new: Sequence[NewJob],
        idempotency: Idempotency | None = None,
        unchanged: tuple[str, int] | None = None,
    ) -> AcceptAnswer:
        """``unchanged``: id and version of another live job; once it has changed, nothing is accepted."""
        request: dict[str, Any] = {"jobs": [_new_to_json(job) for job in new], "hint_ms": self.hint_ms}
        if idempotency:
            request["idempotency"] = {
                "key": idempotency.key,
                "digest": idempotency.digest,
                "ttl_ms": min(TTL_MS, self.retention_ms),
            }
        if unchanged:
            request["unchanged"] = [unchanged[0], str(unchanged[1])]
        blobs = [blob for job in new for blob in (job.spec, job.decision)]
        answer = [_text(part) for part in self.scripts.run("accept", request, *blobs)]
        if answer[0] == "ok":
            waits = tuple(flag == "1" for flag in answer[2 : 2 + len(new)])
            hints = tuple(answer[2 + len(new) :])
            return AcceptAnswer("ok", tuple(job.id for job in new), int(answer[1]), waits, hints)
        return AcceptAnswer(answer[0], tuple(answer[1:]))

    def claim(self, lane: str, backend: str, limits: ClaimLimits) -> list[Claim]:
        """What is due in one queue, projects in turn; each is due again when its lease is over."""
        request: dict[str, Any] = {
            "queue": f"{lane}:{backend}",
            "backend": backend,
            "limit": limits.count,
            "lease_ms": int(limits.lease_s * 1000),
        }
        if lane == "submit" and backend != "-":
            request |= {} if limits.per_s is None else {"per_s": limits.per_s}
        send_by = time.monotonic() + SEND_WITHIN * limits.lease_s
        return [_claim(row, send_by) for row in self.scripts.run("claim", request)]

    def move(self, job_id: str, guard: Guard, change: Change) -> Written:
        return self.move_all((Write(job_id, guard, change),))[0]

    def move_all(self, writes: Sequence[Write]) -> list[Written]:
        """In one step and in this order, each on its own: one that is refused stops none of the others."""
        blobs = [blob for write in writes for blob in write.change.blobs]
        answers = self.scripts.run("move", {"moves": [write.to_json() for write in writes]}, *blobs)
        return [Written(_text(answer)) for answer in answers]

    def end(self, job_id: str, guard: Guard, change: Change) -> Written:
        """``change.set['state']`` is the final state."""
        request = Write(job_id, guard, change).to_json()
        return Written(_text(self.scripts.run("end", request, *change.blobs)))

    def cancel(self, job_id: str, by: str, version: int | None = None) -> str:
        """'ended' (it is over now), 'asked', 'final' (it was over), 'missing' (or packed) or 'changed'."""
        event = '{"reason":"Cancelled","by":' + _quoted(by) + "}"
        request = {"id": job_id, "by": by, "event": event}
        if version is not None:
            request["version"] = str(version)
        return _text(self.scripts.run("cancel", request))

    def release(self, limit: int = 100, native: Collection[str] = ()) -> tuple[int, tuple[str, ...]]:
        """Judge waiting dependants anew: how many were looked at, and the queues that got work.  ``native``:
        the backends that can wait for a predecessor themselves."""
        able = dict.fromkeys(native, True)
        request = {"limit": limit, "native": able, "late_ms": int(LATE_S * 1000)}
        looked_at, *queues = self.scripts.run("release", request)
        return int(looked_at), tuple(_text(queue) for queue in queues)

    # ---- reading -------------------------------------------------------------------------------------

    def read(self, job_id: str) -> JobRecord | None:
        raw = self.client.hgetall(f"{self.prefix}job:{job_id}")
        if raw:
            return read_job(job_id, texts(raw))
        parts = self._packed(job_id)
        return parts.record if parts else None

    def read_many(self, job_ids: Sequence[str]) -> list[JobRecord | None]:
        """Two round trips at most, however many are packed."""
        rows = self._pipelined(("hgetall", f"{self.prefix}job:{job_id}") for job_id in job_ids)
        found = [
            read_job(job_id, texts(raw)) if raw else None for job_id, raw in zip(job_ids, rows, strict=True)
        ]
        missing = [i for i, record in enumerate(found) if record is None]
        blobs = self._pipelined(("hget", f"{self.prefix}packed:{job_ids[i]}", "blob") for i in missing)
        for i, blob in zip(missing, blobs, strict=True):
            found[i] = unpack_parts(job_ids[i], blob).record if blob else None
        return found

    def _pipelined(self, commands: Iterable[tuple[str, ...]]) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for name, *arguments in commands:
            getattr(pipe, name)(*arguments)
        answers: list[Any] = pipe.execute()
        return answers

    def parts(self, job_id: str) -> Parts | None:
        """All that is known of one job, wherever it stands."""
        pipe = self.client.pipeline(transaction=True)
        p = self.prefix
        pipe.hgetall(f"{p}job:{job_id}")
        pipe.get(f"{p}spec:{job_id}")
        pipe.hgetall(f"{p}attempts:{job_id}")
        pipe.hgetall(f"{p}decisions:{job_id}")
        pipe.lrange(f"{p}history:{job_id}", 0, -1)
        pipe.get(f"{p}tasks:{job_id}")
        raw, spec, attempts, decisions, history, tasks = pipe.execute()
        if not raw:
            return self._packed(job_id)
        return Parts(
            raw=texts(raw),
            job_id=job_id,
            spec=spec,
            attempts_json={int(n): _text(text) for n, text in attempts.items()},
            decisions={int(n): blob for n, blob in decisions.items()},
            history=tuple(_text(line) for line in history),
            tasks=tasks,
        )

    def read_with_spec(self, job_id: str) -> tuple[JobRecord, bytes] | None:
        pipe = self.client.pipeline(transaction=True)
        pipe.hgetall(f"{self.prefix}job:{job_id}")
        pipe.get(f"{self.prefix}spec:{job_id}")
        raw, spec = pipe.execute()
        if raw:
            return read_job(job_id, texts(raw)), spec
        parts = self._packed(job_id)
        return (parts.record, parts.spec) if parts else None

    def attempt(self, job_id: str, number: int) -> AttemptRecord | None:
        text = self.client.hget(f"{self.prefix}attempts:{job_id}", str(number))
        return read_attempt(job_id, number, _text(text)) if text else None

    def _packed(self, job_id: str) -> Parts | None:
        blob = self.client.hget(f"{self.prefix}packed:{job_id}", "blob")
        return unpack_parts(job_id, blob) if blob else None


def _new_to_json(job: NewJob) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": job.id,
        "set": {name: write_value(value) for name, value in job.fields.items() if value is not None},
        "queue": job.queue,
        "event": job.event,
    }
    if job.deps:
        out["deps"] = [list(edge) for edge in job.deps]
    return out


def _claim(row: list[Any], send_by: float) -> Claim:
    job_id, flat, spec, attempt = row
    raw = {_text(flat[i]): _text(flat[i + 1]) for i in range(0, len(flat), 2)}
    record = read_job(_text(job_id), raw)
    return Claim(
        record, spec, read_attempt(record.id, record.attempt, _text(attempt)) if attempt else None, send_by
    )


def texts(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in raw.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
