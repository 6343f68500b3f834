"""Several namespaces: what the broker may not read, what is configured no more, what outlasts its Job."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Found, Unsettled
from adapters.errors import Busy
from adapters.kubernetes import cluster
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.builders import spec
from tests.contract.places import new_ref
from tests.fakes import INSTANCE
from tests.unit.kubernetes_stub import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    MARKER,
    PODS,
    handle_of,
    job_object,
    listed,
    says,
    status,
)

OTHER = f"wb-{INSTANCE}-01jabcdefghjkmnpqrstvwxyz1-1"
FORBIDDEN = status(403, 'jobs.batch is forbidden: User "b" cannot list resource "jobs"', "Forbidden")
WANTED = spec(image="a:1")


@pytest.fixture
def server(server):
    """Namespace ``jobs`` has an attempt; ``other`` has one too, and may not be read."""
    for path in (JOBS, DEPLOYMENTS, PODS):
        server.says("GET", path, listed())
        server.says("GET", in_other(path), FORBIDDEN)
    server.says("GET", JOBS, listed(job_object()))
    server.says("GET", "/api/v1/namespaces/other", says({"kind": "Namespace"}))
    return server


def in_other(path):
    return path.replace("/namespaces/jobs/", "/namespaces/other/")


def ref_of(marker, namespace):
    return new_ref(WANTED, marker=marker, handle=handle_of(marker, namespace))


HERE, THERE = ref_of(MARKER, "jobs"), ref_of(OTHER, "other")


def both(server):
    return server.adapter(namespaces={"speech": "other"})


def test_a_namespace_that_may_not_be_read_hides_no_other(server):
    seen = both(server).observe([HERE, THERE])

    assert seen.complete
    assert seen.found[MARKER].state is AttemptState.QUEUED


def test_what_may_not_be_read_is_neither_absent_nor_moved(server):
    """Absent, it would be looked for and end as lost, while it runs."""
    hidden = both(server).observe([HERE, THERE]).found[OTHER]

    assert (hidden.state, hidden.reason) == (None, Reason.BACKEND_DOWN)
    assert "cannot list resource" in hidden.message
    assert hidden.handle == THERE.handle


def test_what_is_nowhere_else_may_be_where_the_broker_may_not_look(server):
    unknown = new_ref(WANTED, marker=OTHER)

    assert both(server).observe([HERE, unknown]).found[OTHER].state is None


def test_where_no_namespace_may_be_read_the_pass_fails(server):
    server.says("GET", JOBS, FORBIDDEN)

    with pytest.raises(Busy, match="cannot list resource") as refused:
        both(server).observe([HERE, THERE])

    assert (refused.value.reason, refused.value.is_local) == (Reason.BACKEND_DOWN, False)


def test_other_faults_of_a_namespace_fail_the_whole_pass(server):
    server.says("GET", in_other(JOBS), status(500, "etcdserver: leader changed"))

    with pytest.raises(Busy, match="leader changed"):
        both(server).observe([HERE, THERE])


def test_absence_is_proven_for_what_was_made_where_the_broker_may_look(server):
    adapter = both(server)
    adapter.observe([HERE, THERE])
    server.says("GET", JOBS, listed())

    assert adapter.find(MARKER, since=0) == Absent()


def test_absence_is_not_proven_by_what_may_not_be_read(server):
    adapter = both(server)
    adapter.observe([HERE, THERE])

    with pytest.raises(Busy, match="cannot list resource") as refused:
        adapter.find(OTHER, since=0)

    assert refused.value.is_local, "the backend is not left alone for one namespace"


def test_an_attempt_is_found_though_it_might_have_been_elsewhere(server):
    """Its answer was lost, and nobody knows where it was made."""
    assert isinstance(both(server).find(MARKER, since=0), Found)


def test_a_submission_that_is_forbidden_in_one_namespace_does_not_close_the_backend(server):
    server.says("POST", JOBS, FORBIDDEN)

    with pytest.raises(Busy) as refused:
        both(server).submit(replace(HERE, handle=None), WANTED)

    assert (refused.value.reason, refused.value.is_local) == (Reason.BACKEND_DOWN, True)


def test_what_was_made_in_a_namespace_that_is_no_longer_configured_is_still_looked_at(server):
    server.says("GET", in_other(JOBS), listed(job_object(OTHER, metadata={"namespace": "other"})))
    server.says("GET", in_other(PODS), listed())
    server.says("GET", in_other(EVENTS), listed())

    seen = server.adapter().observe([HERE, THERE])

    assert set(seen.found) == {MARKER, OTHER}


def test_and_is_looked_for_there_before_it_is_called_absent(server):
    """Gone from the pass for a moment, it would have been looked for in the other namespaces alone."""
    adapter = server.adapter()
    server.says("GET", in_other(JOBS), listed())
    adapter.observe([HERE, THERE])
    server.says("GET", in_other(JOBS), listed(job_object(OTHER, metadata={"namespace": "other"})))
    server.says("GET", in_other(DEPLOYMENTS), listed())
    server.says("GET", JOBS, listed())

    found = adapter.find(OTHER, since=0)

    assert isinstance(found, Found)
    assert found.handle["namespace"] == "other"


def test_what_others_hold_is_counted_where_the_broker_may_look(server):
    server.says("GET", "/api/v1/pods", FORBIDDEN)
    server.says("GET", PODS, listed({"kind": "Pod", "metadata": {"name": "seen"}}))
    adapter = both(server)

    assert len(cluster.pods(adapter.client, adapter.options)) == 1


# ---- what outlasts its Job, and a namespace that goes ----------------------------------------------------


@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_an_attempt_whose_pods_run_on_is_not_absent(server, phase):
    """Somebody has deleted its Job; another attempt would run beside them."""
    server.says("GET", JOBS, listed())
    pods = listed({"metadata": {"name": "pod"}, "status": {"phase": phase}})
    server.says("GET", PODS, pods, listed())
    adapter = server.adapter()

    first = adapter.find(MARKER, since=0)

    assert isinstance(first, Unsettled)
    assert first.until > time.time()
    assert adapter.find(MARKER, since=0) == Absent()


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_are_over_keep_nothing(server, phase):
    server.says("GET", JOBS, listed())
    server.says("GET", PODS, listed({"metadata": {"name": "pod"}, "status": {"phase": phase}}))

    assert server.adapter().find(MARKER, since=0) == Absent()


def test_what_was_in_a_namespace_that_is_gone_is_absent(server):
    """The broker's rights in it went with it: it would be hidden for ever."""
    server.says("GET", "/api/v1/namespaces/other", status(404, 'namespaces "other" not found', "NotFound"))
    adapter = both(server)

    seen = adapter.observe([HERE, THERE])

    assert seen.complete
    assert OTHER not in seen.found
    assert adapter.find(OTHER, since=0) == Absent()


def test_a_namespace_of_which_nobody_may_say_whether_it_is_there_is(server):
    server.says("GET", "/api/v1/namespaces/other", FORBIDDEN)

    assert both(server).observe([HERE, THERE]).found[OTHER].state is None


def test_a_namespace_that_is_being_removed_is_not_there_for_new_jobs(server):
    going = {"kind": "Namespace", "metadata": {"name": "jobs"}, "status": {"phase": "Terminating"}}
    server.says("GET", "/api/v1/namespaces/jobs", says(going))
    server.says("GET", "/api/v1/namespaces/other", says({"kind": "Namespace"}))
    adapter = both(server)

    assert cluster.namespaces(adapter.client, adapter.options) == ["other"]
