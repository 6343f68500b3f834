"""What tests of every kind share.  The only place that sleeps."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
PROBE_S = 0.02
PATIENCE = float(os.environ.get("BROKER_TEST_PATIENCE") or 1)
"""Deadlines are those of a quiet machine; a busy one takes as many times as long."""


def wait_until(
    condition: Callable[[], T], deadline_s: float = 10.0, why: str = "", probe_s: float = PROBE_S
) -> T:
    """The first true answer of ``condition``; fails the test when there is none within the deadline."""
    deadline_s *= PATIENCE
    give_up_at = time.monotonic() + deadline_s
    while not (answer := condition()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {deadline_s:g} s: {why or condition}")
        time.sleep(probe_s)
    return answer


def stop_still(pid: int) -> None:
    """SIGSTOP, until each thread has: on a busy machine one of them may still answer after the signal."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: thread_states(pid) <= {"T", "Z"}, why=f"process {pid} stands still")


def thread_states(pid: int) -> set[str]:
    """The letters that /proc has for them; a thread that ends meanwhile has none."""
    states = set()
    for thread in Path("/proc", str(pid), "task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            states.add(stat_of(thread)[0])
    return states


def stat_of(folder: Path) -> list[str]:
    """What /proc says of a process or a thread after its name: state, parent and so on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()
