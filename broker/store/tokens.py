"""Bearer tokens as records under the digest of their secret; the secret itself is never here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.store.connection import Client
from broker.store.events import Events
from broker.store.jobs import texts

WHOSE = ("id", "subject", "owner", "project")


@dataclass(frozen=True)
class TokenRecords:
    client: Client
    prefix: str
    events: Events

    def put_token(self, digest: str, record: Mapping[str, str]) -> None:
        """``record`` holds at least ``id``; with ``expires_at`` (seconds since the epoch) it expires.

        Operators are told, also of one that an import brings.
        """
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(f"{self.prefix}token:{digest}", mapping=dict(record))
        if record.get("expires_at"):
            pipe.expireat(f"{self.prefix}token:{digest}", int(float(record["expires_at"])) + 1)
        pipe.hset(f"{self.prefix}tokens", record["id"], digest)
        self.events.tell_operator("token_created", record, pipe)
        pipe.execute()

    def get_token(self, digest: str) -> Mapping[str, str] | None:
        raw = self.client.hgetall(f"{self.prefix}token:{digest}")
        return texts(raw) if raw else None

    def list_tokens(self) -> list[Mapping[str, str]]:
        """Those that have expired are struck off the list on the way."""
        out: list[Mapping[str, str]] = []
        for token_id, digest in self.client.hgetall(f"{self.prefix}tokens").items():
            record = self.get_token(digest.decode())
            if record is None:
                self.client.hdel(f"{self.prefix}tokens", token_id)
            else:
                out.append(record)
        return out

    def digest_of(self, token_id: str) -> str | None:
        digest = self.client.hget(f"{self.prefix}tokens", token_id)
        return digest.decode() if digest else None

    def delete_token(self, token_id: str) -> bool:
        digest = self.digest_of(token_id)
        if digest is None:
            return False
        record = self.get_token(digest) or {"id": token_id}  # it may have expired in this moment
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(f"{self.prefix}token:{digest}")
        pipe.hdel(f"{self.prefix}tokens", token_id)
        whose = {name: record[name] for name in WHOSE if name in record}
        self.events.tell_operator("token_revoked", whose, pipe)
        pipe.execute()
        return True
