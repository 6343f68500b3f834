"""Turns a parsed policy file into a ``Policy``, or says everything that is wrong with it, with positions.

    name: site
    rules:
      - name: long-jobs-need-a-checkpoint      # unique in the file
        when: job.time_limit > duration("2d")  # CEL over policies.variables; left out: always
        deny: "asks for {job.time_limit}; ..." # exactly one of deny, require, prefer, set, warn
        message: ...                           # require: needed; prefer: optional; others: none

The only module that knows the format.  It parses no YAML itself: whoever read the file passes the plain
document, and ``locate``, which knows where its parts stood.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib.resources import files
from typing import Any, Protocol

from api_spec.errors import Fault, InvalidConfiguration
from policies.expressions import BOOLEAN, NUMBER, Expression, InvalidExpression
from policies.policy import Policy
from policies.preferences import Preferences
from policies.rules import Deny, Prefer, Require, Rule, SetOptions, Warn
from policies.sentences import InvalidSentence, Sentence, parse
from policies.variables import OF_THE_INVENTORY, OF_THE_MOMENT, VARIABLES, language

Path = tuple[str | int, ...]

FORMS = ("deny", "require", "prefer", "set", "warn")
_FIELDS = ("name", "when", *FORMS, "message")
_TOP = ("name", "description", "rules")
_MAX_RULES = 500  # arbitrary; each is evaluated for each backend at each decision


class Locate(Protocol):
    """Line and column, from 1: of a value, of the n-th character of a text, or of a value's key."""

    def __call__(self, path: Path, offset: int = 0, *, key: bool = False) -> tuple[int, int]: ...


def default_policy_text() -> str:
    """The policy that ships with the broker."""
    return files("policies").joinpath("default.yaml").read_text("utf-8")


def load_policy(text: str, document: object, locate: Locate, source: str = "policy") -> Policy:
    """``document`` is ``text`` parsed.  Raises ``InvalidConfiguration`` with a fault for each error."""
    reading = _Reading(source, locate)
    name, rules = reading.top(document)
    reading.raise_what_is_wrong()
    return Policy(
        name=name,
        digest=hashlib.sha256(text.encode()).hexdigest(),
        source=source,
        text=text,
        hard=tuple(rule for rule in rules if isinstance(rule, Deny | Require)),
        preferences=Preferences(tuple(rule for rule in rules if isinstance(rule, Prefer))),
        settings=tuple(rule for rule in rules if isinstance(rule, SetOptions)),
        warnings=tuple(rule for rule in rules if isinstance(rule, Warn)),
    )


def _rests_on(names: frozenset[str], expression: Expression | None) -> bool:
    """Whether the text still compiles without these names; more exact than looking for them in it."""
    if expression is None:
        return False
    try:
        language(without=names).compile(expression.text, BOOLEAN | NUMBER)
    except InvalidExpression:
        return True
    return False


class _Reading:
    """One pass over one document, which collects what is wrong instead of stopping at it."""

    def __init__(self, source: str, locate: Locate) -> None:
        self.source, self.locate = source, locate
        self.faults: list[Fault] = []
        self.names: set[str] = set()

    def wrong(self, path: Path, message: str, offset: int = 0, *, key: bool = False) -> None:
        line, column = self.locate(path, offset, key=key)
        pointer = "".join(f"/{part}" for part in path)
        self.faults.append(Fault(pointer, f"{self.source}:{line}:{column}: {message}"))

    def raise_what_is_wrong(self) -> None:
        if self.faults:
            lines = "\n".join(fault.message for fault in self.faults)
            raise InvalidConfiguration(lines, faults=self.faults)

    def top(self, document: object) -> tuple[str, list[Rule]]:
        if not isinstance(document, Mapping):
            self.wrong((), "a policy is a mapping with 'name' and 'rules'")
            return "", []
        self.fields_are_known((), document, _TOP)
        name, rules = document.get("name"), document.get("rules")
        if not isinstance(name, str) or not name:
            self.wrong(("name",) if "name" in document else (), "a policy needs a name")
        if not isinstance(rules, list):
            self.wrong(("rules",) if "rules" in document else (), "'rules' must be a list")
            return str(name), []
        if len(rules) > _MAX_RULES:
            self.wrong(("rules",), f"{len(rules)} rules; {_MAX_RULES} at most")
            return str(name), []
        read = [self.rule(("rules", index), rule) for index, rule in enumerate(rules)]
        return str(name), [rule for rule in read if rule is not None]

    def fields_are_known(self, path: Path, mapping: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for name in mapping:
            if name not in known:
                close = get_close_matches(name, known, n=1)
                hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}"
                self.wrong((*path, name), f"unknown field '{name}'; {hint}", key=True)

    def rule(self, path: Path, rule: object) -> Rule | None:
        if not isinstance(rule, Mapping):
            self.wrong(path, "a rule is a mapping")
            return None
        self.fields_are_known(path, rule, _FIELDS)
        forms = [form for form in FORMS if form in rule]
        if len(forms) != 1:
            given = ", ".join(forms) or "none"
            self.wrong(path, f"a rule has exactly one of {', '.join(FORMS)}; this one has {given}")
            return None
        if "message" in rule and forms[0] not in ("require", "prefer"):
            self.wrong((*path, "message"), f"'{forms[0]}' takes no message")
        name = self.rule_name(path, rule)
        when = self.expression((*path, "when"), rule["when"], BOOLEAN) if "when" in rule else None
        build: Callable[[Path, Mapping[str, Any], str, Expression | None], Rule | None]
        build = getattr(self, f"_{forms[0]}")
        return build(path, rule, name, when)

    def rule_name(self, path: Path, rule: Mapping[str, Any]) -> str:
        name = rule.get("name")
        if not isinstance(name, str) or not name:
            self.wrong((*path, "name") if "name" in rule else path, "a rule needs a name")
            return ""
        if name in self.names:
            self.wrong((*path, "name"), f"there is another rule with the name '{name}'")
        self.names.add(name)
        return name

    def _deny(self, path: Path, rule: Mapping[str, Any], name: str, when: Expression | None) -> Rule | None:
        sentence = self.sentence((*path, "deny"), rule["deny"])
        return Deny(name=name, when=when, sentence=sentence, **_marks(when)) if sentence else None

    def _require(
        self, path: Path, rule: Mapping[str, Any], name: str, when: Expression | None
    ) -> Rule | None:
        condition = self.expression((*path, "require"), rule["require"], BOOLEAN)
        if "message" not in rule:
            self.wrong(path, "'require' needs a message: what is said where the condition does not hold")
            return None
        sentence = self.sentence((*path, "message"), rule["message"])
        if condition is None or sentence is None:
            return None
        return Require(
            name=name, when=when, condition=condition, sentence=sentence, **_marks(when, condition)
        )

    def _prefer(self, path: Path, rule: Mapping[str, Any], name: str, when: Expression | None) -> Rule | None:
        points = self.points((*path, "prefer"), rule["prefer"])
        message = rule.get("message", name.replace("-", " "))
        sentence = self.sentence((*path, "message"), message)
        if points is None or sentence is None:
            return None
        return Prefer(name=name, when=when, points=points, sentence=sentence)

    def _set(self, path: Path, rule: Mapping[str, Any], name: str, when: Expression | None) -> Rule | None:
        options = rule["set"]
        if not isinstance(options, Mapping) or not options:
            self.wrong((*path, "set"), "'set' is a mapping of options for the backend that wins")
            return None
        read = {
            key: self.sentence((*path, "set", key), value) if isinstance(value, str) else value
            for key, value in options.items()
        }
        return SetOptions(name=name, when=when, options=read)

    def _warn(self, path: Path, rule: Mapping[str, Any], name: str, when: Expression | None) -> Rule | None:
        sentence = self.sentence((*path, "warn"), rule["warn"])
        return Warn(name=name, when=when, sentence=sentence) if sentence else None

    def points(self, path: Path, value: object) -> float | Expression | None:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        return self.expression(path, value, NUMBER)

    def expression(self, path: Path, value: object, wanted: frozenset[str]) -> Expression | None:
        if isinstance(value, bool):  # YAML's true is CEL's
            value = str(value).lower()
        if not isinstance(value, str):
            self.wrong(path, "must be an expression, as a text")
            return None
        try:
            return language().compile(value, wanted)
        except InvalidExpression as error:
            lines = value.split("\n")
            for mistake in error.mistakes:
                before = sum(len(line) + 1 for line in lines[: mistake.line - 1])
                self.wrong(path, mistake.message, before + mistake.column - 1)
            return None

    def sentence(self, path: Path, value: object) -> Sentence | None:
        if not isinstance(value, str) or not value.strip():
            self.wrong(path, "must be a sentence")
            return None
        try:
            return parse(value.strip(), VARIABLES)
        except InvalidSentence as error:
            self.wrong(path, str(error))
            return None


def _marks(*conditions: Expression | None) -> dict[str, bool]:
    return {
        "rests_on_the_inventory": any(_rests_on(OF_THE_INVENTORY, condition) for condition in conditions),
        "rests_on_the_moment": any(_rests_on(OF_THE_MOMENT, condition) for condition in conditions),
    }
