"""What the prefer rules of a policy say of one backend, together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from api_spec.decisions import ScorePart
from policies.expressions import Expression
from policies.look import Look
from policies.remembered import Known, Remembered
from policies.rules import Prefer

POINTS_DIGITS = 6  # enough to tell queues of thousands apart, few enough to hide the noise of floats


@dataclass(frozen=True)
class Preferred:
    parts: tuple[ScorePart, ...]
    unknown: tuple[tuple[str, str], ...]  # a rule, and why it has no value


@dataclass(frozen=True)
class Preferences:
    """Most jobs find a backend as the one before did, so what was said of it is remembered whole."""

    rules: tuple[Prefer, ...]

    @cached_property
    def of(self) -> Remembered[Preferred]:
        names = {name for rule in self.rules for name in _names(rule)}
        return Remembered(sorted(names), self._said)

    def _said(self, values: Known) -> Preferred:
        unknown: list[tuple[str, str]] = []
        look = Look(values, lambda rule, why: unknown.append((rule, why)))
        return Preferred(tuple(self._parts(look)), tuple(unknown))

    def _parts(self, look: Look) -> Iterator[ScorePart]:
        for rule in self.rules:
            if not look.matches(rule):
                continue
            points = rule.points
            value = look.value_of(points, rule) if isinstance(points, Expression) else points
            rounded = round(float(value or 0), POINTS_DIGITS)
            if rounded:
                yield ScorePart(rule=rule.name, points=rounded, message=rule.sentence.render(look.values))


def _names(rule: Prefer) -> Iterator[str]:
    yield from rule.sentence.names
    for expression in (rule.when, rule.points):
        if isinstance(expression, Expression):
            yield from expression.names
