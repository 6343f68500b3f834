"""The one door to CEL: declare the variables, compile a text, evaluate it.

Uses Google's runtime (``cel-expr-python``), which has a real type checker, always ends, and reports every
error of a text at once, with its position.  Variables are declared flat, under dotted names, so that a
misspelt field is an error when a policy is loaded.

Each expression remembers what it came to: to ask CEL costs ten times more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped, unused-ignore]

from policies.remembered import Known, Remembered

# ERROR: <input>:2:15: undeclared reference to 'job.x' (in container '')
_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*?)(?: \(in container '.*'\))?(?: \[\w+\])?$", re.M)
_UNDECLARED = re.compile(r"undeclared reference to '([^']+)'")
_MAX_TEXT = 4096  # arbitrary; far more than anybody reads

BOOLEAN = frozenset({"BOOL"})
NUMBER = frozenset({"INT", "UINT", "DOUBLE"})


@dataclass(frozen=True)
class Mistake:
    """``line`` and ``column`` count from 1 within the text of the expression."""

    line: int
    column: int
    message: str


class InvalidExpression(Exception):
    """The text is no expression over these variables, or not of the wanted type; all that is wrong."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Failure:
    """Evaluation gave no value: a missing map key, a variable that is absent, a division by zero."""

    message: str


class Expression:
    """A compiled text; safe to share between threads and to carry over a fork."""

    def __init__(self, text: str, names: tuple[str, ...], run: Callable[[Mapping[str, Any]], Any]) -> None:
        self.text = text
        self.names = names  # all that it depends on
        self._run = run
        self.evaluate = Remembered(names, self.evaluate_anew)
        """Never raises for what the values are; each has the type that its name was declared with."""

    def evaluate_anew(self, values: Known) -> bool | int | float | Failure:
        """As ``evaluate``, and nothing is remembered."""
        known = {name: value for name in self.names if (value := values[name]) is not None}
        result = self._run(known)
        if isinstance(result, bool | int):
            return result
        if isinstance(result, float) and math.isfinite(result):
            return result
        if isinstance(result, str):  # no expression here has a text as its value, so it is an error's message
            return Failure(_in_our_words(result))
        return Failure(f"the value is {result!r}")


class Language:
    """CEL over a fixed set of typed variables."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.names = frozenset(variables)
        self._variables = dict(variables)
        self._env = _environment(variables)

    def compile(self, text: str, wanted: frozenset[str] = BOOLEAN) -> Expression:
        """Raises ``InvalidExpression``; compiled texts are shared."""
        return _compiled(self, text, wanted)

    def _compile(self, text: str, wanted: frozenset[str]) -> Expression:
        if len(text) > _MAX_TEXT:
            raise InvalidExpression((Mistake(1, 1, f"longer than {_MAX_TEXT} characters"),))
        try:
            compiled = self._env.compile(text)
        except RuntimeError as error:
            raise InvalidExpression(self._mistakes(str(error))) from None
        kind = compiled.return_type().name()
        if kind not in wanted:
            expected = "a condition" if "BOOL" in wanted else "a number"
            raise InvalidExpression((Mistake(1, 1, f"must be {expected}; this is {kind.lower()}"),))
        return Expression(text, self._names_in(text), lambda values: self._evaluate(compiled, values))

    def _names_in(self, text: str) -> tuple[str, ...]:
        """The names that occur; all of them if the text spells one in a way that is not found in it."""
        found = {name: kind for name, kind in self._variables.items() if name in text}
        try:
            _environment(found).compile(text)
        except RuntimeError:
            return tuple(self._variables)
        return tuple(found)

    def _evaluate(self, compiled: Any, values: Mapping[str, Any]) -> Any:
        data = {name: _as_utf_8(value) for name, value in values.items()}
        return compiled.eval(self._env.Activation(data=data)).plain_value()

    def _mistakes(self, message: str) -> tuple[Mistake, ...]:
        found = tuple(
            Mistake(int(line), int(column), self._with_a_hint(text))
            for line, column, text in _ERROR.findall(message)
        )
        return found or (Mistake(1, 1, message.split("\n")[0]),)

    def _with_a_hint(self, message: str) -> str:
        unknown = _UNDECLARED.search(message)
        close = get_close_matches(unknown[1], self.names, n=1, cutoff=0.75) if unknown else []
        return f"{message}; did you mean '{close[0]}'?" if close else message


def declare(variables: Mapping[str, str]) -> Language:
    """Types: bool int double string duration, list<string>, map<string, string>, map<string, double>."""
    return Language(variables)


def _environment(variables: Mapping[str, str]) -> Any:
    return cel.NewEnv(variables={name: _TYPES[kind] for name, kind in variables.items()})


@lru_cache(maxsize=4096)
def _compiled(language: Language, text: str, wanted: frozenset[str]) -> Expression:
    return language._compile(text, wanted)


def _as_utf_8(value: Any) -> Any:
    """JSON can carry a lone surrogate and UTF-8 cannot; the library would fail when it evaluates."""
    match value:
        case str():
            return value if value.isascii() else value.encode(errors="replace").decode()
        case list():
            return [_as_utf_8(item) for item in value]
        case dict():
            return {_as_utf_8(key): _as_utf_8(item) for key, item in value.items()}
        case _:
            return value


def _in_our_words(message: str) -> str:
    absent = re.search(r'No value with name "([^"]+)" found', message)
    return f"{absent[1]} is not known" if absent else message.partition(": ")[2] or message


_TYPES: Mapping[str, Any] = {
    "bool": cel.Type.BOOL,
    "int": cel.Type.INT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "duration": cel.Type.DURATION,
    "list<string>": cel.Type.List(cel.Type.STRING),
    "map<string, string>": cel.Type.Map(cel.Type.STRING, cel.Type.STRING),
    "map<string, double>": cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
}
