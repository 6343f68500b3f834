"""Ended jobs as one packed value each, what is done with them over time, and the dump of a whole store.

The packed form is zlib over JSON; binary parts are base64 inside.  ``PACKED_VERSION`` is in each.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from broker.store.connection import Client
from broker.store.records import AttemptRecord, JobRecord, read_attempt, read_job
from broker.store.scripts import Scripts

PACKED_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One job, all of it, as read from its keys or from its packed form."""

    job_id: str
    raw: Mapping[str, str]
    spec: bytes
    attempts_json: Mapping[int, str]
    decisions: Mapping[int, bytes]
    history: tuple[str, ...]
    tasks: bytes | None

    @property
    def record(self) -> JobRecord:
        return read_job(self.job_id, self.raw)

    @property
    def attempts(self) -> tuple[AttemptRecord, ...]:
        return tuple(read_attempt(self.job_id, n, self.attempts_json[n]) for n in sorted(self.attempts_json))


def pack_parts(parts: Parts) -> bytes:
    document = {
        "v": PACKED_VERSION,
        "job": dict(parts.raw),
        "spec": _b64(parts.spec),
        "attempts": {str(n): text for n, text in parts.attempts_json.items()},
        "decisions": {str(n): _b64(blob) for n, blob in parts.decisions.items()},
        "history": list(parts.history),
        "tasks": _b64(parts.tasks) if parts.tasks else None,
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 6)


def unpack_parts(job_id: str, blob: bytes) -> Parts:
    document = json.loads(zlib.decompress(blob))
    return Parts(
        job_id=job_id,
        raw=document["job"],
        spec=base64.b64decode(document["spec"]),
        attempts_json={int(n): text for n, text in document["attempts"].items()},
        decisions={int(n): base64.b64decode(text) for n, text in document["decisions"].items()},
        history=tuple(document["history"]),
        tasks=base64.b64decode(document["tasks"]) if document["tasks"] else None,
    )


@dataclass(frozen=True)
class Archive:
    client: Client
    scripts: Scripts
    prefix: str

    def ended_before(self, at_ms: int, limit: int) -> list[str]:
        return self._due("ended", at_ms, limit)

    def packed_before(self, at_ms: int, limit: int) -> list[str]:
        return self._due("packs", at_ms, limit)

    def pack(self, parts: Parts) -> str:
        request = {"id": parts.job_id, "version": parts.raw["version"]}
        answer: bytes = self.scripts.run("pack", request, pack_parts(parts))
        return answer.decode()

    def forget(self, parts: Parts, again_at_ms: int) -> str:
        """'ok', or 'pinned' by a live dependant: due again as if it had ended at ``again_at_ms``."""
        request = {"job": {**parts.raw, "id": parts.job_id}, "again_at": again_at_ms}
        answer: bytes = self.scripts.run("forget", request)
        return answer.decode()

    def postpone(self, job_id: str, again_at_ms: int) -> None:
        """One that cannot be forgotten yet must not keep the others from it."""
        self.client.zadd(f"{self.prefix}packs", {job_id: again_at_ms})

    def drop_dangling(self, job_id: str) -> None:
        """Somebody has removed the parts of an ended job by hand; the list entry goes too."""
        self.client.zrem(f"{self.prefix}ended", job_id)
        self.client.zrem(f"{self.prefix}packs", job_id)

    def _due(self, name: str, at_ms: int, limit: int) -> list[str]:
        ids = self.client.zrange(f"{self.prefix}{name}", "-inf", at_ms, byscore=True, offset=0, num=limit)
        return [job_id.decode() for job_id in ids]


def _b64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
