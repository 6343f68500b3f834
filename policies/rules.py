"""What a policy consists of: five forms of rule over one backend at a time, in the order of the file.

| form    | when it matches                                                    |
|---------|--------------------------------------------------------------------|
| deny    | the backend loses, with the sentence                                 |
| require | the backend loses unless the condition holds, with the sentence       |
| prefer  | the backend gets points, as a number or an expression                  |
| set     | the backend, if it wins, is handed these options; later rules win       |
| warn    | the decision carries the sentence, if this backend wins                  |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policies.expressions import Expression
from policies.sentences import Sentence


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``when`` None: always.  The two marks say what its condition rests on (``policies.variables``)."""

    name: str
    when: Expression | None = None
    rests_on_the_inventory: bool = False
    rests_on_the_moment: bool = False


@dataclass(frozen=True, kw_only=True)
class Deny(Rule):
    sentence: Sentence


@dataclass(frozen=True, kw_only=True)
class Require(Rule):
    condition: Expression
    sentence: Sentence


@dataclass(frozen=True, kw_only=True)
class Prefer(Rule):
    points: float | Expression
    sentence: Sentence


@dataclass(frozen=True, kw_only=True)
class SetOptions(Rule):
    """A string among the values is a sentence; all else is taken as it is."""

    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Warn(Rule):
    sentence: Sentence
