"""``Prefer: wait=N`` (RFC 7240): hold the answer back until there is news, for N seconds at the most.

It is a preference: with no thread left for it the answer comes at once.  ``Preference-Applied`` says what
was done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

from flask import request

from broker.web.context import web
from broker.web.slots import Slots

T = TypeVar("T")

CAP_S = 60  # proxies give up on a silent answer at about this time
PERIOD_S = 0.25
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,9})")


def preferred_wait_s() -> int:
    found = WAIT.search(request.headers.get("Prefer", "").lower())
    return min(int(found[1]), CAP_S) if found else 0


def wait_for(read: Callable[[], T], is_news: Callable[[T], bool]) -> tuple[T, dict[str, str]]:
    """The newest value, with the header that tells whether it was waited for."""
    seconds, value = preferred_wait_s(), read()
    if not seconds:
        return value, {}
    slots = web().slots
    if is_news(value) or not slots.take():
        return value, {}
    try:
        return poll(read, is_news, seconds, slots), {"Preference-Applied": f"wait={seconds}"}
    finally:
        slots.give_back()


def poll(read: Callable[[], T], is_news: Callable[[T], bool], seconds: float, slots: Slots) -> T:
    deadline = time.monotonic() + seconds
    while True:
        left = deadline - time.monotonic()
        time.sleep(max(0.0, min(PERIOD_S, left)))
        value = read()
        if is_news(value) or left <= PERIOD_S or slots.is_stopping():
            return value
