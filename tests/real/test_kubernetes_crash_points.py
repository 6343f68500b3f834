"""The API server is killed before and after each request that changes something, of each verb of the adapter.

A wire in front of it ends the connection there, and nothing more of the verb arrives; then the API server is
killed and started again, and then each verb is repeated as the broker would.  Each attempt is then one
object, and nothing is left that belongs to none.  To die at a read is to die before the request after it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from adapters.base import Absent, Found
from adapters.errors import Busy, OutcomeUnknown
from adapters.kubernetes import names
from api_spec.jobs import Placement, ScaleOn
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes_bench import SLOW_S, bench
from tests.real.kubernetes_jobs import ON_TWO, job, service

__all__ = ["bench"]  # a fixture

pytestmark = pytest.mark.process

A = AttemptState
ROOTS = ("jobs", "deployments")
KINDS = (*ROOTS, "services", "horizontalpodautoscalers", "poddisruptionbudgets")
MOST_WRITES = 20


RING = job(resources=ON_TWO)
SCALED = service(scale_on=ScaleOn(metric="cpu", target=70))
NEWER = replace(service(), environment={"VERSION": "2"})
NOWHERE = job(placement=Placement(kubernetes={"node_labels": {"broker-test.example.org/is": "none"}}))


# ---- the verbs -------------------------------------------------------------------------------------------


class Verb:
    """What it is done on, and what is true once it was done."""

    def __init__(self, name, spec):
        self.name, self.spec = name, spec

    def prepare(self, bench, count):
        refs = [bench.submit(self.spec) for _ in range(count)]
        all_are(bench, refs, self.is_ready)
        return refs

    def is_ready(self, seen):
        return seen.state is A.RUNNING

    def act(self, adapter, ref):
        getattr(adapter, self.name)(ref)

    def again(self, adapter, ref):
        """As a worker does it, while nobody knows whether it was done."""
        wait_until(lambda: self._was_done(adapter, ref), SLOW_S, f"{self.name} was done")
        return ref

    def _was_done(self, adapter, ref):
        with suppress(Busy, OutcomeUnknown):
            self.act(adapter, ref)
            return True
        return False

    def is_done(self, seen):
        raise NotImplementedError

    def check(self, bench, ref):
        assert bench.copies(ref) + len(bench.tenant.objects("deployments", ref.marker)) == 1


class Submit(Verb):
    def __init__(self, spec, kinds):
        super().__init__("submit", spec)
        self.kinds = kinds

    def prepare(self, bench, count):
        return [new_ref(self.spec) for _ in range(count)]

    def act(self, adapter, ref):
        adapter.submit(ref, self.spec)

    def again(self, adapter, ref):
        handles = []

        def found():
            answer = adapter.find(ref.marker, ref.submitted_at)
            if isinstance(answer, Absent):
                handles.append(adapter.submit(ref, self.spec))
            if isinstance(answer, Found):
                handles.append(answer.handle)
            return handles

        wait_until(found, SLOW_S, "it is there or absent")
        return replace(ref, handle=handles[0])

    def is_done(self, seen):
        return has_its_pod(seen) if self.spec.is_service else seen.state is A.ENDED

    def check(self, bench, ref):
        there = {kind: bench.tenant.objects(kind, ref.marker) for kind in KINDS}
        assert {kind: len(some) for kind, some in there.items()} == {
            kind: int(kind in self.kinds) for kind in KINDS
        }
        (root,) = [one for kind in ROOTS for one in there[kind]]
        assert names.UNFINISHED not in root["metadata"]["annotations"]
        others = [one for kind in self.kinds if kind not in ROOTS for one in there[kind]]
        assert {owner_of(one) for one in others} == {root["metadata"]["uid"]}


def has_its_pod(seen):
    """Ready it may not be: with the API server its node was away for a while, and kwok does not mend that."""
    return seen.service.updated == 1


def owner_of(found):
    (owner,) = found["metadata"]["ownerReferences"]
    return owner["uid"]


class Cancel(Verb):
    def __init__(self, spec):
        super().__init__("cancel", spec)

    def is_done(self, seen):
        return (seen.state, seen.outcome, seen.reason) == (A.ENDED, JobState.CANCELLED, Reason.CANCELLED)

    def check(self, bench, ref):
        super().check(bench, ref)
        assert all(pod["status"]["phase"] == "Failed" for pod in bench.tenant.objects("pods", ref.marker))


class CleanUp(Verb):
    def __init__(self):
        super().__init__("cleanup", RING)

    def is_ready(self, seen):
        return seen.state is A.ENDED

    is_done = None  # it is gone

    def check(self, bench, ref):
        left = (*KINDS, "pods")
        wait_until(
            lambda: not any(bench.tenant.objects(kind, ref.marker) for kind in left),
            SLOW_S,
            "nothing is left",
        )


class Hold(Verb):
    def __init__(self):
        super().__init__("hold", NOWHERE)

    def is_ready(self, seen):
        return seen.reason is Reason.CAPACITY

    def is_done(self, seen):
        return seen.reason is Reason.HELD


class Release(Verb):
    def __init__(self):
        super().__init__("release", replace(NOWHERE, hold=True))

    def is_ready(self, seen):
        return seen.reason is Reason.HELD

    def is_done(self, seen):
        return seen.reason is Reason.CAPACITY


class Update(Verb):
    def __init__(self):
        super().__init__("update", service())

    def prepare(self, bench, count):
        return [replace(ref, revision=2) for ref in super().prepare(bench, count)]

    def act(self, adapter, ref):
        adapter.update(ref, NEWER)

    def is_done(self, seen):
        return seen.service.revision == 2 and has_its_pod(seen)

    def check(self, bench, ref):
        Submit(NEWER, {"deployments", "services", "poddisruptionbudgets"}).check(bench, ref)


VERBS = (
    Submit(RING, {"jobs", "services"}),
    Submit(SCALED, {"deployments", "services", "horizontalpodautoscalers", "poddisruptionbudgets"}),
    Cancel(job("hang")),
    Cancel(service()),
    CleanUp(),
    Hold(),
    Release(),
    Update(),
)


# ---- the deaths ------------------------------------------------------------------------------------------


class Cut:
    """Ends the connection at the write of that number, counted from 0, and lets nothing pass after it."""

    def __init__(self, number, where):
        self.number, self.where, self.count, self.is_made = number, where, 0, False

    def __call__(self, message):
        if self.is_made:
            return "before"
        if message.method == "GET":
            return None
        self.count += 1
        self.is_made = self.count > self.number
        return self.where if self.is_made else None


def all_are(bench, refs, is_so):
    others = []

    def so():
        found = bench.adapter.observe(refs).found
        others[:] = [found.get(ref.marker) for ref in refs if not is_there(found.get(ref.marker))]
        return not others

    def is_there(seen):
        return seen is not None and is_so(seen)

    try:
        wait_until(so, SLOW_S, "all are as expected")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {others}") from None


def test_each_verb_is_done_once_wherever_the_api_server_dies(bench, record_property):
    """All verbs share the deaths: the n-th kill is at the n-th write of each, before it for one attempt and
    after it for another.  What they are done on is there before the first: controllers come back slowly."""
    with bench.tenant.wire() as wire:
        behind = bench.adapter_of(wire.url)
        refs = {verb: verb.prepare(bench, 1) for verb in VERBS}
        writes = {verb: writes_of(wire, lambda verb=verb: verb.act(behind, *refs[verb])) for verb in VERBS}
        for verb, count in writes.items():
            refs[verb] += verb.prepare(bench, 2 * count)

        for number in range(max(writes.values())):
            for verb in [verb for verb, count in writes.items() if number < count]:
                for ref, where in zip(refs[verb][1 + 2 * number :], ("before", "after"), strict=False):
                    cut = wire.watcher = Cut(number, where)
                    with suppress(Busy, OutcomeUnknown):  # anything else would end the attempt for good
                        verb.act(behind, ref)
                    assert cut.is_made, f"{verb.name} has no write {number}"
            bench.cluster.kill("apiserver")
            wire.watcher = None
            bench.cluster.start("apiserver")
            for verb in [verb for verb, count in writes.items() if number + 1 == count]:
                refs[verb] = [verb.again(behind, ref) for ref in refs[verb]]

        for verb in VERBS:
            if verb.is_done:
                all_are(bench, refs[verb], verb.is_done)
            for ref in refs[verb]:
                verb.check(bench, ref)
        told = f"{2 * sum(writes.values())} deaths at a write of {len(VERBS)} verbs"
        record_property("summary", f"real Kubernetes {bench.cluster.version}: {told}")


def writes_of(wire, act):
    counter = wire.watcher = Cut(MOST_WRITES, "before")
    act()
    wire.watcher = None
    assert 0 < counter.count < MOST_WRITES
    return counter.count
