"""The store alone, as its tests use it: jobs that nobody placed, and the writes that a worker would do.

world = World(store)
job = world.accept()
claim = world.claim()[0]
world.begin(claim)          # ACCEPTED -> SUBMITTING, as written before a backend is called
world.hand_over(claim)      # SUBMITTING -> QUEUED, with a handle
world.end(job)
"""

from __future__ import annotations

import itertools
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api_spec.ids import from_bytes, new_id
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from broker.store import Store, open_store
from broker.store.changes import Change, Guard, Live
from broker.store.idempotency import Idempotency
from broker.store.jobs import Claim, ClaimLimits, NewJob, Written
from broker.store.records import AttemptRecord, JobRecord
from broker.store.store import StoreOptions

BACKEND = "hpc"
SUBMIT, ACT = f"submit:{BACKEND}", f"act:{BACKEND}"
LONG_S = 1000.0  # a lease that no test outlives
REASONS = {
    JobState.COMPLETED: Reason.COMPLETED,
    JobState.FAILED: Reason.NON_ZERO_EXIT,
    JobState.CANCELLED: Reason.CANCELLED,
}
_order = itertools.count()


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Store]:
    """A store with a prefix of its own on a server that others use too."""
    store = open_store(url, StoreOptions(**{"prefix": f"s{uuid.uuid4().hex[:8]}:", **options}))
    meta = store.meta()
    if meta["incarnation"] == meta["first_incarnation"]:  # the time, and tests write down the ids of events
        store.client.hset(f"{store.prefix}meta", mapping={"incarnation": "1", "first_incarnation": "1"})
    try:
        yield store
    finally:
        store.close()


def job_id_at(seconds: float) -> str:
    return new_id(seconds, os.urandom(10))


def new_job(**changes: Any) -> NewJob:
    """A training job for ``BACKEND``.  ``changes``: members of ``NewJob``, or fields of the record."""
    members = ("id", "spec", "decision", "queue", "deps", "event")
    own = {name: changes.pop(name) for name in members if name in changes}
    fields = {
        "kind": "training",
        "name": "train",
        "project": "vision",
        "owner": "ana",
        "state": JobState.ACCEPTED,
        **changes,
    }
    if fields.get("held"):
        fields.setdefault("reason", "Held")
    # One millisecond apart, so that the order of ids is the order of making.
    defaults = {"id": job_id_at(time.time() + next(_order) / 1000), "spec": b"spec", "decision": b"decision"}
    return NewJob(**{**defaults, "queue": SUBMIT, **own}, fields=fields)


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs = store.jobs

    # ---- steps of a life -----------------------------------------------------------------------------

    def accept(self, idempotency: Idempotency | None = None, **changes: Any) -> str:
        answer = self.jobs.accept([new_job(**changes)], idempotency)
        assert answer.verdict == "ok", answer
        return answer.ids[0]

    def claim(
        self, count: int = 100, lease_s: float = LONG_S, lane: str = "submit", **limits: Any
    ) -> list[Claim]:
        return self.jobs.claim(lane, BACKEND, ClaimLimits(count=count, lease_s=lease_s, **limits))

    def begin(self, claim: Claim, max_live: int | None = None, lease_s: float = LONG_S) -> Written:
        number = claim.record.attempt + 1
        attempt = AttemptRecord(
            number=number,
            marker=f"wb-test-{claim.record.id.lower()}-{number}",
            backend=BACKEND,
            state=AttemptState.SUBMITTING,
            submitted_at=time.time(),
        )
        change = Change(
            set={"state": JobState.SUBMITTING, "backend": BACKEND, "attempt": number, "reason": None},
            attempt=attempt,
            decision=(number, b"binding"),
            live=(BACKEND, Live(attempt=number)),
            events=(("submitting", {"backend": BACKEND}),),
            due=(ACT, lease_s),
            keeps_claim=True,
        )
        guard = Guard(
            epoch=claim.record.epoch,
            version=claim.record.version,
            states=(JobState.ACCEPTED,),
            below=None if max_live is None else (BACKEND, max_live),
        )
        return self.jobs.move(claim.record.id, guard, change)

    def hand_over(self, claim: Claim) -> Written:
        number = self.read(claim.record.id).attempt
        change = Change(
            set={"state": JobState.QUEUED, "tries": 0, "lease": None},
            live=(BACKEND, Live(attempt=number, handle={"id": "7"})),
            no_due=True,
            events=(("queued", {"backend": BACKEND}),),
        )
        return self.jobs.move(claim.record.id, guard_of(claim, JobState.SUBMITTING), change)

    def turned_away(self, claim: Claim) -> Written:
        """As after ``Rejected``: the attempt is over, another will follow."""
        return self.jobs.move(claim.record.id, guard_of(claim, JobState.SUBMITTING), again())

    def start(self, job_id: str, **fields: Any) -> Written:
        record = self.read(job_id)
        change = Change(
            set={"state": JobState.RUNNING, "started": int(time.time() * 1000), **fields},
            events=(("running", {}),),
            wake=True,
        )
        return self.jobs.move(job_id, Guard(version=record.version), change)

    def end(self, job_id: str, state: JobState = JobState.COMPLETED) -> Written:
        return self.jobs.end(job_id, Guard(version=self.read(job_id).version), ending(state))

    def queued(self, **changes: Any) -> str:
        """A job that stands at the backend."""
        job_id = self.accept(**changes)
        claim = next(claim for claim in self.claim() if claim.record.id == job_id)
        assert (self.begin(claim), self.hand_over(claim)) == (Written.OK, Written.OK)
        return job_id

    def running(self, **changes: Any) -> str:
        job_id = self.queued(**changes)
        assert self.start(job_id) is Written.OK
        return job_id

    def pack(self, job_id: str) -> str:
        parts = self.jobs.parts(job_id)
        assert parts is not None
        return self.store.archive.pack(parts)

    def forget(self, job_id: str) -> str:
        parts = self.jobs.parts(job_id)
        assert parts is not None
        return self.store.archive.forget(parts, int(time.time() * 1000))

    # ---- what is there -------------------------------------------------------------------------------

    def read(self, job_id: str) -> JobRecord:
        record = self.jobs.read(job_id)
        assert record is not None, f"there is no job {job_id}"
        return record

    def state(self, job_id: str) -> JobState:
        return self.read(job_id).state

    def key(self, name: str) -> str:
        return self.store.prefix + name

    def names(self) -> set[str]:
        """Every key, without the prefix.  Tests alone may ask so."""
        keys = self.store.client.scan_iter(match=self.store.prefix + "*", count=1000)
        return {key.decode().removeprefix(self.store.prefix) for key in keys}

    def due_in(self, queue: str, project: str = "vision") -> dict[str, float]:
        rows = self.store.client.zrange(self.key(f"due:{queue}:{project}"), 0, -1, withscores=True)
        return {job_id.decode(): score for job_id, score in rows}

    def members(self, name: str) -> set[str]:
        key = self.key(name)
        kind = self.store.client.type(key)
        rows = {b"zset": lambda: self.store.client.zrange(key, 0, -1), b"none": list}.get(
            kind, lambda: self.store.client.smembers(key)
        )()
        return {_member(name, row) for row in rows}

    def events(self, project: str = "vision") -> list[tuple[str, str | None]]:
        page = self.store.events.of_project(project, None, 100_000)
        return [(event.type, event.job) for event in page.items]


def _member(name: str, row: bytes) -> str:
    """Members of an index end with the 16 bytes of an id; here with its letters."""
    if not name.startswith("index:"):
        return row.decode()
    return row[:-16].decode() + from_bytes(row[-16:])


def guard_of(claim: Claim, *states: JobState) -> Guard:
    return Guard(epoch=claim.record.epoch, states=states)


def ending(state: JobState) -> Change:
    return Change(set={"state": state, "reason": REASONS[state]}, events=((state.lower(), {}),))


def again() -> Change:
    """An attempt ended and another will follow."""
    return Change(
        set={"state": JobState.ACCEPTED, "backend": None},
        not_live=BACKEND,
        due=(SUBMIT, 0),
        events=(("rejected", {}),),
    )
