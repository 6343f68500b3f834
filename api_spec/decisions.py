"""The record of one placement: every configured backend, each once, and why it won or lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from api_spec.frozen import quick
from api_spec.reasons import Reason


@dataclass(frozen=True)
class Refusal:
    """Why a backend loses (or why a job waits): a code of the enumeration and a sentence with the numbers."""

    code: Reason
    message: str
    field: str | None = None  # JSON pointer into the spec, where one field is to blame


class Outcome(StrEnum):
    PLACED = "placed"
    NOTHING_FITS = "nothing_fits"  # proven impossible everywhere
    NOTHING_REACHABLE = "nothing_reachable"  # some backend might take it, but none of those answers now


@dataclass(frozen=True, kw_only=True)
class ScorePart:
    rule: str
    points: float
    message: str


@quick
@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One backend in one decision.  It is eligible when nothing refuses it."""

    backend: str
    type: str
    refusals: tuple[Refusal, ...] = ()
    score: float = 0.0
    parts: tuple[ScorePart, ...] = ()
    snapshot_age_s: float | None = None  # None: never seen

    @property
    def eligible(self) -> bool:
        return not self.refusals


@quick
@dataclass(frozen=True, kw_only=True)
class Decision:
    """``binding`` False: made at accept from the last snapshots; True: made for an attempt, at its claim."""

    outcome: Outcome
    chosen: str | None
    summary: str
    verdicts: tuple[Verdict, ...]
    binding: bool
    policy: str
    policy_digest: str
    decided_at: float
    attempt: int | None = None
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)  # what ``set`` rules hand the chosen backend
