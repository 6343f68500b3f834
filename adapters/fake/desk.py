"""What the fake answers: a table of requests over the machine, and one of what a test may tell it to do.

Writes go by id alone, as at Slurm: it is for the caller to verify whose id that is.
"""

from __future__ import annotations

import base64
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from adapters.fake.job import FakeJob
from adapters.fake.machine import Machine

Answer = dict[str, Any]
Request = dict[str, Any]
Rows = list[Answer]

SHAPES = [
    {"name": "cpu", "count": 4, "cpus": 32, "memory_mib": 131072},
    {"name": "gpu", "count": 4, "cpus": 64, "memory_mib": 524288, "gpus": 8, "gpu_type": "h100"},
]


class NoSuchJob(Exception):
    """Answered with 404."""


class Desk:
    """Called with the server's lock held."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.inventory: dict[str, Any] = {"shapes": SHAPES, "features": [], "limits": {}}
        self.asked: Counter[str] = Counter()

    def answer(self, op: str, request: Request, partial: bool) -> Answer:
        self.asked[op] += 1
        if op in LISTS:
            rows = self._rows(LISTS[op](self, request))
            shown = rows[: len(rows) // 2] if partial else rows
            return {"as_of": time.time(), "complete": not partial, "jobs": shown}
        return OPS[op](self, request)

    def tell(self, name: str, request: Request) -> Answer:
        return CONTROLS[name](self, request) or {}

    def _rows(self, jobs: Iterable[FakeJob]) -> list[Answer]:
        now = time.time()
        return [job.row(now) for job in jobs]

    def _job(self, request: Request) -> FakeJob:
        job = self.machine.jobs.get(request["id"])
        if job is None:
            raise NoSuchJob(f"no job {request['id']}")
        return job

    def _marked(self, request: Request) -> FakeJob:
        """For tests, who name a job by its marker: the first of them."""
        jobs = self.machine.of(request["marker"])
        if not jobs:
            raise NoSuchJob(f"no job of the name {request['marker']}")
        return jobs[0]

    # ---- lists

    def find(self, request: Request) -> Iterable[FakeJob]:
        return self.machine.of(request["marker"])

    def list(self, request: Request) -> Iterable[FakeJob]:
        return (job for marker in request["markers"] for job in self.machine.of(marker))

    def all(self, request: Request) -> Iterable[FakeJob]:
        ours = self.machine.with_prefix(request["prefix"])
        return (job for job in ours if job.ended_at is None or job.ended_at >= request["since"])

    # ---- the rest of what a client may ask

    def submit(self, request: Request) -> Answer:
        job = self.machine.submit(request["script"])
        return {"id": job.id, "submitted_at": job.submitted_at}

    def cancel(self, request: Request) -> Answer:
        self.machine.cancel(self._job(request))
        return {}

    def cancel_tasks(self, request: Request) -> Answer:
        self.machine.cancel_tasks(self._job(request), request["indices"])
        return {}

    def hold(self, request: Request) -> Answer:
        self.machine.record_for(self._job(request), "hold")
        return {}

    def release(self, request: Request) -> Answer:
        self.machine.record_for(self._job(request), "release")
        self.machine.tick()
        return {}

    def update(self, request: Request) -> Answer:
        wanted, revision = request["replicas"], request["revision"]
        self.machine.record_for(self._job(request), "update", replicas=wanted, revision=revision)
        return {}

    def adjust(self, request: Request) -> Answer:
        self.machine.record_for(self._job(request), "adjust", time_limit_s=request["time_limit_s"])
        return {}

    def purge(self, request: Request) -> Answer:
        job = self._job(request)
        if not job.live:
            self.machine.record_for(job, "forget")
        return {}

    def show(self, request: Request) -> Answer:
        """One job with its whole script."""
        job = self._job(request)
        return {**job.row(time.time()), "script": dict(job.script)}

    def scripts(self, request: Request) -> Answer:
        return {"scripts": {str(id): dict(self.machine.jobs[id].script) for id in request["ids"]}}

    def shapes(self, _: Request) -> Answer:
        return {"as_of": time.time(), **self.inventory}

    def load(self, _: Request) -> Answer:
        live = [job for job in self.machine.jobs.values() if job.live]
        running = [job.script for job in live if job.word == "ACTIVE"]
        used = {
            "nodes": sum(script.get("nodes", 1) for script in running),
            "cpus": sum(script.get("cpus", 1) for script in running),
            "gpus": sum(script.get("gpus", 0) for script in running),
        }
        return {
            "as_of": time.time(),
            "used": used,
            "queued": len(live) - len(running),
            "running": len(running),
        }

    def logs(self, request: Request) -> Answer:
        job = self._job(request)
        if job.started_at is None:
            return {"data": "", "size": 0, "ended": not job.live}
        whole = log_of(job, request["stream"], request["task"]).encode()
        start = request["offset"]
        if start is None:
            tail = request["tail"]
            start = 0 if tail is None else max(0, len(whole) - tail)
        data = whole[start : start + request["limit"]]
        text = base64.b64encode(data).decode()
        return {"data": text, "start": start, "size": len(whole), "ended": not job.live}

    def explain(self, request: Request) -> Answer:
        job = self._job(request)
        if job.word not in ("WAITING", "HELD"):
            return {"why": None}
        why = "Hold" if job.word == "HELD" else job.waits_for
        return {"why": why, "running": self.machine.running, "start_due": min(job.start_due, 9e15)}

    def ping(self, _: Request) -> Answer:
        return {"as_of": time.time()}

    # ---- what a test may tell it

    def finish(self, request: Request) -> None:
        self.machine.finish(self._marked(request), request["word"], request["exit_code"], request["signal"])

    def reset(self, _: Request) -> None:
        self.machine.record("reset")
        self.asked.clear()

    def finish_task(self, request: Request) -> None:
        self.machine.finish_task(self._marked(request), request["index"], request["exit_code"])

    def note(self, event: str, request: Request, **fields: Any) -> None:
        self.machine.record_for(self._marked(request), event, **fields)

    def start(self, request: Request) -> None:
        job = self._marked(request)
        self.machine.record_for(job, "start", restart=job.restarts)
        self.machine.look_at(job, job.end_due)

    def has(self, request: Request) -> None:
        self.inventory = request["inventory"]


def log_of(job: FakeJob, stream: str, task: int | None) -> str:
    """The same text each time, so that pages can be compared with the whole."""
    if job.plan.log is not None and stream == "stdout":
        return job.plan.log
    of_task = "" if task is None else f" task {task}"
    return "".join(f"{stream} of {job.marker}{of_task}, line {number}: naïve café\n" for number in range(20))


OPS: dict[str, Callable[[Desk, Request], Answer]] = {
    method.__name__: method
    for method in (
        Desk.submit, Desk.cancel, Desk.cancel_tasks, Desk.hold, Desk.release, Desk.update, Desk.adjust,
        Desk.purge, Desk.show, Desk.scripts, Desk.shapes, Desk.load, Desk.logs, Desk.explain, Desk.ping,
    )
}  # fmt: skip
LISTS: dict[str, Callable[[Desk, Request], Iterable[FakeJob]]] = {
    "find": Desk.find,
    "list": Desk.list,
    "all": Desk.all,
}
# fmt: off
CONTROLS: dict[str, Callable[[Desk, Request], Answer | None]] = {
    "advance":       lambda desk, told: desk.machine.advance(told["seconds"]),
    "asked":         lambda desk, told: dict(desk.asked),
    "finish":        Desk.finish,
    "finish_task":   Desk.finish_task,
    "forget":        lambda desk, told: desk.note("forget", told),
    "has":           Desk.has,
    "hold_back":     lambda desk, told: desk.note("hold_back", told),
    "ready_at_most": lambda desk, told: desk.note("ready_at_most", told, count=told["count"]),
    "requeue":       lambda desk, told: desk.note("requeue", told, start_s=told["start_s"]),
    "reset":         Desk.reset,
    "reuse_ids":     lambda desk, told: desk.machine.record("reuse_ids", first=told["first"]),
    "say":           lambda desk, told: desk.note("say", told, word=told["word"]),
    "start":         Desk.start,
    "waits_for":     lambda desk, told: desk.note("wait_for", told, why=told["why"]),
}
# fmt: on
