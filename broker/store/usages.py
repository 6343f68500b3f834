"""What became known of an attempt's usage, written into it; after its end, too, until the job is packed."""

from __future__ import annotations

from dataclasses import dataclass

from broker.store.connection import Client
from broker.store.records import AttemptRecord, dump_attempt, read_attempt
from broker.store.scripts import Scripts


@dataclass(frozen=True)
class Usages:
    client: Client
    scripts: Scripts
    prefix: str

    def read(self, job_id: str, number: int) -> tuple[str, AttemptRecord] | None:
        """The attempt as it is written, and as it is; ``None``: there is none, or it is packed."""
        found = self.client.hget(f"{self.prefix}attempts:{job_id}", str(number))
        if not found:
            return None
        text = found.decode()
        return text, read_attempt(job_id, number, text)

    def put(self, job_id: str, was: str, attempt: AttemptRecord) -> bool:
        """False: somebody else has written it meanwhile, and it is to be read anew."""
        request = {"id": job_id, "number": str(attempt.number), "was": was, "now": dump_attempt(attempt)}
        return bool(self.scripts.run("usage", request))
