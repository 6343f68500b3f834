"""What a log reader says to who asked it, there and back: a page, findings, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from adapters.base import Finding, LogPage
from adapters.errors import BackendError, BadLogQuery, LogGone
from api_spec.errors import LogReaderUnavailable
from broker.store.asks import Said

MOST_BYTES = 4 * 1024**2  # of a page; who asks may want 1 MiB, and no adapter gives more
LONGEST_SENTENCE = 2000

# kind of the refusal -> what is raised where it arrives
REFUSALS: dict[str, type[Exception]] = {
    "backend": BackendError,
    "gone": LogGone,
    "reader": LogReaderUnavailable,
}


def of_page(page: LogPage) -> Said:
    if len(page.data) > MOST_BYTES:
        return refusal("backend", f"the backend gave a page of {len(page.data)} bytes, which is too large")
    facts = {"cursor": page.cursor, "at_end": page.at_end, "complete": page.complete, "note": page.note}
    return Said(facts={"page": facts}, data=page.data)


def of_findings(findings: Sequence[Finding]) -> Said:
    return Said(facts={"findings": [asdict(one) for one in findings]})


def refusal(kind: str, message: str, **facts: str) -> Said:
    return Said(facts={"refusal": {"kind": kind, "message": message[:LONGEST_SENTENCE], **facts}})


def page_in(said: Said) -> LogPage:
    """Raises ``BadLogQuery``, ``BackendError`` and ``LogReaderUnavailable`` as the reader said."""
    raise_refusal(said)
    try:
        return LogPage(data=said.data, **said.facts["page"])
    except (KeyError, TypeError) as error:
        raise unreadable() from error


def findings_in(said: Said) -> Sequence[Finding]:
    """Raises as ``page_in``."""
    raise_refusal(said)
    try:
        return tuple(Finding(**one) for one in said.facts["findings"])
    except (KeyError, TypeError) as error:
        raise unreadable() from error


def raise_refusal(said: Said) -> None:
    refused = said.facts.get("refusal")
    if refused is None:
        return
    if refused["kind"] == "query":
        raise BadLogQuery(refused["message"], refused.get("parameter", "cursor"))
    raise REFUSALS.get(refused["kind"], LogReaderUnavailable)(refused["message"])


def unreadable() -> LogReaderUnavailable:
    return LogReaderUnavailable(
        "what the log reader answered cannot be read; it is of another release than the API"
    )
