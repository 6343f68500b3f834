"""The sentences of a policy: text with ``{names}`` of declared variables in it, checked when it is loaded."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from string import Formatter
from typing import Any

from policies.remembered import Known


class InvalidSentence(Exception):
    """A name in braces that is not declared, or braces that do not pair."""


@dataclass(frozen=True)
class Sentence:
    """Pairs of a literal text and the name that follows it (None at the end)."""

    parts: tuple[tuple[str, str | None], ...]

    def render(self, values: Known) -> str:
        return "".join(
            literal + ("" if name is None else in_words(values[name])) for literal, name in self.parts
        )

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for _, name in self.parts if name is not None)


def parse(text: str, names: Collection[str]) -> Sentence:
    """``{{`` and ``}}`` stand for braces.  Raises ``InvalidSentence``."""
    try:
        parts = tuple(Formatter().parse(text))
    except ValueError as error:
        raise InvalidSentence(f"{error}; write {{{{ or }}}} for a brace itself") from None
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion:
            raise InvalidSentence(f"'{{{name}...}}' holds more than a name")
        if name not in names:
            close = get_close_matches(name, names, n=1, cutoff=0.75)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InvalidSentence(f"undeclared reference to '{name}'{hint}")
    return Sentence(tuple((literal, name) for literal, name, _, _ in parts))


def in_words(value: Any) -> str:
    match value:
        case None:
            return "?"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case timedelta():
            return _duration(value)
        case list():
            return ", ".join(map(in_words, value)) or "none"
        case dict():
            return ", ".join(f"{key}={in_words(value[key])}" for key in sorted(value)) or "none"
        case _:
            return str(value)


def _duration(value: timedelta) -> str:
    """The two largest units; nobody needs the seconds of three days."""
    seconds, words = int(value.total_seconds()), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2]) or "0 s"
