"""What attempts have used: peaks while they run, where a backend measures, and accounts of ended ones.

It stands in the attempt, so that reading it calls no backend.  What nobody has measured is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from adapters.base import AttemptRef
from adapters.errors import BackendError
from adapters.extras import AccountsRuns, MeasuresRuns
from api_spec.jobs import JobSpec
from api_spec.packing import unpack_spec
from api_spec.usage import RunUsage
from api_spec.views import UsageView
from broker.lifecycle.context import Context, log, ref_of
from broker.store.archive import Parts
from broker.store.keeps import Attempt
from broker.store.records import AttemptRecord

RISEN = 1.05
"""A peak is written when it is so much higher: each write goes to Redis' disk."""
FIRST_S = 3.0
"""After an end; the accounts have it a second or two later."""
LATER_S = 15.0
GIVEN_UP_S = 600.0

Peaks = tuple[float, float]  # CPUs, MiB


# ---- while it runs ---------------------------------------------------------------------------------------


def measure(context: Context, backend: str) -> int:
    """How many peaks have risen.  A backend that measures nothing now has not failed."""
    adapter = context.adapter(backend)
    if not isinstance(adapter, MeasuresRuns):
        return 0
    live = {job_id: one for job_id, one in context.store.backends.live(backend).items() if one.handle}
    refs = {job_id: context.ref(job_id, one) for job_id, one in live.items()}
    try:
        seen = adapter.measure(list(refs.values())) if refs else {}
    except BackendError as error:
        log.info("%s measures nothing: %s", backend, error)
        return 0
    return sum(_risen(context, ref, seen[ref.marker]) for ref in refs.values() if ref.marker in seen)


def _risen(context: Context, ref: AttemptRef, now: RunUsage) -> bool:
    usages = context.store.usages
    if (found := usages.read(ref.job_id, ref.number)) is None:
        return False
    was, attempt = found
    before, peaks = _peaks(attempt.usage), _peaks(asdict(now))
    if all(new <= RISEN * old for new, old in zip(peaks, before, strict=True)):
        return False
    highest = [max(pair) for pair in zip(peaks, before, strict=True)]
    known = {"peak_cpus": highest[0], "peak_memory_mib": highest[1]}
    return usages.put(ref.job_id, was, replace(attempt, usage={**attempt.usage, **known}))


def _peaks(usage: Mapping[str, float | None]) -> Peaks:
    return usage.get("peak_cpus") or 0.0, usage.get("peak_memory_mib") or 0.0


# ---- afterwards ------------------------------------------------------------------------------------------


def account(context: Context, adapter: AccountsRuns, backend: str, due: Sequence[Attempt]) -> None:
    """One question for all.  Who is not in the accounts yet is asked for again, for some minutes."""
    keeps, found = context.store.keeps, [(one, _attempt(context, one)) for one in due]
    refs = {one: ref_of(seen[0].record, seen[1]) for one, seen in found if seen is not None}
    for one, seen in found:
        if seen is None:
            keeps.done(backend, one)
    try:
        told = adapter.accounted(list(refs.values())) if refs else {}
    except BackendError as error:
        log.info("%s has no accounts now: %s", backend, error)
        told = {}
    for one, seen in found:
        if seen is None:
            continue
        usage = told.get(refs[one].marker)
        if usage is not None:
            _note(context, one, usage)
        elif not is_late(context, seen[0], seen[1], GIVEN_UP_S):
            keeps.later(backend, one, int((context.store.now() + LATER_S) * 1000))
            continue
        keeps.done(backend, one)


def is_late(context: Context, parts: Parts, attempt: AttemptRecord, most_s: float) -> bool:
    """Its end is longer ago; where nobody knows when that was, the job's, or the submission."""
    ended = parts.record.ended
    since = attempt.ended_at or (ended / 1000 if ended else attempt.submitted_at)
    return context.store.now() - since > most_s


def _attempt(context: Context, one: Attempt) -> tuple[Parts, AttemptRecord] | None:
    parts = context.store.jobs.parts(one[0])
    found = [attempt for attempt in parts.attempts if attempt.number == one[1]] if parts else []
    return (parts, found[0]) if parts and found else None


def _note(context: Context, one: Attempt, usage: RunUsage) -> None:
    if (found := context.store.usages.read(*one)) is not None:
        was, attempt = found
        known = {name: value for name, value in asdict(usage).items() if value is not None}
        context.store.usages.put(one[0], was, replace(attempt, usage={**attempt.usage, **known}))


# ---- reading ---------------------------------------------------------------------------------------------


def views(context: Context, parts: Parts) -> tuple[UsageView, ...]:
    spec, now = unpack_spec(parts.spec), context.store.now()
    return tuple(_view(context, spec, attempt, now) for attempt in parts.attempts)


def _view(context: Context, spec: JobSpec, attempt: AttemptRecord, now: float) -> UsageView:
    known = dict(attempt.usage)
    if attempt.started_at is not None and "elapsed_s" not in known:
        known["elapsed_s"] = max(0.0, (attempt.ended_at or now) - attempt.started_at)
    adapter = context.adapters.get(attempt.backend)
    if isinstance(adapter, MeasuresRuns):
        known |= _as_asked_for(spec, known.get("elapsed_s"))
    return UsageView(attempt=attempt.number, backend=attempt.backend, **known)


def _as_asked_for(spec: JobSpec, elapsed_s: float | None) -> dict[str, float]:
    """Such a backend gives what a job asks for; how long each task or replica ran, nobody counts."""
    if elapsed_s is None or spec.array is not None or spec.is_service:
        return {}
    wanted = spec.resources
    node_s = elapsed_s * wanted.nodes
    return {
        "cpu_s": node_s * wanted.tasks_per_node * wanted.cpus_per_task,
        "gpu_s": node_s * wanted.gpus_per_node,
        "memory_mib_s": node_s * (wanted.memory_per_node_mib or 0),
    }
