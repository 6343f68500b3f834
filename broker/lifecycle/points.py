"""Names for the places between two effects, where a test can kill, delay or break a process.

In normal use a point is a call that does nothing.  ``BROKER_TEST_POINT=<name>:<kill|exception|delay>:<file>``
arms one point once: the file is the proof that it was passed, so that a restarted process passes unharmed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

# In the order of a job's life.
POINTS: dict[str, str] = {
    "accept_decided": "the provisional decision is made, nothing is written",
    "accepted": "the job is written, no hint is sent",
    "hint_marked": "a hint is marked as outstanding, the message is not sent",
    "hint_sent": "the message is sent",
    "drain_begun": "the hint is taken, no slot yet",
    "drain_entered": "the drain has its slot, nothing is claimed",
    "nothing_due": "a queue was asked and had nothing",
    "claimed": "jobs are claimed, nothing is decided",
    "run_checked": "the server is the one that it was",
    "rerouted": "the job stands in another backend's queue",
    "intent_written": "the attempt is written, nothing is sent",
    "looked_up": "the backend was asked for the marker",
    "held_on": "a dependant that no backend may hold is left to the broker",
    "waits_there": "predecessors are where they were, their dependant is not sent to wait there",
    "submit_returned": "the backend has answered, the handle is not written",
    "handle_written": "the handle is written",
    "step_done": "one claimed job is done with",
    "cancel_returned": "the backend was told to cancel, nothing is written",
    "tasks_cancel_returned": "the backend was told to cancel tasks, nothing is written",
    "update_returned": "the backend was told what is wanted, nothing is written",
    "drain_left": "all is done, the slot is left",
    "observe_begun": "the hint is taken, no lease yet",
    "observe_leased": "the observer has its lease",
    "observed": "the backend was observed, nothing is written",
    "observation_applied": "one observation is written",
    "taken_back": "an attempt that came to nothing is over, and its job judged",
    "absence_proven": "the marker was looked up and not found, nothing is written",
    "observe_done": "all is written, the lease is still held",
    "observe_left": "the lease is given back",
    "refresh_begun": "the hint is taken, the backend was not asked",
    "refresh_asked": "inventory or load were read, nothing is written",
    "release_begun": "the hint is taken, nothing is judged",
    "released": "a chunk of dependants is judged, no hint is sent",
    "forget_begun": "the hint is taken, or the slot is",
    "cleaned_up": "the backend has forgotten an attempt",
    "forgotten": "one job is gone, or postponed",
    "swept": "a step of the sweeper is done",
    "recover_listed": "a backend was asked for all of our jobs, nothing is written",
    "restored": "one record of an export, or one job that a backend knows, is there again",
}

Hook = Callable[[str], None]
_hook: Hook | None = None


class Injected(RuntimeError):
    """The exception that an armed point raises."""


def point(name: str) -> None:
    if _hook is not None:
        _hook(name)


def install(hook: Hook | None) -> None:
    """For tests in this process; None takes it away."""
    global _hook
    _hook = hook


def arm_from_environment(text: str | None) -> None:
    """Called at the start of a worker and a controller; without the variable nothing is armed."""
    if text:
        install(_Armed(text))


class _Armed:
    """Fires once: whoever creates the file is the one."""

    def __init__(self, text: str) -> None:
        self.name, self.mode, self.file = text.split(":", 2)
        if self.name not in POINTS:
            raise ValueError(f"there is no point {self.name}")

    def __call__(self, name: str) -> None:
        if name != self.name:
            return
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
        if self.mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.mode == "exception":
            raise Injected(f"at {name}")
        else:
            time.sleep(float(self.mode.removeprefix("delay")))
