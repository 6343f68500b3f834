"""Namespaces of a real Kubernetes that are closed to the broker, leave its options, or are removed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Absent
from adapters.errors import Busy
from adapters.kubernetes.names import MARKER
from api_spec.jobs import Placement
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes_bench import a_bench, job_path
from tests.real.kubernetes_jobs import job
from tests.real.kubernetes_kit import ACCOUNT, grant

pytestmark = pytest.mark.process

A = AttemptState
SPEECH = replace(job("hang"), project="speech")


@pytest.fixture
def bench(own_kubernetes, tmp_path):
    """With a namespace of the project ``speech`` beside the one of all others."""
    with a_bench(own_kubernetes, tmp_path) as bench:
        bench.other = own_kubernetes.new_namespace()
        grant(own_kubernetes, bench.other)
        bench.adapter = bench.adapter_of(namespaces={"speech": bench.other})
        yield bench
        own_kubernetes.remove_namespace(bench.other)


def both(bench):
    return bench.run(job("hang")), bench.run(SPEECH, project="speech")


def close(bench, namespace):
    bench.api.delete(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/{ACCOUNT}")


def test_a_namespace_that_is_closed_to_the_broker_hides_no_other(bench):
    """A right withdrawn in one of them made the jobs of all as old as that."""
    here, there = both(bench)
    close(bench, bench.other)

    seen = wait_until(
        lambda: (found := bench.adapter.observe([here, there])).found[there.marker].state is None and found,
        20,
        "the right is gone",
    )

    assert seen.complete
    assert seen.found[here.marker].state is A.RUNNING
    assert seen.found[there.marker].reason is Reason.BACKEND_DOWN
    assert "cannot list resource" in seen.found[there.marker].message
    with pytest.raises(Busy, match="cannot create resource") as refused:
        bench.submit(SPEECH, project="speech")
    assert refused.value.is_local
    with pytest.raises(Busy):
        bench.adapter.find(there.marker, since=0)
    told = f"in {bench.other} the broker may not do anything: its role is not bound there"
    assert [one.message for one in bench.adapter.check() if not one.well] == [told]
    bench.api.delete(job_path(bench, here))
    wait_until(
        lambda: bench.adapter.find(here.marker, since=0) == Absent(), 20, "the other's absence is proven"
    )
    grant(bench.cluster, bench.other)
    bench.until_state(there, A.RUNNING)


def test_what_runs_in_a_namespace_that_left_the_options_is_seen_to_its_end(bench):
    here, there = both(bench)
    adapter = bench.adapter_of()

    seen = adapter.observe([here, there])

    states = {marker: one.state for marker, one in seen.found.items()}
    assert states == {here.marker: A.RUNNING, there.marker: A.RUNNING}
    adapter.cancel(there)
    end = wait_until(
        lambda: (one := adapter.observe([there]).found[there.marker]).state is A.ENDED and one, 30, "it ended"
    )
    assert end.outcome is JobState.CANCELLED
    adapter.cleanup(there)
    wait_until(lambda: there.marker not in adapter.observe([there]).found, 20, "it is gone")


def test_in_a_namespace_that_is_removed_jobs_end_and_none_is_lost_before(bench):
    """The broker's rights in it go as well; here they stay until the test has seen what it says before."""
    soon = Placement(kubernetes={"grace_s": 1})
    spec = replace(SPEECH, labels={"outcome": "hang", "stop": "5s"}, placement=soon)
    ref = bench.run(spec, project="speech")
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{bench.other}/rolebindings/{ACCOUNT}"
    bench.api.patch(binding, {"metadata": {"finalizers": ["broker-test.example.org/stays"]}})
    bench.cluster.remove_namespace(bench.other)

    nothing_new_is_made_there(bench, spec)
    seen = []

    def is_absent():
        live = pods_of(bench, ref)
        seen.append(bench.adapter.observe([ref]).found.get(ref.marker))
        absent = bench.adapter.find(ref.marker, since=0) == Absent()
        assert not (absent and live), "another attempt would run beside its pod"
        return absent and seen[-1] is None

    wait_until(is_absent, 60, "all of it has gone")
    assert {one.outcome for one in seen if one is not None} <= {None, JobState.FAILED}
    bench.api.patch(binding, {"metadata": {"finalizers": None}})
    wait_until(lambda: not bench.api.exists(f"/api/v1/namespaces/{bench.other}"), 60, "the namespace is gone")
    last = bench.adapter.observe([ref])  # the broker has no right there any more
    assert (last.complete, dict(last.found)) == (True, {})
    assert bench.adapter.find(ref.marker, since=0) == Absent()


def nothing_new_is_made_there(bench, spec):
    """The API server may take a moment to know it."""

    def refused():
        try:
            bench.adapter.submit(new_ref(spec, project="speech"), spec)
        except Busy as error:
            return error
        return None

    error = wait_until(refused, 10, "nothing is taken any more")
    assert "is removing the namespace" in str(error)
    assert error.reason is not Reason.BACKEND_DOWN, "the others may go on"
    told = {one.message for one in bench.adapter.check() if one.subject == "namespaces" and not one.well}
    assert told == {f"{bench.other} is being removed: jobs of its projects are refused"}
    inventory = bench.adapter.inventory()
    assert [one.code for one in bench.adapter.refusals(spec, inventory)] == [Reason.NOT_ALLOWED]
    assert not bench.adapter.refusals(job(), inventory)


def pods_of(bench, ref):
    path = f"/api/v1/namespaces/{bench.other}/pods?labelSelector={MARKER}={ref.marker}"
    return bench.api.items(path)
