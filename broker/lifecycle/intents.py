"""What users want of a job that exists: cancel, hold, release, resubmit, scale, update.

An intent is written apart from what is observed, and a worker carries it out.  Nothing here calls a backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adapters.base import Capability
from api_spec.errors import (
    BackendUnavailable,
    Conflict,
    NotFound,
    NotSupported,
    PreconditionFailed,
)
from api_spec.jobs import JobSpec, Kind
from api_spec.packing import pack_spec, unpack_spec
from api_spec.reasons import Reason
from api_spec.states import AT_A_BACKEND, JobState
from broker.access import Principal, must_act_on
from broker.lifecycle.context import ACT, SUBMIT, Context, not_configured
from broker.lifecycle.points import point
from broker.lifecycle.refusals import in_force
from broker.lifecycle.updates import Update, updated
from broker.store.changes import Change, Event, Guard
from broker.store.jobs import Written
from broker.store.records import HOLD, UPDATE, JobRecord

CHANGED = "the job has changed in this very moment; look at it and try again"


def mine(context: Context, job_id: str, who: Principal, if_version: int | None = None) -> JobRecord:
    """The record of a job that this principal may act on.

    ``if_version`` refuses early what the write would refuse: each write is guarded by the version itself.
    """
    record = context.store.jobs.read(job_id)
    if record is None:
        raise NotFound(f"there is no job {job_id}")
    must_act_on(who, job_id, record.project, record.owner)
    must_have(record, if_version)
    return record


def must_have(record: JobRecord, if_version: int | None) -> None:
    """Raises ``PreconditionFailed`` for a job of another version; None: any."""
    if if_version not in (None, record.version):
        raise PreconditionFailed(f"the job is at version {record.version}, not {if_version}")


def cancel(context: Context, job_id: str, who: Principal, if_version: int | None = None) -> None:
    """Cancelling twice, or what has ended, changes nothing."""
    record = mine(context, job_id, who, if_version)
    answer = context.store.jobs.cancel(job_id, f"user:{who.owner}", if_version)
    point("accepted")
    if answer == "changed":
        raise PreconditionFailed(CHANGED)
    if answer == "ended":
        context.hint("release")
    elif answer == "asked" and record.backend:
        context.hint(f"drain:{record.backend}")


def hold(context: Context, job_id: str, who: Principal, if_version: int | None = None) -> None:
    record = mine(context, job_id, who, if_version)
    if record.held:
        return
    if record.state is JobState.ACCEPTED:
        change = Change(
            set={"held": True, "reason": Reason.HELD, "message": None},
            no_due=True,
            events=(_by("held", who),),
        )
        _write(context, record, change, if_version)
    elif record.state is JobState.QUEUED and _can(context, record, Capability.HOLD):
        wish = _Wish(what=HOLD, fields={"held": True}, event=_by("held", who))
        _intend(context, record, wish, if_version)
    else:
        raise Conflict(_why_not(context, record, "held"))


def release(context: Context, job_id: str, who: Principal, if_version: int | None = None) -> None:
    record = mine(context, job_id, who, if_version)
    if not record.held:
        return
    if record.state is JobState.ACCEPTED:
        reason = Reason.DEPENDENCY_NOT_MET if record.waits else None
        queue = record.next_queue or f"{SUBMIT}:-"
        change = Change(
            set={"held": None, "reason": reason, "message": None},
            due=None if record.waits else (queue, 0),
            events=(_by("released", who),),
        )
        _write(context, record, change, if_version)
        context.hint("drain:" + queue.partition(":")[2])
    elif record.state is JobState.QUEUED and _can(context, record, Capability.HOLD):
        wish = _Wish(what=HOLD, fields={"held": None}, event=_by("released", who))
        _intend(context, record, wish, if_version)
    else:
        raise Conflict(_why_not(context, record, "released"))


def update(context: Context, job_id: str, who: Principal, wanted: Update) -> None:
    """Scale, or a new revision of the spec, of an inference job; time limit and priority of any other."""
    record = mine(context, job_id, who, wanted.if_version)
    if record.ended_for_good:
        raise Conflict(f"the job has ended ({record.state})")
    found = context.store.jobs.read_with_spec(job_id)
    spec = unpack_spec(found[1]) if found else None
    if found is None or spec is None:
        raise NotFound(f"there is no job {job_id}")
    done = updated(record, spec, wanted, _predecessors(context, spec) if wanted.spec else {})
    if not done.fields:
        return
    _refuse_update_unless_able(context, record)
    fields = dict(done.fields)
    event: Event = ("updated", {**{n: v for n, v in fields.items() if n != "digest"}, "by": who.owner})
    if record.state is not JobState.ACCEPTED and record.before is None:
        fields["before"] = in_force(record, found[1])
    packed = pack_spec(done.spec) if done.spec != spec else None
    wish = _Wish(what=UPDATE, fields=fields, event=event, spec=packed)
    _intend(context, record, wish, wanted.if_version)


def _predecessors(context: Context, spec: JobSpec) -> dict[str, str]:
    ids = [dependency.job or "" for dependency in spec.depends_on]
    return {record.name: record.id for record in context.store.jobs.read_many(ids) if record}


def _refuse_update_unless_able(context: Context, record: JobRecord) -> None:
    if record.kind is Kind.INFERENCE:
        needed, what = Capability.UPDATE, "scale or update a job"
    else:
        needed, what = Capability.ADJUST, "change the time limit or priority of a job"
    if record.backend and not _can(context, record, needed):
        raise NotSupported(f"the backend {record.backend} cannot {what}")


# ---- how an intent is written ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Wish:
    what: str  # HOLD or UPDATE
    fields: dict[str, Any]
    event: Event
    spec: bytes | None = None


def _intend(context: Context, record: JobRecord, wish: _Wish, if_version: int | None) -> None:
    """At no backend there is nobody to be told."""
    at_a_backend = record.state in AT_A_BACKEND
    act = tuple({*record.act, wish.what}) if record.state is not JobState.ACCEPTED else None
    change = Change(
        set={**wish.fields, "act": act},
        spec=wish.spec,
        due=(f"{ACT}:{record.backend}", 0) if at_a_backend else None,
        events=(wish.event,),
    )
    _write(context, record, change, if_version)
    if record.backend:
        context.hint(f"drain:{record.backend}")


def _write(context: Context, record: JobRecord, change: Change, if_version: int | None) -> None:
    written = context.store.jobs.move(record.id, Guard(version=record.version), change)
    point("accepted")
    if written is not Written.OK:
        raise (Conflict if if_version is None else PreconditionFailed)(CHANGED)


def _can(context: Context, record: JobRecord, capability: Capability) -> bool:
    """Raises ``BackendUnavailable`` for one that was taken out of the configuration."""
    if record.backend and record.backend not in context.adapters:
        raise BackendUnavailable(not_configured(record.backend))
    return capability in context.adapters[record.backend].capabilities if record.backend else False


def _why_not(context: Context, record: JobRecord, verb: str) -> str:
    if record.state is JobState.QUEUED:
        return f"the backend {record.backend} cannot hold a job"
    return f"a job that is {record.state} cannot be {verb}"


def _by(kind: str, who: Principal) -> Event:
    return (kind, {"by": who.owner})
