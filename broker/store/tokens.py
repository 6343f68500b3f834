"""Bearer tokens as records under the digest of their secret; the secret itself is never here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from broker.store.connection import Client
from broker.store.jobs import texts


@dataclass(frozen=True)
class TokenRecords:
    client: Client
    prefix: str

    def put_token(self, digest: str, record: Mapping[str, str]) -> None:
        """``record`` holds at least ``id``; with ``expires_at`` (seconds since the epoch) it expires."""
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(f"{self.prefix}token:{digest}", mapping=dict(record))
        if record.get("expires_at"):
            pipe.expireat(f"{self.prefix}token:{digest}", int(float(record["expires_at"])) + 1)
        pipe.hset(f"{self.prefix}tokens", record["id"], digest)
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
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(f"{self.prefix}token:{digest}")
        pipe.hdel(f"{self.prefix}tokens", token_id)
        pipe.execute()
        return True
