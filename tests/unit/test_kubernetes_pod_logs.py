"""Whose log is shown, what is kept of it, and what is shown when its pod is gone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import LogQuery
from adapters.errors import BackendError, BadLogQuery
from adapters.extras import LogEnd, LogEnds
from adapters.kubernetes import logs, names, pod_logs
from api_spec.jobs import Kind
from tests.builders import spec
from tests.contract.places import new_ref
from tests.unit.kubernetes_kubelet import SECOND, TEXT, Kubelet, pages, stamped
from tests.unit.kubernetes_objects import RUNNING, terminated
from tests.unit.kubernetes_stub import (
    DEPLOYMENTS,
    JOBS,
    MARKER,
    PODS,
    handle_of,
    job_object,
    listed,
    says,
    status,
)

REF = new_ref(spec(image="a:1", kind=Kind.BATCH), marker=MARKER, handle=handle_of())
SERVICE = replace(REF, kind=Kind.INFERENCE.value, handle={**handle_of(), "kind": "Deployment"})
OVER = {"conditions": [{"type": "Complete", "status": "True"}], "startTime": "2026-01-01T00:00:00Z"}
ONE, TWO = f"{SECOND}1Z one\n".encode(), f"{SECOND}2Z two\n".encode()
KEPT = LogEnds(ends=(LogEnd(source="p", index=0, data=ONE + TWO),))


def raw_pod(name, *, index=None, state=None, restarts=0, created=0, phase="Running", **metadata):
    notes = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
    about = {
        "name": name,
        "labels": {names.MARKER: MARKER},
        "annotations": notes,
        "creationTimestamp": f"2026-01-01T00:00:{created:02}Z",
        **metadata,
    }
    containers = [{"name": "main", "state": state or RUNNING, "restartCount": restarts}]
    return {"metadata": about, "spec": {}, "status": {"phase": phase, "containerStatuses": containers}}


def has(server, *pods, **job_status):
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object(status=job_status)))
    server.says("GET", PODS, listed(*pods))


def serves(server, *pods):
    found = {**job_object(), "kind": "Deployment", "spec": {"replicas": len(pods)}}
    server.says("GET", f"{DEPLOYMENTS}/{MARKER}", says(found))
    server.says("GET", PODS, listed(*pods))


def log_of(server, name, *answers):
    server.says(
        "GET", f"{PODS}/{name}/log", *(says(one) if isinstance(one, bytes) else one for one in answers)
    )


# ---- what is kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [100, 1000, 10_000, 100_000])
def test_the_end_is_whole_lines_and_the_last(most):
    kubelet = Kubelet(*((f"{SECOND}1.{number:09}Z", b"x" * (number % 60) + b"\n") for number in range(1000)))
    whole = kubelet({})

    data, cut = logs.end(kubelet, most)

    assert whole.endswith(data)
    assert len(data) <= most
    assert data.startswith(SECOND.encode())
    assert cut == (len(data) < len(whole))
    assert len(data) > min(most, len(whole)) - 100


def test_of_lines_that_are_long_fewer_are_asked_for():
    kubelet = Kubelet(*((f"{SECOND}1.{number:09}Z", b"x" * 5000 + b"\n") for number in range(300)))

    data, cut = logs.end(kubelet, 10_000)

    assert data.count(b"\n") == 1
    assert kubelet({}).endswith(data)
    assert cut


def test_of_one_endless_line_the_end_is_kept_with_its_time():
    data, cut = logs.end(Kubelet((f"{SECOND}1Z", b"x" * 500 + b"end\n")), 100)

    assert data == f"{SECOND}1Z ".encode() + b"x" * (100 - 21 - 4) + b"end\n"
    assert cut


@pytest.mark.parametrize("limit", [1, 7, 65536])
def test_a_cursor_goes_on_in_what_was_kept(limit):
    """Whoever read half of it while the pod was there reads the other half afterwards."""
    kubelet = stamped(*TEXT)
    kept, _ = logs.end(kubelet, 1 << 20)
    first = logs.page(kubelet, LogQuery(limit_bytes=40), over=False)
    read = [first]
    while not read[-1].complete:
        query = LogQuery(cursor=read[-1].cursor, limit_bytes=limit)
        read.append(logs.page(logs.of_text(kept), query, over=True))

    assert b"".join(page.data for page in read) == b"".join(TEXT)
    assert not any(page.note for page in read)


def test_what_was_not_kept_before_the_cursor_is_told():
    kubelet = stamped(*TEXT)
    kept, _ = logs.end(kubelet, 200)
    first = logs.page(kubelet, LogQuery(limit_bytes=5), over=False)

    after = logs.page(logs.of_text(kept), LogQuery(cursor=first.cursor), over=True)

    assert after.note == logs.ROTATED


def test_all_that_have_started_are_read_the_failed_first(server):
    has(
        server,
        raw_pod("a", index=0),
        raw_pod("b", index=1, phase="Failed"),
        raw_pod("c", phase="Pending", state={"waiting": {"reason": "ContainerCreating"}}),
    )
    log_of(server, "a", ONE)
    log_of(server, "b", TWO)

    found = server.adapter().log_ends(REF, 1000, 5.0)

    assert [(one.source, one.index, one.data) for one in found.ends] == [("b", 1, TWO), ("a", 0, ONE)]
    assert (found.missed, found.again) == (None, False)


def test_where_some_are_told_to_go_these_are_read_and_again(server):
    going = raw_pod("b", deletionTimestamp="2026-01-01T00:01:00Z")
    serves(server, raw_pod("a"), going)
    log_of(server, "b", TWO)

    found = server.adapter().log_ends(SERVICE, 1000, 5.0)

    assert [one.source for one in found.ends] == ["b"]
    assert found.again


def test_what_could_not_be_read_is_said_and_hides_no_other(server):
    has(server, raw_pod("a", index=0), raw_pod("b", index=1), **OVER)
    log_of(server, "a", status(500, "the kubelet does not answer"))
    log_of(server, "b", TWO)

    found = server.adapter().log_ends(REF, 1000, 5.0)

    assert [one.data for one in found.ends] == [TWO]
    assert found.missed.startswith("1 could not be read: ")
    assert "the kubelet does not answer" in found.missed


def test_a_thousand_pods_are_read_for_so_long_only(server, monkeypatch):
    monkeypatch.setattr(pod_logs, "MOST_READ", 3)
    has(server, *(raw_pod(f"p{number}", index=number) for number in range(5)))
    for number in range(5):
        log_of(server, f"p{number}", ONE)
    adapter = server.adapter()

    found, late = adapter.log_ends(REF, 1000, 5.0), adapter.log_ends(REF, 1000, 0.0)

    assert len(found.ends) == 3
    assert found.missed == "2 more pods were not read"
    assert "were not read within 0 s" in late.missed


def test_two_requests_are_enough_for_a_job_of_one_pod(server):
    """Every job that ends costs them."""
    has(server, raw_pod("a", index=0, phase="Succeeded"))
    log_of(server, "a", ONE)

    server.adapter().log_ends(REF, 1000, 5.0)

    assert [one[1] for one in server.asked] == [PODS, f"{PODS}/a/log"]


def test_of_what_never_started_there_is_nothing_to_say(server):
    has(server)

    assert server.adapter().log_ends(REF, 1000, 5.0) == LogEnds()


def test_a_pod_that_went_before_anybody_looked_is_said(server):
    has(server, **OVER)

    assert server.adapter().log_ends(REF, 1000, 5.0).missed == pod_logs.GONE


# ---- what is shown ---------------------------------------------------------------------------------------


def shown(server, kept=None, ref=REF, **query):
    return server.adapter().logs_or_kept(ref, LogQuery(**query), lambda: kept)


def test_while_its_pod_is_there_the_cluster_is_asked(server):
    has(server, raw_pod("p", index=0))
    log_of(server, "p", ONE)

    assert shown(server, KEPT).data == b"one\n"


@pytest.mark.parametrize("there", ["the job is gone", "only its pod is gone"])
def test_when_its_pod_is_gone_what_was_kept_is_shown(server, there):
    if there == "only its pod is gone":
        has(server, **OVER)
    page = shown(server, KEPT)

    assert (page.data, page.at_end, page.complete) == (b"one\ntwo\n", True, True)
    assert page.note.endswith("; all of it was kept (50 bytes, times included)")
    assert shown(server, KEPT, cursor=page.cursor).data == b""
    assert shown(server, KEPT, tail_bytes=4).data == b"two\n"


def test_how_much_was_kept_is_said(server):
    cut = LogEnds(ends=(LogEnd(source="p", index=0, data=TWO, cut=True),))

    assert shown(server, cut).note.endswith("; the last 25 bytes, times included, were kept")


def test_a_log_that_was_never_kept_is_a_sentence(server):
    has(server, **OVER)

    with pytest.raises(BackendError, match="gone, and the log with it; nothing of it was kept where this"):
        shown(server)
    with pytest.raises(BackendError, match="nothing of it was kept: it vanished"):
        shown(server, LogEnds(missed="it vanished"))


def test_of_an_array_each_task_has_its_own(server):
    array = replace(REF, task_indices=(4, 7))
    kept = LogEnds(
        ends=tuple(LogEnd(source=str(at), index=at, data=text) for at, text in enumerate((ONE, TWO)))
    )

    assert shown(server, kept, array, task_index=7).data == b"two\n"
    with pytest.raises(BadLogQuery):
        shown(server, kept, array, task_index=5)


def nodes(server, count, *pods):
    found = job_object()
    server.says("GET", f"{JOBS}/{MARKER}", says({**found, "spec": {**found["spec"], "completions": count}}))
    server.says("GET", PODS, listed(*pods))


def test_of_a_job_on_several_nodes_each_has_its_own(server):
    """The reason why a training ended stands in the log of the node that failed first."""
    nodes(server, 3, raw_pod("a", index=0), raw_pod("b", index=1))
    log_of(server, "a", ONE)
    log_of(server, "b", TWO)
    kept = LogEnds(ends=(LogEnd(source="c", index=2, data=ONE + TWO),))

    first = shown(server, kept)
    assert (first.data, first.note) == (b"one\n", "of 3 nodes this is the log of the first")
    assert [shown(server, kept, node=rank).data for rank in range(3)] == [b"one\n", b"two\n", b"one\ntwo\n"]
    with pytest.raises(BadLogQuery, match="runs on 3 nodes"):
        shown(server, kept, node=3)


def test_of_several_nodes_that_are_gone_it_is_said_whose_log_is_shown(server):
    kept = LogEnds(
        ends=tuple(LogEnd(source=str(at), index=at, data=text) for at, text in enumerate((ONE, TWO)))
    )

    assert shown(server, kept).note.endswith("; of 2 nodes this is the log of the first")
    assert shown(server, kept, node=1).data == b"two\n"


def test_of_one_node_there_is_no_second(server):
    has(server, raw_pod("p", index=0))
    log_of(server, "p", ONE)

    assert (shown(server, node=0).data, shown(server).note) == (b"one\n", None)
    with pytest.raises(BadLogQuery, match="runs on 1 node"):
        shown(server, node=1)


def test_replicas_that_are_gone_follow_those_that_are_there(server):
    serves(server, raw_pod("there"))
    log_of(server, "there", TWO)
    kept = LogEnds(ends=(LogEnd(source="gone", data=ONE), LogEnd(source="there", data=TWO)))

    assert shown(server, kept, SERVICE, replica=0).data == b"two\n"
    assert shown(server, kept, SERVICE, replica=1).data == b"one\n"
    waits = shown(server, kept, SERVICE, replica=2)
    assert (waits.data, waits.complete) == (b"", False)


# ---- containers that were started again ------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 25, 65536])
def test_the_container_before_is_shown_first(limit):
    """It was killed within a line, and the cursor goes over the seam."""
    before, now = (
        stamped(b"a\n", b"b\n", b"killed he"),
        Kubelet((f"{SECOND}5Z", b"c\n"), (f"{SECOND}6Z", b"d\n")),
    )

    read = pages(logs.one_after_the_other(before, now), limit)

    assert b"".join(page.data for page in read) == b"a\nb\nkilled he\nc\nd\n"


@pytest.mark.parametrize("wanted", [2, 4, 8, 100])
def test_the_tail_goes_over_the_seam(wanted):
    both = logs.one_after_the_other(stamped(b"a\n", b"b\n"), Kubelet((f"{SECOND}5Z", b"c\n")))

    assert logs.page(both, LogQuery(tail_bytes=wanted), over=True).data == b"a\nb\nc\n"[-wanted:]


def test_a_replica_that_was_started_again_says_so(server):
    serves(server, raw_pod("p", restarts=2))
    log_of(server, "p", ONE, TWO)

    page = shown(server, ref=SERVICE)

    assert page.data == b"one\ntwo\n"
    assert page.note == (
        "its container was started again 2 times; of those before, the last one's log is shown first"
    )
    assert [one[2].get("previous") for one in server.asked if one[1].endswith("/log")] == ["true", None]


def test_one_whose_log_before_is_gone_shows_what_there_is(server):
    serves(server, raw_pod("p", restarts=1))
    log_of(server, "p", status(400, "previous terminated container not found", "BadRequest"), TWO)

    assert shown(server, ref=SERVICE).data == b"two\n"


def test_one_that_waits_to_be_started_again_shows_its_last_log_once(server):
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    serves(server, raw_pod("p", restarts=3, state=state))
    server.script["GET", PODS][0] = listed(
        {**raw_pod("p", restarts=3, state=state), "status": crashed(state)}
    )
    log_of(server, "p", ONE)

    assert shown(server, ref=SERVICE).data == b"one\n"


def crashed(state):
    row = {"name": "main", "state": state, "lastState": terminated(1, "Error"), "restartCount": 3}
    return {"phase": "Running", "containerStatuses": [row]}
