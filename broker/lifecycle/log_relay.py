"""Logs that only a worker can see: the API asks the log reader of the backend, through the store.

Nobody waits long for one who is not there: readers say that they are, and that they have taken a question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.base import Finding, LogPage, LogQuery
from api_spec.errors import LogReaderUnavailable
from api_spec.states import AttemptState
from broker.lifecycle.answers import findings_in, page_in
from broker.lifecycle.context import Context
from broker.lifecycle.shared import Shared
from broker.store.asks import NotAsked, Said
from broker.store.records import AttemptRecord

SHARED_S = 0.25  # as often as a follower looks at its most eager; so many followers cost what one does
THREADS_SHARE = 4  # one in so many threads of the API may wait for a reader; the others answer the rest


@dataclass(frozen=True, kw_only=True)
class Patience:
    taken_s: float = 5.0  # a reader with a free thread takes a question at once
    answered_s: float = 25.0  # less than clients wait for the broker (30 s), so that they hear why
    look_s: float = 1.0  # how often is looked whether the reader still lives


class _Died(Exception):
    """The reader that took the question is gone."""


class LogRelay:
    def __init__(self, context: Context, patience: Patience | None = None) -> None:
        self._context = context
        self._asks = context.store.asks
        self._patience = patience or Patience()
        self._pages: Shared[LogPage] = Shared(SHARED_S)
        self._most = max(1, context.settings.api_threads // THREADS_SHARE)
        self._places = threading.BoundedSemaphore(self._most)

    def page(self, job_id: str, attempt: AttemptRecord, query: LogQuery) -> LogPage:
        """Raises ``LogReaderUnavailable`` with what to do, and what the adapter raised at the reader.

        Requests for the same page share one look.  Not across the end of an attempt: who was told of the
        end sees all that was written before it.
        """
        body = {"what": "page", "job": job_id, "attempt": attempt.number, "query": asdict(query)}
        key = (attempt.marker, attempt.state is AttemptState.ENDED, query)
        return self._pages.get(key, lambda: page_in(self._ask(attempt.backend, body)))

    def findings(self, backend: str) -> Sequence[Finding]:
        """What the reader sees of the files.  Raises as ``page``."""
        return findings_in(self._ask(backend, {"what": "check"}))

    def _ask(self, backend: str, body: Mapping[str, Any]) -> Said:
        if not self._places.acquire(blocking=False):
            raise LogReaderUnavailable(
                f"{self._most} requests wait here for log readers already; {self._reader(backend)} is slow"
            )
        try:
            deadline = time.monotonic() + self._patience.answered_s
            try:
                return self._ask_one(backend, body, deadline)
            except _Died:  # reading twice does no harm, and another may be there
                return self._ask_one(backend, body, deadline)
        except _Died as error:
            raise LogReaderUnavailable(f"the {self._reader(backend)} went away in the middle") from error
        except NotAsked as error:
            raise self._full(backend) if error.full else self._nobody(backend) from error
        finally:
            self._places.release()

    def _ask_one(self, backend: str, body: Mapping[str, Any], deadline: float) -> Said:
        taker: str | None = None
        give_up_at = min(deadline, time.monotonic() + self._patience.taken_s)
        with self._asks.asked(backend, body) as answer:
            while (left := give_up_at - time.monotonic()) > 0:
                said = answer.hear(min(left, self._patience.look_s))
                if said is None:
                    self._look(backend, taker)
                elif "taken_by" in said.facts:
                    taker, give_up_at = said.facts["taken_by"], deadline
                else:
                    return said
        raise self._late(backend, taker)

    def _look(self, backend: str, taker: str | None) -> None:
        """Is it any use to wait on?"""
        there = self.there(backend)
        if taker is not None and taker not in there:
            raise _Died(taker)
        if not there:
            raise self._nobody(backend)

    def there(self, backend: str) -> Sequence[str]:
        """The readers of the backend, as they call themselves."""
        return self._asks.readers(backend, int(self._context.store.now() * 1000))

    def _reader(self, backend: str) -> str:
        return f"log reader {self._context.settings.log_reader_of(backend)}"

    def _nobody(self, backend: str) -> LogReaderUnavailable:
        name = self._context.settings.log_reader_of(backend)
        return LogReaderUnavailable(
            f"the log reader {name} is not there, which alone sees the logs of {backend}; the administrator "
            f"starts it where they are mounted: broker worker --name {name}"
        )

    def _full(self, backend: str) -> LogReaderUnavailable:
        return LogReaderUnavailable(f"the {self._reader(backend)} has too much to read; come back later")

    def _late(self, backend: str, taker: str | None) -> LogReaderUnavailable:
        name, patience = self._reader(backend), self._patience
        if taker is not None:
            return LogReaderUnavailable(
                f"the {name} ({taker}) did not answer within {patience.answered_s:g} s; is the file system "
                "of the logs slow there, or the backend?"
            )
        there = ", ".join(self.there(backend))
        return LogReaderUnavailable(
            f"the {name} ({there}) did not take the request within {patience.taken_s:g} s; it hangs, or has "
            "too much to read"
        )
