"""A decision as a table: every backend, and why it won or lost."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from shutil import get_terminal_size
from typing import Any

import click

from broker.cli.output import columns

Json = Mapping[str, Any]
HEAD = ("BACKEND", "TYPE", "RESULT", "SCORE", "WHY")


def decision_lines(decision: Json) -> list[str]:
    kind = "binding" if decision.get("binding") else "provisional"
    policy = f"{decision['policy']}@{str(decision.get('policy_digest', ''))[:8]}"
    lines = [f"{decision['summary']} ({kind}, policy {policy})"]
    rows = [row for verdict in decision["verdicts"] for row in verdict_rows(verdict, decision.get("chosen"))]
    lines += [f"  {line}" for line in columns(HEAD, rows)]
    lines += [f"  warning: {warning}" for warning in decision.get("warnings", ())]
    return lines


def verdict_rows(verdict: Json, chosen: str | None) -> list[tuple[str, ...]]:
    """One reason a line; long ones are folded under it."""
    result, colour = "lost", None
    if verdict["backend"] == chosen:
        result, colour = "chosen", "green"
    elif verdict["refusals"]:
        result, colour = "refused", "red"
    folded = [line for reason in reasons(verdict) for line in fold(reason)] or [""]
    score = f"{verdict.get('score', 0):g}" if not verdict["refusals"] else "-"
    first = (verdict["backend"], verdict["type"], click.style(result, fg=colour), score, folded[0])
    return [first, *(("", "", "", "", line) for line in folded[1:])]


def reasons(verdict: Json) -> list[str]:
    found = [f"{refusal['code']}: {refusal['message']}" for refusal in verdict["refusals"]]
    if not found:
        found = [
            f"{part['points']:+g} {part['message'] or part['rule']}" for part in verdict.get("parts", ())
        ]
    age = verdict.get("snapshot_age_s")
    if age is not None and age >= 60:  # facts that are a minute old may explain a surprise
        found.append(f"(known {age:.0f} s ago)")
    return found or ["it can run the job"]


def fold(text: str) -> list[str]:
    return textwrap.wrap(text, max(40, get_terminal_size().columns - 42), subsequent_indent="  ")
