"""The state of the fake: every change is an entry of the ledger first, and a function of the entries.

So a killed server that reads its ledger again knows what it had accepted.  It knows no sockets and no faults.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from adapters.fake.job import FakeJob
from adapters.fake.script import Plan, read_script, word_of

Entry = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Habits:
    """``slots``: so many jobs run at once, the rest waits; ``start_s``, ``run_s`` of jobs that do not say."""

    start_s: float = 0.0
    run_s: float = 0.0
    slots: float = math.inf


class Machine:
    """Not safe from several threads: the server holds a lock."""

    def __init__(self, habits: Habits, write: Callable[[Entry], None]) -> None:
        self.jobs: dict[int, FakeJob] = {}
        self.running = self.live = 0
        self._habits = habits
        self._write = write
        self._by_marker: dict[str, list[int]] = {}
        self._next_id = 1
        self._due: list[tuple[float, int]] = []  # when to look at which job
        self._late: list[tuple[float, str]] = []  # accepted then; lost if the server is killed before
        self._ready: deque[int] = deque()  # may start as soon as there is a slot
        self._waiting: set[int] = set()  # for other jobs

    # ---- what is asked

    def of(self, marker: str) -> list[FakeJob]:
        return [self.jobs[id] for id in self._by_marker.get(marker, ())]

    def with_prefix(self, prefix: str) -> Iterator[FakeJob]:
        return (job for job in self.jobs.values() if job.marker.startswith(prefix))

    def next_due(self) -> float:
        return min(self._due[0][0] if self._due else math.inf, self._late[0][0] if self._late else math.inf)

    # ---- what changes it

    def restore(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._apply(entry)
        self._look_again()

    def submit(self, text: str) -> FakeJob:
        marker = read_script(text)["name"]
        while self._next_id in self.jobs and self.jobs[self._next_id].live:
            self._next_id += 1
        id = self._next_id
        self.record("accept", id=id, marker=marker, script=text)
        self.tick()
        return self.jobs[id]

    def submit_later(self, text: str, delay_s: float) -> None:
        heapq.heappush(self._late, (time.time() + delay_s, text))

    def record(self, event: str, **fields: Any) -> None:
        entry: Entry = {"at": time.time(), "event": event, **fields}
        self._write(entry)
        self._apply(entry)

    def record_for(self, job: FakeJob, event: str, **fields: Any) -> None:
        self.record(event, id=job.id, marker=job.marker, **fields)

    def advance(self, by_s: float) -> None:
        self.record("advance", seconds=by_s)
        self._late = [(due - by_s, text) for due, text in self._late]
        self._look_again()
        self.tick()

    def cancel(self, job: FakeJob) -> None:
        if job.live:
            self.record_for(job, "cancel")
            self.finish(job, "STOPPED", None, 15)

    def cancel_tasks(self, job: FakeJob, indices: Iterable[int]) -> None:
        live = job.live_tasks(time.time()).intersection(indices)
        if job.live and live:
            self.record_for(job, "cancel_tasks", indices=sorted(live))
            if not job.live_tasks(time.time()):
                self.finish(job, *job.ending())
            self.look_at(job, job.end_due)

    def finish(self, job: FakeJob, word: str, exit_code: int | None, signal: int | None) -> None:
        if job.live:
            self.record_for(job, "finish", word=word, exit_code=exit_code, signal=signal)
            self.tick()

    def finish_task(self, job: FakeJob, index: int, exit_code: int) -> None:
        self.record_for(job, "finish_task", index=index, exit_code=exit_code)
        self.look_at(job, job.end_due)
        self.tick()

    def tick(self) -> None:
        """Do what is due: late requests are accepted, jobs start and end."""
        now = time.time()
        while self._late and self._late[0][0] <= now:
            self.submit(heapq.heappop(self._late)[1])
        while self._due and self._due[0][0] <= now:
            job = self.jobs.get(heapq.heappop(self._due)[1])
            if job is not None:
                self._step(job, now)
        self._judge_what_waits()
        self._start_what_has_a_slot()

    def look_at(self, job: FakeJob, due: float) -> None:
        if due < math.inf:
            heapq.heappush(self._due, (due, job.id))

    def _step(self, job: FakeJob, now: float) -> None:
        if job.word == "WAITING" and job.start_due <= now:
            job.start_due, job.waits_for = math.inf, "Slots"
            self._ready.append(job.id)
        elif job.word == "ACTIVE" and job.end_due <= now:
            word, exit_code, signal = job.ending()
            self.record_for(job, "finish", word=word, exit_code=exit_code, signal=signal)

    def _judge_what_waits(self) -> None:
        """Of an id that it does not know it thinks that it has ended well, and one is as good as another."""
        for job in [self.jobs[id] for id in sorted(self._waiting) if not self.jobs[id].held_back]:
            known = [(self.jobs[id], when) for id, when in job.after if id in self.jobs]
            if job.live and any(when == "succeeded" and not _may_succeed(one) for one, when in known):
                self.record_for(job, "finish", word="IN_VAIN", exit_code=None, signal=None)
            elif job.word == "WAITING" and not any(one.live for one, _ in known):
                self.record_for(job, "may_start")

    def _start_what_has_a_slot(self) -> None:
        while self._ready and self.running < self._habits.slots:
            job = self.jobs.get(self._ready.popleft())
            if job is None or job.word != "WAITING" or job.waits_for != "Slots":
                continue
            self.record_for(job, "start", restart=job.restarts)
            while job.word == "ACTIVE" and job.end_due <= time.time():
                self._step(job, time.time())
            self.look_at(job, job.end_due)
            self._judge_what_waits()

    def _look_again(self) -> None:
        self._due = [(min(job.start_due, job.end_due), job.id) for job in self.jobs.values() if job.live]
        known = set(self._ready)
        self._ready.extend(
            id for id, job in self.jobs.items() if job.waits_for == "Slots" and id not in known
        )
        heapq.heapify(self._due)
        heapq.heapify(self._late)

    # ---- what an entry means

    def _apply(self, entry: Entry) -> None:
        event, at = entry["event"], entry["at"]
        if event == "accept":
            self._accept(entry)
        elif event == "advance":
            for job in self.jobs.values():
                job.nearer(at, entry["seconds"])
        elif event == "reuse_ids":
            self._next_id = entry["first"]
        elif event == "reset":
            self.jobs, self._by_marker, self._waiting = {}, {}, set()
            self.running, self.live, self._next_id = 0, 0, 1
        else:
            self._apply_to(self.jobs[entry["id"]], entry)

    def _accept(self, entry: Entry) -> None:
        if entry["id"] in self.jobs:  # ids are reused: what had this one before is history
            self._forget(self.jobs[entry["id"]])
        script, at = read_script(entry["script"]), entry["at"]
        plan = Plan.of(script.get("environment", {}), self._habits.start_s, self._habits.run_s)
        job = FakeJob(entry["id"], entry["marker"], script, plan, at, at + plan.start_s)
        job.wanted, job.revision = script.get("replicas") or 0, script.get("revision") or 1
        job.tasks = job.waiting_tasks()
        self.jobs[job.id] = job
        self._by_marker.setdefault(job.marker, []).append(job.id)
        self._next_id, self.live = job.id + 1, self.live + 1
        if job.after:
            job.start_due, job.waits_for = math.inf, "After"
            self._waiting.add(job.id)
        self.look_at(job, job.start_due)

    def _forget(self, job: FakeJob) -> None:
        self.running -= job.word == "ACTIVE"
        self.live -= job.live
        del self.jobs[job.id]
        self._waiting.discard(job.id)
        self._by_marker[job.marker].remove(job.id)

    def _apply_to(self, job: FakeJob, entry: Entry) -> None:
        event, at = entry["event"], entry["at"]
        ran, lived = job.word == "ACTIVE", job.live
        if event == "start":
            job.begin(at)
        elif event == "may_start":
            self._waiting.discard(job.id)
            job.start_due, job.waits_for = at + job.plan.start_s, "Begin"
            self.look_at(job, job.start_due)
        elif event == "finish":
            self._waiting.discard(job.id)
            job.end(at, entry["word"], entry["exit_code"], entry["signal"])
        elif event == "requeue":
            job.requeue(at, entry["start_s"])
            self.look_at(job, job.start_due)
        elif event == "adjust":
            job.script = {**job.script, "time_limit_s": entry["time_limit_s"]}
        elif event == "forget":
            self._forget(job)
            return
        else:
            self._change(job, entry)
        self.running += (job.word == "ACTIVE") - ran
        self.live += job.live - lived

    def _change(self, job: FakeJob, entry: Entry) -> None:
        event, at = entry["event"], entry["at"]
        if event == "hold" and job.word == "WAITING":
            job.hold(at, for_others=job.id in self._waiting)
        elif event == "release" and job.word == "HELD":
            job.word = "WAITING"
            self.look_at(job, job.start_due)
        elif event == "update":
            job.scale(at, entry["replicas"], entry["revision"])
        elif event == "say":
            job.says = entry["word"]
        elif event == "hold_back":
            job.held_back = True
        elif event == "wait_for":
            job.waits_for, job.start_due = entry["why"], math.inf
        elif event == "ready_at_most":
            job.ready_at_most = math.inf if entry["count"] is None else entry["count"]
        elif event == "cancel_tasks":
            job.cancel_tasks(at, entry["indices"])
        elif event == "finish_task":
            task = job.tasks[entry["index"]]
            task.ends_at, task.exit_code, task.word = at, entry["exit_code"], word_of(entry["exit_code"])
            job.end_due = max(task.ends_at for task in job.tasks.values())


def _may_succeed(job: FakeJob) -> bool:
    return job.live or job.word == "DONE"
