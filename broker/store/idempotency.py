"""Idempotency keys: what a request was answered, for a day.

``idempotency:<project>:<submitter>:<owner>:<key>`` holds the digest of the body, the ids of the jobs, whether
each had to wait for another one, when that was, and of each its specification and decision as they were then.
The script that accepts writes it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from broker.store.connection import Client

TTL_MS = 24 * 3600 * 1000  # at most: a key does not outlive its jobs


@dataclass(frozen=True)
class Idempotency:
    key: str
    digest: str  # of the body


@dataclass(frozen=True)
class Remembered:
    """What was accepted under a key."""

    digest: str
    ids: tuple[str, ...]
    waits: tuple[bool, ...]  # each: for a predecessor
    at_ms: int
    specs: tuple[bytes, ...]  # packed
    decisions: tuple[bytes, ...]  # packed


@dataclass(frozen=True)
class IdempotencyKeys:
    client: Client
    prefix: str

    def read(self, key: str) -> Remembered | None:
        raw = self.client.hgetall(f"{self.prefix}idempotency:{key}")
        if not raw:
            return None
        return _read(raw)

    def documents(self) -> Iterator[dict[str, Any]]:
        """All of them, for an export; they stand in no index, so every key of the server is looked at."""
        start = f"{self.prefix}idempotency:"
        for name in self.client.scan_iter(match=f"{start}*", count=1000):
            raw, expires_at = self.client.hgetall(name), self.client.pexpiretime(name)
            if raw:  # else it has expired meanwhile
                fields = {field.decode(): base64.b64encode(value).decode() for field, value in raw.items()}
                yield {
                    "key": name.decode().removeprefix(start),
                    "expires_at_ms": expires_at,
                    "fields": fields,
                }

    def restore(self, document: Mapping[str, Any]) -> None:
        """One that is there already stays as it is."""
        name = f"{self.prefix}idempotency:{document['key']}"
        fields = {field: base64.b64decode(text) for field, text in dict(document["fields"]).items()}
        _read({field.encode(): value for field, value in fields.items()})  # or a later request would fail
        if self.client.exists(name):
            return
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(name, mapping=fields)
        pipe.pexpireat(name, int(document["expires_at_ms"]))
        pipe.execute()


def _read(raw: Mapping[bytes, bytes]) -> Remembered:
    """Raises ``KeyError`` and ``ValueError`` for what is none."""
    ids = raw[b"ids"].split()
    return Remembered(
        digest=raw[b"digest"].decode(),
        ids=tuple(job_id.decode() for job_id in ids),
        waits=tuple(flag == b"1" for flag in raw[b"waits"].split()),
        at_ms=int(raw[b"at"]),
        specs=tuple(raw[b"spec:" + job_id] for job_id in ids),
        decisions=tuple(raw[b"decision:" + job_id] for job_id in ids),
    )
