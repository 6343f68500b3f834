"""Reading: everything about jobs and backends, from the store alone.  The one exception is in ``logs``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from api_spec.decisions import Decision, Refusal
from api_spec.errors import Conflict, NotFound, bad_cursor
from api_spec.packing import unpack_spec
from api_spec.reasons import SENTENCES, Reason
from api_spec.states import FINAL, JobState
from api_spec.views import AttemptView, BackendView, JobQuery, JobSummary, JobView, Page, TaskView
from broker.access import Principal, Scope, must_see
from broker.lifecycle import arrays, native, tasks
from broker.lifecycle.context import Context, not_configured
from broker.lifecycle.views import attempt_view, backend_view, job_summary, job_view, task_view
from broker.lifecycle.watch import watched
from broker.store.archive import Parts
from broker.store.backends import BackendRecord
from policies.records import unpack


def visible(context: Context, job_id: str, who: Principal) -> Parts:
    """Raises ``NotFound`` for a job of another project as for one that does not exist."""
    parts = context.store.jobs.parts(job_id)
    if parts is None:
        raise NotFound(f"there is no job {job_id}")
    must_see(who, job_id, parts.raw["project"])
    return parts


def get(context: Context, job_id: str, who: Principal) -> JobView:
    found = context.store.jobs.read_with_spec(job_id)
    if found is None:
        raise NotFound(f"there is no job {job_id}")
    record, spec = found
    must_see(who, job_id, record.project)
    return job_view(record, unpack_spec(spec), _known_of(context, record.backend))


def _known_of(context: Context, backend: str | None) -> BackendRecord | None:
    """One that was taken out of the configuration is not asked any more: its jobs are as last seen."""
    if backend is None:
        return None
    known = context.store.backends.read(backend)
    if backend in context.adapters:
        return known
    return replace(known, reachable=False, message=not_configured(backend))


def list_jobs(context: Context, query: JobQuery, who: Principal) -> Page[JobSummary]:
    who.need(Scope.JOBS_READ)
    if query.project != who.project:
        raise NotFound(f"there is no project {query.project}")
    page = context.store.index.list_jobs(query)
    silent = context.store.backends.silent()
    gone = {record.backend for record in page.items if record.backend} - context.adapters.keys()
    silent |= {name: not_configured(name) for name in gone}
    return Page(tuple(job_summary(record, silent) for record in page.items), page.next)


def attempts(context: Context, job_id: str, who: Principal) -> tuple[AttemptView, ...]:
    return tuple(attempt_view(attempt) for attempt in visible(context, job_id, who).attempts)


def decisions(context: Context, job_id: str, who: Principal) -> tuple[Decision, ...]:
    """Oldest first: the provisional one of accept, then the binding ones of the attempts."""
    packed = visible(context, job_id, who).decisions
    return tuple(unpack(packed[number]) for number in sorted(packed))


def task_page(
    context: Context, job_id: str, who: Principal, cursor: str | None, limit: int
) -> Page[TaskView]:
    parts = visible(context, job_id, who)
    spec = unpack_spec(parts.spec)
    table = tasks.table_of(spec, parts.tasks)
    if table is None:
        raise Conflict(f"job {job_id} is not an array job")
    after = -1
    if cursor is not None:
        if not cursor.isdecimal():
            raise bad_cursor()
        after = int(cursor)
    record = parts.record
    if record.state in (JobState.FAILED, JobState.CANCELLED):  # perhaps before any task was seen
        table = arrays.closed(table, record.state, record.reason or Reason.LOST)
    rows = [table[index] for index in sorted(table) if index > after]
    asked = record.unwanted
    items = tuple(task_view(row, record, asked.get(row.index)) for row in rows[:limit])
    return Page(items, str(items[-1].index) if len(rows) > limit else None)


def pending(context: Context, job_id: str, who: Principal) -> tuple[Refusal, ...]:
    """Why it is not running, the best reason first; empty for a job that runs or has ended."""
    parts = visible(context, job_id, who)
    record = parts.record
    if record.state in FINAL or record.state is JobState.RUNNING:
        return ()
    if record.waits and not record.held:
        told = [Refusal(Reason.DEPENDENCY_NOT_MET, native.waits_for(record, parts.attempts))]
        return (*told, *_silence_of(context, record.backend))
    told = [*_silence_of(context, record.backend)]
    reason = record.reason or Reason.STARTING
    if not told or reason is not Reason.BACKEND_DOWN:
        told.append(Refusal(reason, record.message or SENTENCES[reason]))
    return tuple(told)


def _silence_of(context: Context, backend: str | None) -> Iterator[Refusal]:
    known = _known_of(context, backend)
    if known is not None and known.reachable is False:
        yield Refusal(Reason.BACKEND_DOWN, known.message or SENTENCES[Reason.BACKEND_DOWN])


def backends(context: Context, who: Principal) -> tuple[BackendView, ...]:
    """Every configured one, and those taken out of the configuration that still hold live jobs."""
    who.need(Scope.JOBS_READ)
    store, caps_of = context.store.backends, context.settings.caps_of
    names = tuple(sorted({*context.adapters, *store.names()}))
    can, now = watched(context), context.store.now()
    views = (
        backend_view(
            record,
            context.adapters.get(record.name),
            live_jobs=store.live_count(record.name),
            caps=caps_of(record.name),
            watched=record.is_watched(now) if record.name in can else None,
        )
        for record in store.read_many(names)
    )
    return tuple(view for view in views if view.configured or view.live_jobs)


def backend(context: Context, name: str, who: Principal) -> BackendView:
    found = next((view for view in backends(context, who) if view.name == name), None)
    if found is None:
        raise context.no_backend(name)
    return found
