"""Accept: one submission, a job or a bundle, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from api_spec.decisions import Decision, Outcome
from api_spec.encoding import encode_text
from api_spec.errors import (
    Fault,
    Forbidden,
    IdempotencyConflict,
    InvalidSpec,
    NotFound,
    NothingFits,
    PreconditionFailed,
    StoreUnavailable,
)
from api_spec.frozen import changed
from api_spec.ids import new_id
from api_spec.jobs import JobSpec
from api_spec.packing import pack_document, unpack_spec
from api_spec.reasons import Reason
from api_spec.schemas import dump_spec
from api_spec.states import JobState
from api_spec.views import Accepted, JobView
from broker.access import Principal, Scope
from broker.lifecycle import native
from broker.lifecycle.bundle import mentions, refuse_missing_outputs, resolve_names
from broker.lifecycle.context import SUBMIT, UNPLACED, Context, log
from broker.lifecycle.intents import CHANGED, must_have
from broker.lifecycle.points import point
from broker.lifecycle.reading import visible
from broker.lifecycle.snapshots import Snapshots
from broker.store.idempotency import Idempotency
from broker.store.jobs import AcceptAnswer, NewJob
from policies.engine import decide, why_waiting
from policies.records import pack, unpack


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What came in one request.  ``key``: the client's idempotency key, with the digest of the body."""

    specs: Sequence[JobSpec]
    bundled: bool = False  # a list of jobs, though it may be of one
    key: str | None = None
    body_digest: str = ""
    resubmit_of: str | None = None
    unchanged: tuple[str, int] | None = None  # id and version of a live job: only while it has it

    def place(self, index: int) -> str:
        """Where a job stands in the body, as a JSON pointer."""
        return f"/jobs/{index}" if self.bundled or len(self.specs) > 1 else ""


@dataclass(frozen=True, kw_only=True)
class Resubmission:
    job_id: str
    key: str | None = None
    if_version: int | None = None


def preview(
    context: Context, snapshots: Snapshots, submission: Submission, who: Principal
) -> tuple[Decision, ...]:
    """The decisions that accept would make now, after the same checks; nothing is written."""
    ids = [new_id(context.store.now(), os.urandom(10)) for _ in submission.specs]
    specs = _among_themselves(context, submission, ids, who)
    waited_for = {dependency.job or "" for spec in specs for dependency in spec.depends_on}
    for job_id in sorted(waited_for.difference(ids)):
        if _known_spec(context, who, job_id) is None:
            raise _no_such_job(job_id, submission)
    return tuple(_decide(context, snapshots, spec, who) for spec in specs)


def _among_themselves(
    context: Context, submission: Submission, ids: Sequence[str], who: Principal
) -> list[JobSpec]:
    specs = [_in_project(spec, who, submission.place(i)) for i, spec in enumerate(submission.specs)]
    resolved = resolve_names(specs, ids, submission.place)
    refuse_missing_outputs(resolved, ids, submission.place, lambda job_id: _known_spec(context, who, job_id))
    return resolved


def _decide(context: Context, snapshots: Snapshots, spec: JobSpec, who: Principal) -> Decision:
    return decide(spec, snapshots.facts(spec, who.owner, who.groups), context.policy, binding=False)


def _provisional(context: Context, snapshots: Snapshots, spec: JobSpec, who: Principal) -> Decision:
    decision = _decide(context, snapshots, spec, who)
    if decision.chosen is not None:
        snapshots.assigned(decision.chosen)
    return decision


def accept(context: Context, snapshots: Snapshots, submission: Submission, who: Principal) -> Accepted:
    """Raises ``NothingFits`` with the decision when it is proven that no backend can run one of the jobs."""
    who.need(Scope.JOBS_WRITE)
    try:
        return _accept(context, snapshots, submission, who)
    except (NothingFits, InvalidSpec, StoreUnavailable):
        # What was accepted once stays accepted, whatever has become of the backends since.
        earlier = _replayed(context, submission, who)
        if earlier is None:
            raise
        return earlier


def resubmit(context: Context, snapshots: Snapshots, wanted: Resubmission, who: Principal) -> Accepted:
    """The same spec again, as a new job; who submitted the first one does not matter."""
    submission = Submission(
        specs=(), key=wanted.key, body_digest=f"resubmit of {wanted.job_id}", resubmit_of=wanted.job_id
    )
    who.need(Scope.JOBS_WRITE)
    try:
        parts = visible(context, wanted.job_id, who)
        must_have(parts.record, wanted.if_version)
    except (NotFound, PreconditionFailed):
        # A repeated request is answered as before, though the job has changed or is kept no longer.
        earlier = _replayed(context, submission, who)
        if earlier is None:
            raise
        return earlier
    # One that has ended does not change any more, and may be packed in the meantime.
    guarded = wanted.if_version is not None and not parts.record.ended_for_good
    unchanged = (wanted.job_id, parts.record.version) if guarded else None
    specs = (unpack_spec(parts.spec),)
    return accept(context, snapshots, replace(submission, specs=specs, unchanged=unchanged), who)


def _replayed(context: Context, submission: Submission, who: Principal) -> Accepted | None:
    """The answer that this key had, whatever has become of the jobs; None: there was none, or no key."""
    idempotency = _idempotency(submission, who)
    earlier = context.store.idempotency.read(idempotency.key) if idempotency else None
    if idempotency is None or earlier is None:
        return None
    if earlier.digest != idempotency.digest:
        raise IdempotencyConflict("this idempotency key was used for a request with another body")
    views, decisions = [], []
    rows = zip(earlier.ids, earlier.specs, earlier.decisions, earlier.waits, strict=True)
    for job_id, packed, decided, waits in rows:
        spec, decision = unpack_spec(packed), unpack(decided)
        job = _new_job(job_id, spec, dump_spec(spec), decision, who, submission.resubmit_of)
        views.append(_view(job, spec, earlier.at_ms / 1000, waits))
        decisions.append(decision)
    return Accepted(tuple(views), tuple(decisions), replayed=True)


def _accept(context: Context, snapshots: Snapshots, submission: Submission, who: Principal) -> Accepted:
    context.store.full.refuse_when_full()
    now = context.store.now()
    ids = [new_id(now, os.urandom(10)) for _ in submission.specs]
    specs = _among_themselves(context, submission, ids, who)
    decisions = [_provisional(context, snapshots, spec, who) for spec in specs]
    _refuse_impossible(decisions, submission)
    point("accept_decided")
    documents = tuple(dump_spec(spec) for spec in specs)
    new = [
        _natively(context, spec, _new_job(job_id, spec, document, decision, who, submission.resubmit_of))
        for job_id, spec, document, decision in zip(ids, specs, documents, decisions, strict=True)
    ]
    answer = context.store.jobs.accept(new, _idempotency(submission, who), submission.unchanged)
    if answer.verdict in ("replay", "conflict") and (earlier := _replayed(context, submission, who)):
        return earlier
    _refuse_unless_ok(answer, submission)
    point("accepted")
    for job, decision in zip(new, decisions, strict=True):
        log.info("accepted", extra={"job": job.id, "backend": decision.chosen})
    for hint in answer.hints:
        context.publish(hint)
        point("hint_sent")
    written = zip(new, specs, answer.waits, strict=True)
    views = tuple(_view(job, spec, answer.at_ms / 1000, waits) for job, spec, waits in written)
    return Accepted(views, tuple(decisions), documents=documents)


# ---- what the request says ---------------------------------------------------------------------------


def _in_project(spec: JobSpec, who: Principal, place: str) -> JobSpec:
    if spec.project is None:
        return changed(spec, project=who.project)
    if spec.project != who.project:
        message = f"the token is for the project {who.project}, not {spec.project}"
        raise Forbidden(message, faults=[Fault(f"{place}/project", message)])
    return spec


def _known_spec(context: Context, who: Principal, job_id: str) -> JobSpec | None:
    """None: there is none in this project."""
    found = context.store.jobs.read_with_spec(job_id)
    return unpack_spec(found[1]) if found and found[0].project == who.project else None


def _refuse_impossible(decisions: Sequence[Decision], submission: Submission) -> None:
    """With the decision of the first that fits nowhere, and the faults of all that do not."""
    impossible = [i for i, decision in enumerate(decisions) if decision.outcome is Outcome.NOTHING_FITS]
    if not impossible:
        return
    first = impossible[0]
    which = f"job {first + 1} of {len(decisions)}: " if len(decisions) > 1 else ""
    faults = [
        Fault(submission.place(i) + refusal.field, f"{verdict.backend}: {refusal.message}")
        for i in impossible
        for verdict in decisions[i].verdicts
        for refusal in verdict.refusals
        if refusal.field is not None and submission.resubmit_of is None  # no body to point into
    ]
    decision = decisions[first]
    raise NothingFits(which + decision.summary, decision=decision, faults=faults)


# ---- what the store gets, and what comes back --------------------------------------------------------


def _idempotency(submission: Submission, who: Principal) -> Idempotency | None:
    if submission.key is None:
        return None
    # By owner too: two people behind one portal may think of the same key.
    return Idempotency(f"{who.project}:{who.subject}:{who.owner}:{submission.key}", submission.body_digest)


def _new_job(
    job_id: str,
    spec: JobSpec,
    document: dict[str, Any],
    decision: Decision,
    who: Principal,
    resubmit_of: str | None,
) -> NewJob:
    packed, digest = pack_document(document)
    waiting = why_waiting(decision)
    reason = Reason.HELD if spec.hold else waiting.code if waiting else None
    fields = {
        "kind": spec.kind,
        "name": spec.name,
        "project": who.project,
        "owner": who.owner,
        "submitter": who.subject if who.subject != who.owner else None,
        "state": JobState.ACCEPTED,
        "digest": digest[:16],
        "labels": spec.labels or None,
        "reason": reason,
        "message": waiting.message if waiting and not spec.hold else None,
        "held": True if spec.hold else None,
        "groups": tuple(sorted(who.groups)) or None,
        "replicas": spec.service.replicas.min if spec.service else None,
        "resubmit_of": resubmit_of,
    }
    event = {"name": spec.name, "kind": spec.kind, "owner": who.owner, "backend": decision.chosen}
    return NewJob(
        id=job_id,
        fields=fields,
        spec=packed,
        decision=pack(decision),
        queue=f"{SUBMIT}:{decision.chosen or UNPLACED}",
        deps=tuple((d.job or "", str(d.when)) for d in spec.depends_on),
        event=encode_text(event),
    )


def _natively(context: Context, spec: JobSpec, job: NewJob) -> NewJob:
    if not native.may_wait_there(spec) or not native.backends(context):
        return job
    return replace(job, fields={**job.fields, "natively": True})


def _view(job: NewJob, spec: JobSpec, at: float, waits: bool) -> JobView:
    """What the script has just written, without reading it back."""
    known = job.fields
    return JobView(
        id=job.id,
        version=1,
        spec=spec,
        project=known["project"],
        owner=known["owner"],
        submitter=known["submitter"] or known["owner"],
        state=known["state"],
        reason=Reason.DEPENDENCY_NOT_MET if waits and not spec.hold else known["reason"],
        message=known["message"],
        backend=None,
        attempt=0,
        created_at=at,
        updated_at=at,
        held=spec.hold,
        replicas_wanted=known["replicas"],
        resubmit_of=known["resubmit_of"],
    )


def _refuse_unless_ok(answer: AcceptAnswer, submission: Submission) -> None:
    if answer.verdict == "changed":
        raise PreconditionFailed(CHANGED)
    if answer.verdict == "no_such_job":
        raise _no_such_job(answer.ids[0], submission)
    if answer.verdict != "ok":
        raise StoreUnavailable("the store has forgotten this idempotency key just now; ask again")


def _no_such_job(job_id: str, submission: Submission) -> InvalidSpec:
    message = f"there is no job {job_id} in this project"
    return InvalidSpec(message, faults=[Fault(mentions(submission.specs, job_id, submission.place), message)])
