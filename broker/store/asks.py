"""Questions to the log readers of a backend, and what they answer.

A question waits in a short list until a reader takes it; it holds ids and numbers.  Answers hold what jobs
print, so they are published and never stored: neither the memory nor the files of Redis keep any of it, and
they reach whoever listens in that moment.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from api_spec.errors import StoreUnavailable
from broker.store.alive import Alive
from broker.store.connection import Client
from broker.store.scripts import Scripts

ROLE = "log-reader"  # as ``alive`` knows them; where they are is the backend whose logs they read
MOST_WAITING = 100  # of one backend; whoever asks gives up after seconds, so more would wait in vain
KEPT_MS = 60_000  # longer than anybody waits
SUBSCRIBED_WITHIN_S = 5.0


class NotAsked(Exception):
    """The question was not put: there is no reader, or too many questions wait already (``full``)."""

    def __init__(self, full: bool) -> None:
        super().__init__("too many questions wait" if full else "there is no log reader")
        self.full = full


@dataclass(frozen=True, kw_only=True)
class Question:
    id: str
    backend: str
    body: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Said:
    """A message of a reader: facts as JSON, and bytes of a log as they are."""

    facts: Mapping[str, Any]
    data: bytes = b""

    def dump(self) -> bytes:
        return json.dumps(self.facts, separators=(",", ":")).encode() + b"\n" + self.data

    @classmethod
    def load(cls, message: bytes) -> Said:
        facts, _, data = message.partition(b"\n")
        return cls(facts=json.loads(facts), data=data)


@dataclass
class Listening:
    """To what readers say about one question."""

    channel: Any  # a redis.client.PubSub
    heard: bool = field(default=False, init=False)

    def hear(self, timeout_s: float) -> Said | None:
        """None: nothing was said in this time."""
        give_up_at = time.monotonic() + timeout_s
        while (left := give_up_at - time.monotonic()) > 0:
            message = self.channel.get_message(timeout=left)
            if message and message["type"] == "message":
                self.heard = True
                return Said.load(message["data"])
        return None


@dataclass(frozen=True)
class Asks:
    client: Client
    scripts: Scripts
    alive: Alive
    prefix: str

    @contextmanager
    def asked(self, backend: str, body: Mapping[str, Any]) -> Iterator[Listening]:
        """Listens from before the question is put.  Raises ``NotAsked``.

        A question that nobody took is taken back, so that no reader works for someone who has gone.
        """
        question = uuid.uuid4().hex
        entry = json.dumps({"id": question, "body": body}, separators=(",", ":")).encode()
        with closing(self.client.pubsub()) as channel:
            self._subscribe(channel, question)
            self._put(backend, entry)
            listening = Listening(channel)
            try:
                yield listening
            finally:
                if not listening.heard:
                    self.client.lrem(self._key(backend), 1, entry)

    def _subscribe(self, channel: Any, question: str) -> None:
        """Returns when the server has said so: another connection could be faster."""
        channel.subscribe(self._channel(question))
        give_up_at = time.monotonic() + SUBSCRIBED_WITHIN_S
        while (left := give_up_at - time.monotonic()) > 0:
            message = channel.get_message(timeout=left)
            if message and message["type"] == "subscribe":
                return
        raise StoreUnavailable(f"the store did not open a channel within {SUBSCRIBED_WITHIN_S:g} s")

    def _put(self, backend: str, entry: bytes) -> None:
        limits = {"role": ROLE, "most": MOST_WAITING, "ms": KEPT_MS}
        answer: bytes = self.scripts.run("ask", {"backend": backend, **limits}, entry)
        if answer != b"ok":
            raise NotAsked(full=answer == b"full")

    def take(self, backend: str, wait_s: float) -> Question | None:
        """The question that has waited longest, as soon as there is one; no other reader gets it."""
        taken = self.client.blpop([self._key(backend)], timeout=wait_s)
        if taken is None:
            return None
        entry = json.loads(taken[1])
        return Question(id=entry["id"], backend=backend, body=entry["body"])

    def tell(self, question: Question, said: Said) -> bool:
        """False: nobody listens any more."""
        return bool(self.client.publish(self._channel(question.id), said.dump()))

    def readers(self, backend: str, now_ms: int) -> tuple[str, ...]:
        """Those that are there, as they call themselves (``<host>:<pid>``)."""
        return self.alive.who(ROLE, backend, now_ms)

    def _key(self, backend: str) -> str:
        return f"{self.prefix}asks:{backend}"

    def _channel(self, question: str) -> str:
        return f"{self.prefix}said:{question}"
