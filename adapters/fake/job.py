"""One job at the fake: virtual, so it is no more than words and due times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapters.fake.script import Plan, word_of

LIVE = frozenset({"WAITING", "HELD", "ACTIVE"})


@dataclass
class Task:
    """One element of an array.  What it says follows from the time."""

    starts_at: float
    ends_at: float
    exit_code: int | None = 0
    word: str = "DONE"

    def row(self, now: float) -> list[Any]:
        """Word, exit code, start and end, as the server sends them."""
        if now < min(self.starts_at, self.ends_at):
            return ["WAITING", None, None, None]
        if now < self.ends_at:
            return ["ACTIVE", None, self.starts_at, None]
        started_at = self.starts_at if self.starts_at <= self.ends_at else None
        return [self.word, self.exit_code, started_at, self.ends_at]


@dataclass
class FakeJob:
    """``*_due`` are in the future of the fake's clock; ``advance`` brings them nearer."""

    id: int
    marker: str
    script: Mapping[str, Any]
    plan: Plan
    submitted_at: float
    start_due: float
    end_due: float = math.inf
    ready_due: float = math.inf
    word: str = "WAITING"
    says: str | None = None  # an unknown word, put over its own
    waits_for: str = "Begin"
    held_back: bool = False  # it is not seen that what it waits for has happened
    restarts: int = 0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    tasks: dict[int, Task] = field(default_factory=dict)
    cancelled_tasks: dict[int, Task] = field(default_factory=dict)  # they stay so over a start and a requeue
    wanted: int = 0
    revision: int = 1
    ready_before: int = 0  # while the newest change is not ready yet
    updated_before: int = 0
    ready_at_most: float = math.inf

    @property
    def after(self) -> list[tuple[int, str]]:
        return [(id, when) for id, when in self.script.get("after", [])]

    @property
    def live(self) -> bool:
        return self.word in LIVE

    @property
    def is_service(self) -> bool:
        return self.script.get("kind") == "inference"

    def begin(self, now: float) -> None:
        self.word, self.started_at, self.waits_for = "ACTIVE", now, "Begin"
        if self.is_service:
            self.ready_due = now + self.plan.ready_s
            return
        limit_s = self.script.get("time_limit_s") or math.inf
        run_s = min(self.plan.run_s, limit_s)
        self.tasks = self._tasks(now, run_s)
        self.end_due = max((task.ends_at for task in self.tasks.values()), default=now + run_s)

    def hold(self, now: float, for_others: bool) -> None:
        """``for_others``: it will still have to wait for those when it is released."""
        self.word = "HELD"
        if not for_others:
            self.waits_for = "Begin"
            self.start_due = now if self.start_due == math.inf else self.start_due

    def waiting_tasks(self) -> dict[int, Task]:
        waiting = {index: Task(math.inf, math.inf) for index in self.script.get("tasks") or []}
        return {**waiting, **self.cancelled_tasks}

    def live_tasks(self, now: float) -> set[int]:
        return {index for index, task in self.tasks.items() if task.ends_at > now}

    def cancel_tasks(self, now: float, indices: Iterable[int]) -> None:
        for index in indices:
            starts_at = self.tasks[index].starts_at
            self.cancelled_tasks[index] = Task(starts_at, now, None, "STOPPED")
        self.tasks = {**self.tasks, **self.cancelled_tasks}
        if self.word == "ACTIVE":
            self.end_due = max(task.ends_at for task in self.tasks.values())

    def _tasks(self, now: float, run_s: float) -> dict[int, Task]:
        """``max_running`` at a time: those of the next wave start when the one before has ended."""
        indices = self.script.get("tasks") or []
        at_once = self.script.get("max_running") or len(indices) or 1
        tasks = {}
        for position, index in enumerate(indices):
            wave = position // at_once
            starts_at = now + (wave * run_s if wave else 0)
            code = self.plan.task_exits.get(index, self.plan.exit_code)
            tasks[index] = Task(starts_at, starts_at + run_s, code, word_of(code))
        return {**tasks, **self.cancelled_tasks}

    def ending(self) -> tuple[str, int | None, int | None]:
        """Native word, exit code and signal of its natural end."""
        if self.cancelled_tasks:
            return "STOPPED", None, None
        if self.tasks:
            code = max((task.exit_code or 0 for task in self.tasks.values()), default=0)
            return word_of(code), code, None
        if self.plan.run_s > (self.script.get("time_limit_s") or math.inf):
            return "OVERTIME", None, 15
        return self.plan.ending

    def end(self, now: float, word: str, exit_code: int | None, signal: int | None) -> None:
        self.word, self.exit_code, self.signal, self.ended_at = word, exit_code, signal, now
        self.end_due = self.start_due = self.ready_due = math.inf
        for task in self.tasks.values():
            if task.ends_at > now:
                task.ends_at, task.word, task.exit_code = now, word, exit_code

    def requeue(self, now: float, start_s: float) -> None:
        self.word, self.started_at, self.tasks = "WAITING", None, self.waiting_tasks()
        self.restarts, self.waits_for = self.restarts + 1, "Begin"
        self.ended_at = self.exit_code = self.signal = None
        self.start_due, self.end_due, self.ready_due = now + start_s, math.inf, math.inf
        self.ready_before = self.updated_before = 0

    def scale(self, now: float, wanted: int, revision: int) -> None:
        """Ready replicas stay while they are replaced; repeated, or come too late, it does nothing."""
        if revision < self.revision or (wanted, revision) == (self.wanted, self.revision):
            return
        self.ready_before = min(self.ready(now), wanted)
        self.updated_before = self.ready_before if revision == self.revision else 0
        self.wanted, self.revision = wanted, revision
        if self.word == "ACTIVE":
            self.ready_due = now + self.plan.ready_s

    def ready(self, now: float) -> int:
        if self.word != "ACTIVE":
            return 0
        return int(min(self.wanted if now >= self.ready_due else self.ready_before, self.ready_at_most))

    def nearer(self, now: float, by_s: float) -> None:
        """Time passes faster: what is due comes nearer, what has happened stays where it was."""

        def moved(due: float) -> float:
            return due if due <= now or due == math.inf else max(now, due - by_s)

        self.start_due, self.end_due, self.ready_due = map(
            moved, (self.start_due, self.end_due, self.ready_due)
        )
        for task in self.tasks.values():
            task.starts_at, task.ends_at = moved(task.starts_at), moved(task.ends_at)

    def row(self, now: float) -> dict[str, Any]:
        """What a listing shows of it."""
        ready = self.ready(now)
        word = "LAUNCHING" if self.is_service and self.word == "ACTIVE" and not ready else self.word
        row: dict[str, Any] = {
            "id": self.id, "marker": self.marker, "word": self.says or word, "restarts": self.restarts,
            "why": self.waits_for if word == "WAITING" else None, "exit_code": self.exit_code,
            "signal": self.signal, "submitted_at": self.submitted_at, "started_at": self.started_at,
            "ended_at": self.ended_at,
        }  # fmt: skip
        if self.tasks:
            row["tasks"] = {index: task.row(now) for index, task in self.tasks.items()}
        if self.word == "DONE":
            outputs: Mapping[str, str] = self.script.get("outputs", {})
            row["outputs"] = {name: f"fake:///{self.marker}/{path}" for name, path in outputs.items()}
        if self.is_service:
            updated = ready if now >= self.ready_due else self.updated_before
            row["service"] = [self.wanted, updated, ready, self.revision]
        return row
