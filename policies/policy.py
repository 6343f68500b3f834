"""A policy, as the engine gets it."""

from __future__ import annotations

from dataclasses import dataclass

from policies.preferences import Preferences
from policies.rules import Deny, Require, SetOptions, Warn


@dataclass(frozen=True, kw_only=True)
class Policy:
    """``digest`` is the SHA-256 of ``text``."""

    name: str
    digest: str
    source: str
    text: str
    hard: tuple[Deny | Require, ...]
    preferences: Preferences
    settings: tuple[SetOptions, ...]
    warnings: tuple[Warn, ...]
