"""One sentence or two for people: who won a placement and by what, and why the others lost, with numbers."""

from __future__ import annotations

from collections.abc import Sequence

from api_spec.decisions import Outcome, Verdict
from api_spec.jobs import JobSpec

_NAMED = 3  # losers that are named; the verdicts hold them all


def summary_of(outcome: Outcome, ranked: Sequence[Verdict], spec: JobSpec) -> str:
    """``ranked``: the winner first, if there is one."""
    if not ranked:
        return "No backend is configured."
    if outcome is Outcome.PLACED:
        return _of_a_winner(ranked[0], ranked[1:])
    opening = {
        Outcome.NOTHING_FITS: "No backend can ever run this job",
        Outcome.NOTHING_REACHABLE: "No backend takes this job now; it waits",
    }[outcome]
    return f"{opening}. {_losers(ranked)}{_unknown_names(ranked, spec)}"


def points(number: float) -> str:
    rounded = round(number, 1)
    text = f"{rounded:.0f}" if rounded == int(rounded) else f"{rounded:.1f}"
    return f"{text} point{'' if text in ('1', '-1') else 's'}"


def _of_a_winner(winner: Verdict, others: Sequence[Verdict]) -> str:
    because = "; ".join(part.message for part in winner.parts if part.points > 0)
    sentence = f"{winner.backend} wins with {points(winner.score)}{': ' if because else ''}{because}"
    level = [other.backend for other in others if other.eligible and other.score == winner.score]
    if level:
        sentence += f"; level with {some_of(level)}, and first by name"
    behind = [other for other in others if other.backend not in level]
    return f"{sentence}. {_losers(behind)}".rstrip()


def _losers(verdicts: Sequence[Verdict]) -> str:
    said = [_why_lost(verdict) for verdict in verdicts[:_NAMED]]
    rest = len(verdicts) - len(said)
    return "; ".join(said + [f"{rest} more lost"] * bool(rest)) + "." * bool(said)


def _why_lost(verdict: Verdict) -> str:
    if verdict.eligible:
        return f"{verdict.backend} has {points(verdict.score)}"
    return f"{verdict.backend} lost: {verdict.refusals[0].message.rstrip('.')}"


def _unknown_names(verdicts: Sequence[Verdict], spec: JobSpec) -> str:
    configured = {verdict.backend for verdict in verdicts}
    unknown = [name for name in spec.placement.backends if name not in configured]
    return f" No backend is called {some_of(unknown)}." if unknown else ""


def some_of(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
