"""Views as a client gets them back.  Plain code, so that a command starts without the server's libraries.

A newer server is read as far as we understand it: members that we do not know are skipped, and a reason that
we do not know is ``Unknown``.  A state that we do not know is an error, because somebody would act on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from api_spec.decisions import Decision, Outcome, Refusal, ScorePart, Verdict
from api_spec.jobs import JobSpec, Kind
from api_spec.reasons import Reason
from api_spec.schemas.canonical import build_spec
from api_spec.states import AttemptState, JobState
from api_spec.times import from_rfc3339
from api_spec.views import (
    AttemptView,
    BackendView,
    Caps,
    EventView,
    JobSummary,
    JobView,
    Page,
    ServiceView,
    TaskView,
    UsageView,
)

Document = Mapping[str, Any]
Readers = dict[str, Callable[[Any], Any]]
T = TypeVar("T")


class UnreadableAnswer(ValueError):
    """What came back is not what this version of the client understands."""


def _reader(read: Callable[[Document], T]) -> Callable[[Document], T]:
    @wraps(read)
    def guarded(document: Document) -> T:
        try:
            return read(document)
        except UnreadableAnswer:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = read.__name__.removeprefix("load_").replace("_", " ")
            raise UnreadableAnswer(f"the server's {what} cannot be read: {error!r}") from error

    return guarded


def _members(document: Document, kind: type, /, **read: Callable[[Any], Any]) -> dict[str, Any]:
    """The members that ``kind`` has, each through its reader unless it is null."""
    members = {name: document[name] for name in kind.__dataclass_fields__ if name in document}  # type: ignore[attr-defined]
    for name, reader in read.items():
        if members.get(name) is not None:
            members[name] = reader(members[name])
    return members


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.UNKNOWN


_TIMES: Readers = dict.fromkeys(
    ("created_at", "updated_at", "started_at", "ended_at", "observed_at"), from_rfc3339
)
_OUTCOME = {"reason": _reason, "started_at": from_rfc3339, "ended_at": from_rfc3339}


@_reader
def load_spec_view(document: Document) -> JobSpec:
    return build_spec(document)


@_reader
def load_job_view(document: Document) -> JobView:
    readers: Readers = {**_TIMES, "state": JobState, "reason": _reason, "service": load_service}
    members = _members(document, JobView, **readers)
    return JobView(**{**members, "spec": build_spec(document["spec"])})


@_reader
def load_service(document: Document) -> ServiceView:
    return ServiceView(**_members(document, ServiceView))


@_reader
def load_summary(document: Document) -> JobSummary:
    readers: Readers = {"kind": Kind, "state": JobState, "reason": _reason, "service": load_service}
    times = {"created_at": from_rfc3339, "ended_at": from_rfc3339}
    return JobSummary(**_members(document, JobSummary, **readers, **times))


@_reader
def load_attempt(document: Document) -> AttemptView:
    readers = {"state": AttemptState, "outcome": JobState, "submitted_at": from_rfc3339, "nodes": tuple}
    return AttemptView(**_members(document, AttemptView, **readers, **_OUTCOME))


@_reader
def load_task(document: Document) -> TaskView:
    return TaskView(**_members(document, TaskView, state=JobState, **_OUTCOME))


@_reader
def load_usage(document: Document) -> UsageView:
    return UsageView(**_members(document, UsageView))


@_reader
def load_event(document: Document) -> EventView:
    return EventView(**_members(document, EventView, at=from_rfc3339))


@_reader
def load_backend(document: Document) -> BackendView:
    readers: Readers = {"capabilities": tuple, "seen_at": from_rfc3339, "caps": load_caps}
    return BackendView(**_members(document, BackendView, **readers))


@_reader
def load_caps(document: Document) -> Caps:
    return Caps(**_members(document, Caps))


@_reader
def load_decision(document: Document) -> Decision:
    readers: Readers = {"outcome": Outcome, "decided_at": from_rfc3339, "verdicts": _all(load_verdict)}
    return Decision(**_members(document, Decision, **readers, warnings=tuple))


@_reader
def load_verdict(document: Document) -> Verdict:
    readers = {"refusals": _all(load_refusal), "parts": _all(load_score_part)}
    return Verdict(**_members(document, Verdict, **readers))


@_reader
def load_score_part(document: Document) -> ScorePart:
    return ScorePart(**_members(document, ScorePart))


@_reader
def load_refusal(document: Document) -> Refusal:
    return Refusal(**_members(document, Refusal, code=_reason))


def load_page(document: Document, load: Callable[[Document], T]) -> Page[T]:
    if not isinstance(document.get("items"), list):
        raise UnreadableAnswer("the server's page has no items")
    return Page(items=tuple(map(load, document["items"])), next=document.get("next"))


def _all(load: Callable[[Document], T]) -> Callable[[list[Document]], tuple[T, ...]]:
    return lambda documents: tuple(map(load, documents))
