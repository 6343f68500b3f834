"""One backend as rules look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policies.expressions import Expression, Failure
from policies.remembered import Known
from policies.rules import Rule


@dataclass
class Look:
    """``note`` is told a rule's name, and why it has no value."""

    values: Known
    note: Callable[[str, str], None]

    def value_of(self, expression: Expression, rule: Rule) -> bool | int | float | None:
        value = expression.evaluate(self.values)
        if isinstance(value, Failure):
            self.note(rule.name, value.message)
            return None
        return value

    def matches(self, rule: Rule) -> bool:
        return rule.when is None or self.value_of(rule.when, rule) is True
