"""The store against a pure model, over random lives of jobs: nothing is stuck, nothing is undone.

The model knows the two state machines and where a job must stand (in a queue, at a backend, held, behind
another one).  Rules do what users, workers and observers do, each with a stale rival that must be refused.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as some
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from api_spec.states import FINAL, LIVE_AT_A_BACKEND, JobState, may_move
from broker.store.changes import Change, Guard
from broker.store.jobs import Written
from tests.helpers import wait_until
from tests.store_kit import ACT, BACKEND, LONG_S, SUBMIT, World, again, ending, guard_of, opened

S = JobState
LONG_AGO_MS = 1
MET = {
    "started": lambda p: p.started or p.state is S.COMPLETED,
    "succeeded": lambda p: p.state is S.COMPLETED,
    "failed": lambda p: p.state is S.FAILED,
    "ended": lambda p: p.state in FINAL,
}


@dataclass
class Model:
    """One job as it must be."""

    deps: tuple[tuple[str, str], ...] = ()
    held: bool = False
    state: JobState = S.ACCEPTED
    version: int = 1
    epoch: int = 0
    queue: str | None = None
    claimed: bool = False  # by a worker that lives: due again after a long time only
    waits: bool = False
    woken: bool = False  # on the list of those to be judged anew
    cancel: bool = False
    started: bool = False
    handle: bool = False
    attempt: int = 0

    @property
    def final(self):
        return self.state in FINAL

    def stands(self, queue):
        self.queue, self.claimed = queue, False

    def ends(self, state):
        self.state, self.queue, self.handle, self.cancel, self.claimed = state, None, False, False, False
        self.version += 1


class StoreMachine(RuleBasedStateMachine):
    url: str
    ids = Bundle("ids")
    claims = Bundle("claims")

    def __init__(self):
        super().__init__()
        self.open = opened(self.url)
        self.world = World(self.open.__enter__())
        self.jobs = self.world.jobs
        self.model: dict[str, Model] = {}
        self.versions: dict[str, int] = {}
        self.stale = 0
        self.accept_one(())

    def teardown(self):
        self.open.__exit__(None, None, None)

    # ---- the model's own steps -----------------------------------------------------------------------

    def judge(self, deps):
        verdict = "met"
        for job_id, when in deps:
            p = self.model[job_id]
            if not MET[when](p):
                if p.final:
                    return "never"
                verdict = "waits"
        return verdict

    def wake(self, job_id):
        for model in self.model.values():
            if not model.final and any(edge[0] == job_id for edge in model.deps):
                model.woken = True

    def moved(self, job_id, written, expected, **changes):
        """What the store answered is what the model expects; if it wrote, the model changes, too."""
        assert written is expected
        model = self.model[job_id]
        if written is Written.STALE:
            self.stale += 1
        if written is Written.OK:
            model.version += 1
            for name, value in changes.items():
                setattr(model, name, value)
            # A cancel that came too early is acted on as soon as the job stands at a backend.
            if model.cancel and model.state in (S.QUEUED, S.RUNNING) and not changes.get("queue"):
                model.stands(ACT)

    def answer(self, claim, *states, version=None):
        model = self.model[claim.record.id]
        if model.epoch != claim.record.epoch:
            return Written.STALE
        if version not in (None, model.version):
            return Written.CHANGED
        if model.state not in states:
            return Written.STATE
        return Written.OK

    def accept_one(self, deps, held=False):
        job_id = self.world.accept(deps=deps, labels={"n": str(len(self.model) % 2)}, held=held or None)
        model = Model(deps=deps, held=held)
        verdict = self.judge(deps)
        model.waits = verdict != "met"
        model.woken = verdict == "never"
        if not model.waits and not held:
            model.stands(SUBMIT)
        self.model[job_id] = model
        return job_id

    # ---- users ---------------------------------------------------------------------------------------

    @rule(target=ids, held=some.booleans())
    def accept(self, held):
        return self.accept_one((), held)

    @rule(target=ids, first=ids, other=ids, when=some.sampled_from(sorted(MET)), held=some.booleans())
    def accept_dependant(self, first, other, when, held):
        return self.accept_one(((first, when), (other, "ended")), held)

    @rule(job_id=ids)
    def cancel(self, job_id):
        model = self.model[job_id]
        answer = self.jobs.cancel(job_id, "user:ana")

        if model.final:
            assert answer == "final"
        elif model.state is S.ACCEPTED:
            assert answer == "ended"
            model.epoch += 1
            model.ends(S.CANCELLED)
            self.wake(job_id)
        elif model.cancel:
            assert answer == "asked"
        else:
            self.moved(job_id, Written.OK if answer == "asked" else None, Written.OK, cancel=True)
            if model.state is S.SUBMITTING and not model.claimed:
                model.stands(ACT)  # nobody is at it, so somebody is to look at once

    @rule(job_id=ids)
    def hold_or_let_go(self, job_id):
        model = self.model[job_id]
        held = not model.held
        due = (SUBMIT, 0) if not held and not model.waits else None
        change = Change(set={"held": held or None}, no_due=held, due=due)
        written = self.jobs.move(job_id, Guard(version=model.version, states=(S.ACCEPTED,)), change)

        expected = Written.OK if model.state is S.ACCEPTED else Written.STATE
        queue = SUBMIT if due else None
        self.moved(job_id, written, expected, held=held, queue=queue, claimed=False)

    # ---- workers -------------------------------------------------------------------------------------

    @rule(target=claims, lane=some.sampled_from([SUBMIT, ACT]), slept=some.booleans())
    def claim(self, lane, slept):
        """``slept``: the first worker sleeps over its lease, a second one comes, then the first wakes up."""
        asleep = self.take(lane)
        if not slept:
            return multiple(*asleep)
        self.forget_leases(lane, [claim.record.id for claim in asleep])
        return multiple(*asleep, *self.take(lane))

    def take(self, lane):
        """Everything that is due, no more and no less."""
        due = {job_id for job_id, m in self.model.items() if m.queue == lane and not m.claimed}
        found = []

        def taken():
            found.extend(self.world.claim(lane=lane.partition(":")[0], lease_s=LONG_S))
            return {claim.record.id for claim in found} >= due

        wait_until(taken, 5, f"{due} are due in {lane}")
        assert {claim.record.id for claim in found} == due
        for claim in found:
            model = self.model[claim.record.id]
            model.epoch += 1
            model.claimed = True
            assert claim.record.epoch == model.epoch
        return found

    def forget_leases(self, lane, due):
        """As if the leases were over: the same entries are due now."""
        for job_id in due:
            self.world.store.client.zadd(self.world.key(f"due:{lane}:vision"), {job_id: LONG_AGO_MS})
            self.world.store.client.hset(self.world.key(f"job:{job_id}"), "lease", LONG_AGO_MS)
            self.model[job_id].claimed = False

    @rule(target=claims, handed_over=some.booleans())
    def submit(self, handed_over):
        """All that is due, at least as far as the intent: random steps alone seldom come that far."""
        claimed = self.take(SUBMIT)
        for claim in claimed:
            self.begin(claim)
            if handed_over:
                self.hand_over(claim)
        return multiple(*claimed)

    @rule(claim=claims)
    def die(self, claim):
        """Whatever it has begun, the job is given back."""
        model = self.model[claim.record.id]
        if model.epoch == claim.record.epoch and model.claimed and model.queue:
            self.forget_leases(model.queue, [claim.record.id])

    @rule(claim=claims)
    def begin(self, claim):
        job_id = claim.record.id
        expected = self.answer(claim, S.ACCEPTED, version=claim.record.version)
        live = claim.record.attempt + 1

        written = self.world.begin(claim)

        self.moved(
            job_id, written, expected, state=S.SUBMITTING, attempt=live, handle=False, queue=ACT, claimed=True
        )

    @rule(claim=claims)
    def hand_over(self, claim):
        expected = self.answer(claim, S.SUBMITTING)

        written = self.world.hand_over(claim)

        self.moved(claim.record.id, written, expected, state=S.QUEUED, handle=True, queue=None, claimed=False)

    @rule(claim=claims)
    def turned_away(self, claim):
        model = self.model[claim.record.id]
        expected = self.answer(claim, S.SUBMITTING)

        written = self.world.turned_away(claim)

        if written is expected is Written.OK and model.cancel:
            model.ends(S.CANCELLED)  # the user wanted no other attempt
            self.wake(claim.record.id)
            return
        self.moved(
            claim.record.id, written, expected, state=S.ACCEPTED, handle=False, queue=SUBMIT, claimed=False
        )

    @rule(claim=consumes(claims))
    def withdrawn(self, claim):
        """A cancel before the backend had it."""
        expected = self.answer(claim, S.SUBMITTING)
        written = self.jobs.end(claim.record.id, guard_of(claim, S.SUBMITTING), ending(S.CANCELLED))

        assert written is expected
        self.stale += written is Written.STALE
        if written is Written.OK:
            self.model[claim.record.id].ends(S.CANCELLED)
            self.wake(claim.record.id)

    @rule(limit=some.integers(1, 3))
    def release(self, limit):
        """Until nothing is left; in which order they are judged is nobody's business."""
        while self.jobs.release(limit)[0]:
            pass
        while woken := [m for m in self.model.values() if m.woken]:
            for model in woken:
                model.woken = False
                self.judge_again(model)

    def judge_again(self, model):
        verdict = self.judge(model.deps)
        if model.final or not model.waits or verdict == "waits":
            return
        model.waits = False
        if verdict == "never":
            model.ends(S.FAILED)
            self.wake(next(job_id for job_id, m in self.model.items() if m is model))
            return
        model.version += 1
        if not model.held:
            model.stands(SUBMIT)

    # ---- observers -----------------------------------------------------------------------------------

    @rule(job_id=ids, target_state=some.sampled_from([S.QUEUED, S.RUNNING, S.ACCEPTED]), late=some.booleans())
    def observe(self, job_id, target_state, late):
        model = self.model[job_id]
        if not model.handle or not may_move(model.state, target_state) or model.state is target_state:
            return
        change = again() if target_state is S.ACCEPTED else Change(set={"state": target_state})
        if target_state is S.RUNNING:
            change = Change(set={"state": S.RUNNING, "started": 1}, wake=True)
        written = self.jobs.move(job_id, Guard(version=model.version - late), change)

        if target_state is S.ACCEPTED and model.cancel and not late:
            assert written is Written.OK
            model.ends(S.CANCELLED)  # what was cancelled is not retried
            self.wake(job_id)
            return
        changes = {"state": target_state}
        if target_state is S.ACCEPTED:
            changes |= {"handle": False, "queue": SUBMIT, "claimed": False}
        if target_state is S.RUNNING:
            changes |= {"started": True}
        self.moved(job_id, written, Written.CHANGED if late else Written.OK, **changes)
        if target_state is S.RUNNING and not late:
            self.wake(job_id)

    @rule(job_id=ids, state=some.sampled_from(sorted(FINAL)), late=some.booleans())
    def end(self, job_id, state, late):
        model = self.model[job_id]
        if not model.handle and not model.final:
            return
        written = self.jobs.end(job_id, Guard(version=model.version - late), ending(S(state)))

        if late or model.final:
            assert written is (Written.CHANGED if late else Written.STATE)
            return
        assert written is Written.OK
        model.ends(S(state))
        self.wake(job_id)

    # ---- what always holds ---------------------------------------------------------------------------

    @invariant()
    def the_store_is_as_the_model(self):
        records = dict(zip(self.model, self.jobs.read_many(list(self.model)), strict=True))
        for job_id, model in self.model.items():
            record = records[job_id]
            assert (record.state, record.version, record.epoch) == (model.state, model.version, model.epoch)
            assert (record.waits, record.held) == (model.waits, model.held) or model.final
            assert (record.queue, bool(record.cancel)) == (model.queue, model.cancel)
            assert (record.ended is not None) == model.final
            assert record.version >= self.versions.get(job_id, 1), "versions only rise"
            self.versions[job_id] = record.version
        assert self.world.store.counters().get("stale_writes", 0) == self.stale
        self.the_index_is_as(records)

    def the_index_is_as(self, records):
        expected = set()
        for n, (job_id, m) in enumerate(self.model.items()):
            values = [f"s={m.state}", "k=training", "o=ana", "n=train", f"l=n={n % 2}"]
            values += [f"b={BACKEND}"] if records[job_id].backend else []
            expected |= {f"{value}\0{job_id}" for value in values}
        assert self.world.members("index:vision") == expected
        assert self.world.members("ended") == {job_id for job_id, m in self.model.items() if m.final}

    @invariant()
    def nothing_is_stuck(self):
        due = {**self.world.due_in(SUBMIT), **self.world.due_in(ACT)}
        live = self.world.store.backends.live(BACKEND)
        for job_id, model in self.model.items():
            entry = live.get(job_id)
            at_a_backend = entry is not None and entry.handle is not None
            if model.final:
                assert job_id not in due and entry is None
                continue
            held = model.held and model.state is S.ACCEPTED
            assert (job_id in due) or at_a_backend or held or model.waits, f"{job_id} is stuck: {model}"
            assert (entry is not None) == (model.state in LIVE_AT_A_BACKEND)
            assert at_a_backend == model.handle
        assert set(due) == {job_id for job_id, m in self.model.items() if m.queue}

    @invariant()
    def whoever_waits_is_known_to_its_predecessors(self):
        """Otherwise its predecessor could be forgotten, or end without anybody looking at the dependant."""
        edges = [(job_id, first) for job_id, m in self.model.items() for first, _ in m.deps]
        pipe = self.world.store.client.pipeline(transaction=False)
        for job_id, first in edges:
            pipe.sismember(self.world.key(f"dependants:{first}"), job_id)
        known = [bool(answer) for answer in pipe.execute()]
        assert known == [not self.model[job_id].final for job_id, _ in edges]


def test_no_life_of_jobs_breaks_the_store(redis_server):
    machine = type(f"Machine{uuid.uuid4().hex[:4]}", (StoreMachine,), {"url": redis_server})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
