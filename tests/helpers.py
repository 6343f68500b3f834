"""What tests of every kind share.  The only place that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PROBE_S = 0.02


def wait_until(
    condition: Callable[[], T], deadline_s: float = 10.0, why: str = "", probe_s: float = PROBE_S
) -> T:
    """The first true answer of ``condition``; fails the test when there is none within the deadline."""
    give_up_at = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {deadline_s:g} s: {why or condition}")
        time.sleep(probe_s)
    return answer
