"""What the fake does wrong, as told: rules that are used up, one of each kind at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

WRITES = frozenset({"submit", "cancel", "cancel_tasks", "hold", "release", "update", "adjust", "purge"})
LISTINGS = frozenset({"find", "list", "all"})
SUBMIT = frozenset({"submit"})

# What each kind spoils unless told otherwise (None: everything), and what its value is.
# fmt: off
KINDS: dict[str, frozenset[str] | None] = {
    "drop":     None,      # the connection closes before it acts
    "flap":     None,      # every second request is dropped
    "delay":    None,      # value: seconds before it acts
    "busy":     None,      # it did not act; value: seconds after which to come again
    "slow":     None,      # it acted; value: seconds until it answers
    "lose":     WRITES,    # it acted, the answer is lost
    "late":     SUBMIT,    # no answer, and it acts only after value seconds
    "refuse":   SUBMIT,    # for good; value: a reason
    "partial":  LISTINGS,  # half of the rows, and it says so
    "garbage":  None,      # it acted; value: what it answers instead
    "truncate": None,      # it acted; half of the answer
}
# fmt: on


@dataclass
class Rule:
    ops: frozenset[str] | None
    times: int  # -1: until it is cleared
    value: Any
    seen: int = 0

    def strikes(self, kind: str, op: str) -> bool:
        if self.times == 0 or (self.ops is not None and op not in self.ops):
            return False
        self.seen += 1
        if kind == "flap" and self.seen % 2 == 0:
            return False
        self.times -= self.times > 0
        return True


@dataclass
class Faults:
    rules: dict[str, Rule] = field(default_factory=dict)
    thawed: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.thawed.set()

    def set(self, kind: str, times: int, value: Any, ops: list[str] | None) -> None:
        spoiled = KINDS[kind] if ops is None else frozenset(ops)
        with self._lock:
            self.rules[kind] = Rule(spoiled, times, value)

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()
        self.thawed.set()

    def fate(self, op: str) -> dict[str, Any]:
        """Kind and value of each fault that this request meets."""
        if not self.rules:
            return {}
        with self._lock:
            return {kind: rule.value for kind, rule in self.rules.items() if rule.strikes(kind, op)}
