"""Logs that go with what wrote them: their ends are kept as blobs, soon after an attempt ended or before.

The same list has the attempts of which a backend that keeps accounts is asked for them (``usage``).

What is to be kept stands in the store, so that a worker that dies leaves it to the next.  A pass only asks
for it: a thousand logs are read in a task of their own, some at a time.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from adapters.base import Adapter, AttemptRef, LogPage, LogQuery, Observation
from adapters.errors import BackendError
from adapters.extras import AccountsRuns, LogEnds, LosesLogs, ReadsLogs
from api_spec.states import AttemptState
from broker.lifecycle import usage
from broker.lifecycle.context import Context, log, ref_of
from broker.lifecycle.log_ends import LIMIT_BYTES, merged, pack, unpack
from broker.store.archive import Parts
from broker.store.changes import Live
from broker.store.keeps import Attempt
from broker.store.records import AttemptRecord, JobRecord

CHUNK = 64
AT_ONCE = 4
"""Attempts of one backend, each of which reads some logs at a time."""
WITHIN_S = 20.0
BEFORE_A_CANCEL_S = 3.0
"""A user waits for it."""
AGAIN_S = 3.0
"""Between two looks at one that is told to go and still writes; it has 30 s unless its job says otherwise."""
LATER_S = 30.0
GIVEN_UP_S = 3600.0
"""After the end of an attempt whose backend does not answer."""
OLD = 2
"""Retentions, after which a blob goes that nobody has dropped; as long as keys of the store live."""


def name_of(job_id: str, number: int) -> str:
    return f"{job_id}.{number}.log"


def is_elsewhere(context: Context, backend: str) -> bool:
    """Its log reader keeps what it alone reads."""
    if not isinstance(context.adapter(backend), LosesLogs):
        return False
    reader = context.settings.log_reader_of(backend)
    return reader is not None and reader != context.settings.worker_name


# ---- asking for it ---------------------------------------------------------------------------------------


def ask(
    context: Context, backend: str, live: Mapping[str, Live], by_job: Mapping[str, Observation | None]
) -> bool:
    """Of a pass, before its ends are written: afterwards nobody would ask.  Whether there is something."""
    adapter = context.adapter(backend)
    if not isinstance(adapter, LosesLogs | AccountsRuns):
        return False
    wanted = [
        (job_id, live[job_id].attempt)
        for job_id, seen in by_job.items()
        if seen is not None and (seen.state is AttemptState.ENDED or seen.logs_leave)
    ]
    in_s = usage.FIRST_S if isinstance(adapter, AccountsRuns) else 0.0
    context.store.keeps.ask(backend, wanted, int((context.store.now() + in_s) * 1000))
    return bool(wanted) and not in_s


def before_it_goes(context: Context, record: JobRecord, attempt: AttemptRecord) -> None:
    """A cancel follows, which waits for this only so long and comes whatever became of it."""
    adapter = context.adapter(attempt.backend)
    if not isinstance(adapter, LosesLogs) or is_elsewhere(context, attempt.backend):
        return
    if attempt.state is AttemptState.WITHDRAWING:
        return
    try:
        _keep(context, adapter, ref_of(record, attempt), BEFORE_A_CANCEL_S)
    except (BackendError, OSError) as error:
        log.warning("the log of %s is not kept before it is cancelled: %s", attempt.marker, error)


# ---- keeping ---------------------------------------------------------------------------------------------


def keep_due(context: Context, backend: str) -> int:
    """How many were looked at.  One worker at a time for a backend, for half a lease at most."""
    leases, holder = context.store.leases, f"{context.holder}:{uuid.uuid4().hex[:8]}"
    leases.hint_taken(f"keep:{backend}")
    if backend not in context.adapters or is_elsewhere(context, backend):
        return 0
    if not leases.take_slot(f"keep:{backend}", holder, 1, context.settings.lease_s + WITHIN_S):
        return 0
    try:
        return _keep_due(context, backend, time.monotonic() + context.settings.lease_s / 2)
    finally:
        leases.leave_slot(f"keep:{backend}", holder)


def _keep_due(context: Context, backend: str, deadline: float) -> int:
    keeps, adapter, done = context.store.keeps, context.adapter(backend), 0
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=f"keep-{backend}") as workers:
        while time.monotonic() < deadline:
            due = keeps.due(backend, int(context.store.now() * 1000), CHUNK)
            if not due:
                break
            if isinstance(adapter, AccountsRuns):
                usage.account(context, adapter, backend, due)
                done += len(due)
                continue
            for _ in workers.map(partial(_keep_one, context, backend), due):
                done += 1
    return done


def _keep_one(context: Context, backend: str, due: Attempt) -> None:
    """What went wrong for one is no reason to leave the others."""
    keeps, parts = context.store.keeps, context.store.jobs.parts(due[0])
    attempt = next((one for one in parts.attempts if one.number == due[1]), None) if parts else None
    adapter = context.adapter(backend)
    if parts is None or attempt is None or not isinstance(adapter, LosesLogs):
        return keeps.done(backend, due)
    try:
        kept = _keep(context, adapter, ref_of(parts.record, attempt), WITHIN_S)
    except (BackendError, OSError) as error:
        return _failed(context, due, parts, attempt, error)
    if kept.again:
        return _later(context, backend, due, AGAIN_S)
    return keeps.done(backend, due)


def _failed(context: Context, due: Attempt, parts: Parts, attempt: AttemptRecord, error: Exception) -> None:
    context.store.count("logs_not_kept")
    if usage.is_late(context, parts, attempt, GIVEN_UP_S):
        log.warning("the log of %s is not kept, for good: %s", attempt.marker, error)
        return context.store.keeps.done(attempt.backend, due)
    log.warning("the log of %s is not kept yet: %s", attempt.marker, error)
    return _later(context, attempt.backend, due, LATER_S)


def _later(context: Context, backend: str, due: Attempt, seconds: float) -> None:
    context.store.keeps.later(backend, due, int((context.store.now() + seconds) * 1000))


def _keep(context: Context, adapter: LosesLogs, ref: AttemptRef, within_s: float) -> LogEnds:
    """Raises ``BackendError`` and ``OSError``."""
    now = adapter.log_ends(ref, LIMIT_BYTES, within_s)
    if not now.ends and not now.missed:
        return now
    blobs, name = context.blobs, name_of(ref.job_id, ref.number)
    with blobs.alone(name):
        blobs.put(name, pack(merged(_read(context, name), now)))
    return now


def _read(context: Context, name: str) -> LogEnds | None:
    """Raises ``OSError``; what cannot be read is written anew."""
    text = context.blobs.get(name)
    try:
        return unpack(text) if text is not None else None
    except ValueError as error:
        log.warning("%s: %s", name, error)
        return None


# ---- reading, and the end of it --------------------------------------------------------------------------


def page(
    context: Context, adapter: Adapter, parts: Parts, attempt: AttemptRecord, query: LogQuery
) -> LogPage:
    """Raises ``BackendError``."""
    ref = ref_of(parts.record, attempt)
    if isinstance(adapter, LosesLogs):
        return adapter.logs_or_kept(ref, query, partial(_kept, context, ref))
    if isinstance(adapter, ReadsLogs):
        return adapter.logs(ref, query)
    raise BackendError(f"the backend {attempt.backend} gives no logs")


def _kept(context: Context, ref: AttemptRef) -> LogEnds | None:
    try:
        return _read(context, name_of(ref.job_id, ref.number))
    except OSError as error:
        raise BackendError(f"what was kept of the log cannot be read: {error.strerror}") from error


def drop(context: Context, job_id: str) -> None:
    """Of a job that is forgotten."""
    try:
        context.blobs.drop(job_id)
    except OSError as error:
        log.warning("what was kept of job %s cannot be removed: %s", job_id, error)


def drop_old(context: Context) -> None:
    """Where another machine has forgotten them, or a worker died in between."""
    try:
        context.blobs.drop_older(OLD * context.settings.retention_s)
    except OSError as error:
        log.warning("old blobs cannot be removed: %s", error)
