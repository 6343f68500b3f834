"""What a job printed, and who can see it: this process, or the log reader that the configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.base import Finding, LogPage, LogQuery
from adapters.errors import BackendError, BadLogQuery
from adapters.errors import LogGone as GoneThere
from adapters.extras import ChecksFiles, ReadsLogs
from api_spec.errors import (
    BackendUnavailable,
    Fault,
    InvalidRequest,
    LogGone,
    LogReaderUnavailable,
    NotFound,
    NotSupported,
)
from api_spec.jobs import JobSpec
from api_spec.packing import unpack_spec
from api_spec.states import FINAL
from broker.access import Principal
from broker.lifecycle import kept_logs
from broker.lifecycle.context import Context, not_configured
from broker.lifecycle.log_relay import LogRelay
from broker.lifecycle.reading import visible
from broker.store.archive import Parts
from broker.store.records import AttemptRecord

READER = "log reader"


def log_page(
    context: Context, relay: LogRelay, job_id: str, who: Principal, query: LogQuery, number: int | None
) -> LogPage:
    """The one call of a backend that the API makes itself, unless a log reader makes it.

    An empty cursor is the start: it is what a page says before there is a log.
    """
    query = replace(query, cursor=query.cursor or None)
    parts = visible(context, job_id, who)
    _refuse_parts_that_it_has_not(unpack_spec(parts.spec), query)
    wanted = number or parts.record.attempt
    attempt = next((one for one in parts.attempts if one.number == wanted), None)
    if attempt is None or attempt.handle is None:
        if number is not None and number > parts.record.attempt:
            raise NotFound(f"job {job_id} has no attempt {number}")
        ended = parts.record.state in FINAL
        note = "the job never reached a backend" if ended else "the job has not reached a backend yet"
        return LogPage(data=b"", cursor="", at_end=True, complete=ended, note=note)
    try:
        return _page(context, relay, parts, attempt, query)
    except BadLogQuery as error:
        raise InvalidRequest(str(error), faults=[Fault(f"?{error.parameter}", str(error))]) from error
    except GoneThere as error:
        raise LogGone(str(error)) from error
    except BackendError as error:
        raise BackendUnavailable(str(error)) from error


def _refuse_parts_that_it_has_not(spec: JobSpec, query: LogQuery) -> None:
    """Another log than the one that was asked for would pass for it."""
    for parameter, value, has in (
        ("task", query.task_index, spec.array is not None),
        ("replica", query.replica, spec.is_service),
    ):
        if value is not None and not has:
            message = f"the job has no {parameter}s; ask for its log without one"
            raise InvalidRequest(message, faults=[Fault(f"?{parameter}", message)])


def _page(
    context: Context, relay: LogRelay, parts: Parts, attempt: AttemptRecord, query: LogQuery
) -> LogPage:
    if attempt.backend not in context.adapters:
        raise BackendError(not_configured(attempt.backend))
    adapter = context.adapter(attempt.backend)
    if not isinstance(adapter, ReadsLogs):
        raise NotSupported(f"the backend {attempt.backend} gives no logs")
    if context.settings.log_reader_of(attempt.backend) is not None:
        return relay.page(parts.job_id, attempt, query)
    return kept_logs.page(context, adapter, parts, attempt, query)


def check(context: Context, relay: LogRelay, backend: str) -> Sequence[Finding]:
    """What this process finds at the backend, and of files what the log reader finds where there is one."""
    adapter = context.adapter(backend)
    found = adapter.check()
    name = context.settings.log_reader_of(backend)
    if name is None:
        return found
    seen_here = adapter.check_files() if isinstance(adapter, ChecksFiles) else ()
    return [*(one for one in found if one not in seen_here), *_by_the_reader(relay, backend, name)]


def _by_the_reader(relay: LogRelay, backend: str, name: str) -> Sequence[Finding]:
    try:
        seen = relay.findings(backend)
    except LogReaderUnavailable as error:
        return (Finding(subject=READER, well=False, message=str(error)),)
    except BackendError as error:
        return (Finding(subject=READER, well=False, message=f"{name} answers: {error}"),)
    there = ", ".join(relay.there(backend))
    return (Finding(subject=READER, well=True, message=f"{name} reads the logs ({there})"), *seen)
