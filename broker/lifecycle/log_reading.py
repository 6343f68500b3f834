"""The other end of the relay: what a log reader does with a question.  It runs in a worker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from adapters.base import LogQuery
from adapters.errors import BackendError, BadLogQuery, LogGone
from adapters.extras import ChecksFiles
from broker.lifecycle import kept_logs
from broker.lifecycle.answers import of_findings, of_page, refusal
from broker.lifecycle.context import Context
from broker.store.asks import Said

log = logging.getLogger("broker.lifecycle")


def answer_next(context: Context, backend: str, me: str, wait_s: float) -> bool:
    """Whether there was a question in this time.  One whose asker has gone is not looked into."""
    asks = context.store.asks
    question = asks.take(backend, wait_s)
    if question is None:
        return False
    if asks.tell(question, Said(facts={"taken_by": me})):
        asks.tell(question, _answer(context, backend, question.body))
    return True


def _answer(context: Context, backend: str, body: Mapping[str, Any]) -> Said:
    try:
        return ANSWERS[body["what"]](context, backend, body)
    except BadLogQuery as error:
        return refusal("query", str(error), parameter=error.parameter)
    except LogGone as error:
        return refusal("gone", str(error))
    except BackendError as error:
        return refusal("backend", str(error))
    except Exception:  # the last place that can tell who waits; the reason is the operator's, not the user's
        log.exception("a log of %s could not be read for the API", backend)
        return refusal("reader", f"the log reader of {backend} failed; its own log has the reason")


def _page(context: Context, backend: str, body: Mapping[str, Any]) -> Said:
    """The question names the attempt; what the adapter needs to know of it is in the store."""
    parts = context.store.jobs.parts(body["job"])
    found = (one for one in parts.attempts if one.number == body["attempt"]) if parts else iter(())
    attempt = next(found, None)
    if parts is None or attempt is None or attempt.backend != backend:
        return refusal("backend", f"the job {body['job']} is no longer known; its logs are not to be found")
    query = LogQuery(**body["query"])
    return of_page(kept_logs.page(context, context.adapter(backend), parts, attempt, query))


def _check(context: Context, backend: str, _: Mapping[str, Any]) -> Said:
    adapter = context.adapter(backend)
    return of_findings(adapter.check_files() if isinstance(adapter, ChecksFiles) else ())


ANSWERS: Mapping[str, Callable[[Context, str, Mapping[str, Any]], Said]] = {"page": _page, "check": _check}
