"""What an API server answers, or somebody on the way to it: which error that is, and what is done then."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest

from adapters.base import Found
from adapters.errors import Busy, OutcomeUnknown, Rejected
from adapters.kubernetes import changes, cluster, names
from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import Kind, Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.builders import spec
from tests.contract.places import new_ref
from tests.unit.kubernetes_stub import (
    DEPLOYMENTS,
    EVENTS,
    JOBS,
    MARKER,
    PODS,
    SERVICES,
    Answer,
    Feed,
    handle_of,
    job_object,
    listed,
    says,
    status,
)

WANTED = spec(image="a:1", kind=Kind.BATCH)
ON_TWO = replace(WANTED, resources=Resources(nodes=2))
REF = new_ref(WANTED, marker=MARKER, job_id="01JABCDEFGHJKMNPQRSTVWXYZ0")
HANDLED = replace(REF, handle=handle_of())


# ---- which error an answer is ---------------------------------------------------------------------------

RIGHT = 'jobs.batch is forbidden: User "system:serviceaccount:broker:broker" cannot create resource "jobs"'
QUOTA = 'jobs.batch "x" is forbidden: exceeded quota: small, requested: count/jobs.batch=1'
WEBHOOK = 'admission webhook "policy.example.org" denied the request: images must have a digest'
POLICY = "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no"
TERMINATING = 'jobs.batch "x" is forbidden: unable to create new content because it is being terminated'
NO_WEBHOOK = 'Internal error occurred: failed calling webhook "p.example.org": failed to call webhook: EOF'
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"

ANSWERS = {
    "bad request": (status(400, "a field"), Rejected, None),
    "unauthorized": (status(401, "Unauthorized"), Busy, Reason.BACKEND_DOWN),
    "no right": (status(403, RIGHT, "Forbidden"), Busy, Reason.BACKEND_DOWN),
    "quota": (status(403, QUOTA, "Forbidden"), Busy, Reason.QUOTA_EXCEEDED),
    "webhook": (status(403, WEBHOOK, "Forbidden"), Rejected, None),
    "policy": (status(403, POLICY, "Forbidden"), Rejected, None),
    "webhook with 409": (status(409, WEBHOOK, "Conflict"), Rejected, None),
    "webhook out of order": (status(500, WEBHOOK, "InternalError"), Busy, Reason.CAPACITY),
    "no webhook": (status(500, NO_WEBHOOK, "InternalError"), Busy, Reason.CAPACITY),
    "namespace goes": (status(403, TERMINATING, "Forbidden"), Busy, Reason.CAPACITY),
    "no namespace": (status(404, 'namespaces "jobs" not found', "NotFound"), Busy, Reason.CAPACITY),
    "too large": (status(413, "too large"), Rejected, None),
    "invalid": (status(422, "spec.template: Required value", "Invalid"), Rejected, None),
    "too many": (status(429, "too many requests", Retry_After="7"), Busy, Reason.CAPACITY),
    "starting": (status(503, "apiserver not ready", Retry_After="3"), Busy, Reason.CAPACITY),
    "fault": (status(500, "etcdserver: leader changed"), OutcomeUnknown, None),
    "unavailable": (status(503, "unavailable"), OutcomeUnknown, None),
    "time-out": (status(504, "request did not complete within the allotted timeout"), OutcomeUnknown, None),
    "proxy's 502": (says(HTML, 502), OutcomeUnknown, None),
    "proxy's 403": (says(HTML, 403), OutcomeUnknown, None),
    "proxy's 404": (says(HTML, 404), OutcomeUnknown, None),
    "no JSON": (says(HTML), OutcomeUnknown, None),
    "no object": (says([]), OutcomeUnknown, None),
    "half of the JSON": (says(b'{"kind": "Job", "metadata": {"name'), OutcomeUnknown, None),
    "reset in mid-answer": (Answer(body=json.dumps(job_object()).encode(), cut_at=20), OutcomeUnknown, None),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_what_an_answer_to_a_submission_means(server, case):
    """Busy says that nothing was done, Rejected that nothing ever will be, and else nobody knows."""
    answer, kind, reason = ANSWERS[case]
    server.says("POST", JOBS, answer)

    with pytest.raises(kind) as raised:
        server.adapter().submit(REF, WANTED)

    assert getattr(raised.value, "reason", None) == (
        reason if kind is Busy else getattr(raised.value, "reason", None)
    )
    assert server.count("POST", JOBS) == 1, "nothing is sent again by itself"


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_cannot_be_used_is_no_absence(server, case):
    answer, _, _ = ANSWERS[case]
    server.says("GET", JOBS, answer)

    with pytest.raises(Busy):
        server.adapter().observe([HANDLED])


@pytest.mark.parametrize("seconds, waits_s", [("7", 7.0), ("0", 1.0), ("soon", 5.0)])
def test_the_time_to_wait_is_the_servers(server, seconds, waits_s):
    server.says("POST", JOBS, status(429, "too many requests", Retry_After=seconds))

    with pytest.raises(Busy) as raised:
        server.adapter().submit(REF, WANTED)

    assert raised.value.retry_after_s == waits_s


def test_a_long_message_is_cut(server):
    server.says("POST", JOBS, status(422, "x" * 100_000))

    with pytest.raises(Rejected) as raised:
        server.adapter().submit(REF, WANTED)

    assert len(str(raised.value)) < 3000


def test_a_connection_that_nobody_takes_is_one_that_did_nothing(server):
    """A full backlog lets it time out; that was told as if it had been sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        server.url = f"http://127.0.0.1:{port}"

        with pytest.raises(Busy, match="no connection"):
            server.adapter(connect_s=0.3).submit(REF, WANTED)

        for one in waiting:
            one.close()


# ---- lists ----------------------------------------------------------------------------------------------


def test_a_list_is_read_to_its_end(server):
    server.says("GET", JOBS, listed(job_object("other"), more="2"), listed(job_object()))
    server.says("GET", PODS, listed())

    assert MARKER in server.adapter().observe([HANDLED]).found
    assert [query.get("continue") for _, path, query, _ in server.asked if path == JOBS] == [None, "2"]


def test_a_list_whose_moment_is_gone_begins_anew(server):
    """Cut, it would make attempts look absent."""
    gone = status(410, "The provided continue parameter is too old", "Expired")
    server.says("GET", JOBS, listed(job_object("other"), more="2"), gone, listed(job_object()))
    server.says("GET", PODS, listed())

    assert set(server.adapter().observe([HANDLED]).found) == {MARKER}
    assert [query.get("continue") for _, path, query, _ in server.asked if path == JOBS] == [None, "2", None]


def test_a_list_that_is_always_too_old_is_given_up(server):
    server.says("GET", JOBS, status(410, "too old", "Expired"))

    with pytest.raises(Busy, match="too old"):
        server.adapter().observe([HANDLED])

    assert server.count("GET", JOBS) == 3


@pytest.mark.parametrize("body", [{"kind": "Job"}, {"kind": "JobList", "items": {"a": 1}}])
def test_what_is_no_list_is_not_an_empty_one(server, body):
    server.says("GET", JOBS, says(body))

    with pytest.raises(Busy, match="without items"):
        server.adapter().observe([HANDLED])


def test_a_list_of_null_is_empty(server):
    """So a server in Go may write it."""
    server.says("GET", JOBS, says({"kind": "JobList", "metadata": {}, "items": None}))

    assert server.adapter().observe([HANDLED]).found == {}


ODD = [
    None,
    "text",
    {},
    {"metadata": None},
    {"metadata": {"name": "x", "labels": None}},
    {"metadata": {"labels": {names.MARKER: MARKER}}},
]


def test_odd_objects_hide_no_others(server):
    odd_pods = [
        {"metadata": {"labels": {names.MARKER: MARKER}}, "status": {"containerStatuses": [None, 7]}},
        {"metadata": {"labels": {names.MARKER: MARKER}}, "status": {"conditions": {"a": 1}, "phase": 3}},
    ]
    server.says("GET", JOBS, listed(*ODD, job_object()))
    server.says("GET", DEPLOYMENTS, listed(*ODD))
    server.says("GET", SERVICES, listed(*ODD))
    server.says("GET", PODS, listed(*ODD, *odd_pods))
    adapter = server.adapter()

    assert adapter.observe([HANDLED]).found[MARKER].state is AttemptState.QUEUED
    assert [one.ref.marker for one in adapter.list_ours(0)] == [MARKER]
    assert isinstance(adapter.find(MARKER, since=0), Found)


# ---- who we are -----------------------------------------------------------------------------------------


def test_a_token_file_of_a_kubeconfig_is_read_again_when_the_token_was_refused(server, tmp_path):
    """The package reads it once; the broker then stayed outside until it was started again."""
    file = tmp_path / "token"
    file.write_text("old")
    server.says("GET", JOBS, listed())
    adapter = server.adapter(kubeconfig=server.kubeconfig(tokenFile=str(file)))
    with pytest.raises(Busy, match="does not take the broker's token"):
        adapter.observe([HANDLED])

    file.write_text(server.token)

    assert adapter.observe([HANDLED]).complete


# ---- what has our name ----------------------------------------------------------------------------------


def taken(server, there):
    server.says("POST", JOBS, status(409, 'jobs.batch "x" already exists', "AlreadyExists"))
    server.says("GET", f"{JOBS}/{MARKER}", *there)


def test_what_we_have_sent_before_is_taken_for_ours(server):
    adapter = server.adapter()
    sent = json.loads(adapter.render(WANTED, REF))
    taken(server, [says({**sent, "metadata": {**sent["metadata"], "uid": "u"}})])

    assert adapter.submit(REF, WANTED)["uid"] == "u"


def test_our_name_on_something_else_is_refused(server):
    taken(server, [says(job_object(annotations={names.DIGEST: "other"}))])

    with pytest.raises(Rejected, match="another Job of that name"):
        server.adapter().submit(REF, WANTED)


def test_a_name_that_is_free_by_now_is_tried_again(server):
    taken(server, [status(404, "not found", "NotFound")])

    with pytest.raises(Busy, match="just removing"):
        server.adapter().submit(REF, WANTED)


# ---- what belongs to an attempt -------------------------------------------------------------------------


def created_on_two(server, adapter):
    ref = new_ref(ON_TWO, marker=MARKER)
    sent = json.loads(adapter.render(ON_TWO, ref))
    root = next(one for one in sent["items"] if one["kind"] == "Job")
    root["metadata"]["uid"] = f"uid-of-{MARKER}"
    server.says("POST", JOBS, says(root))
    return ref, root


def test_a_job_that_was_made_is_submitted_whatever_became_of_the_rest(server):
    """It may run: to say "not submitted" would let another copy start, or leave this one to nobody."""
    adapter = server.adapter()
    ref, root = created_on_two(server, adapter)
    no_more = status(403, "services is forbidden", "Forbidden")
    server.says("POST", SERVICES, says({"kind": "Service"}), no_more)

    handle = adapter.submit(ref, ON_TWO)

    assert handle["uid"] == root["metadata"]["uid"]
    server.says("GET", JOBS, listed(root))
    server.says("GET", PODS, listed())
    server.says("GET", EVENTS, listed())
    seen = adapter.observe([replace(ref, handle=handle)]).found[MARKER]
    assert seen.message == "what belongs to it has not been made yet: services is forbidden"
    assert server.count("POST", SERVICES) == 3


REFUSALS = {
    "for good": (status(422, "spec.ports: Invalid value", "Invalid"), Rejected, "Invalid value"),
    "by a webhook": (status(403, 'webhook "x" denied the request: no', "Forbidden"), Rejected, "denied"),
    "by a quota": (status(403, "exceeded quota: small", "Forbidden"), Busy, "exceeded quota"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_cluster_refuses_of_the_rest_is_known_before_anything_is_made(server, case):
    """Half a service would run, and be told every time that the other half cannot be."""
    answer, kind, words = REFUSALS[case]
    adapter = server.adapter()
    ref, _ = created_on_two(server, adapter)
    server.says("POST", SERVICES, answer)
    server.says("GET", JOBS, listed())

    with pytest.raises(kind, match=words):
        adapter.submit(ref, ON_TWO)

    assert server.count("POST", JOBS) == 0
    assert [query["dryRun"] for query in server.queries("POST", SERVICES)] == ["All"]


SAYS_NOTHING = {
    "no answer": says(b"{"),
    "a failure": status(500, "conversion webhook failed", "InternalError"),
    "later": status(429, "too many requests", "TooManyRequests", Retry_After="1"),
    "a webhook that knows no dry run": status(400, 'webhook "x" does not support dry run', "BadRequest"),
    "no such kind": status(404, "the server could not find the requested resource", "NotFound"),
}


@pytest.mark.parametrize("case", SAYS_NOTHING)
def test_a_try_that_says_nothing_changes_nothing(server, case):
    """What it would have said is told when it is made, as before there was a try."""
    adapter = server.adapter()
    ref, root = created_on_two(server, adapter)
    server.says("POST", SERVICES, SAYS_NOTHING[case], says({"kind": "Service"}))
    server.says("PATCH", f"{JOBS}/{MARKER}", says({"kind": "Job"}))

    assert adapter.submit(ref, ON_TWO)["uid"] == root["metadata"]["uid"]
    assert server.count("POST", SERVICES) == 2


def test_a_try_is_not_waited_for_as_long_as_others(server, monkeypatch):
    """An attempt is looked for by when it may have been sent, and the try comes before that."""
    monkeypatch.setattr(changes, "TRIED_WITHIN_S", 0.2)
    adapter = server.adapter(answer_s=600.0)
    ref, root = created_on_two(server, adapter)
    server.feeds.append(Feed())  # begins to answer, and goes no further
    server.says("POST", SERVICES, server.feeds[-1], says({"kind": "Service"}))
    server.says("PATCH", f"{JOBS}/{MARKER}", says({"kind": "Job"}))

    assert adapter.submit(ref, ON_TWO)["uid"] == root["metadata"]["uid"]


def test_what_stands_in_its_own_way_was_made_before(server):
    """By a quota of one Service, of which it has that one."""
    adapter = server.adapter()
    ref, root = created_on_two(server, adapter)
    taken = status(409, "already exists", "AlreadyExists")
    server.says("POST", SERVICES, status(403, "exceeded quota: small", "Forbidden"), taken)
    server.says("POST", JOBS, taken)
    server.says("GET", JOBS, listed(root))
    server.says("GET", f"{JOBS}/{MARKER}", says(root))

    assert adapter.submit(ref, ON_TWO)["uid"] == root["metadata"]["uid"]


def test_what_belongs_to_an_attempt_is_made_once_and_owned_by_it(server):
    adapter = server.adapter()
    ref, root = created_on_two(server, adapter)
    server.says("POST", SERVICES, says({"kind": "Service"}))
    server.says("PATCH", f"{JOBS}/{MARKER}", says({"kind": "Job"}))

    adapter.submit(ref, ON_TWO)

    tried, made = [query.get("dryRun") for query in server.queries("POST", SERVICES)]
    assert (tried, made) == ("All", None)
    service = [one for one in server.bodies("POST") if one["kind"] == "Service"][1]
    assert service["metadata"]["ownerReferences"][0]["uid"] == root["metadata"]["uid"]
    (note,) = server.bodies("PATCH")
    assert note["metadata"] == {"uid": root["metadata"]["uid"], "annotations": {names.UNFINISHED: None}}


@pytest.mark.parametrize(
    "written",
    [
        "{",
        "7",
        "[null]",
        '[{"kind": "Secret", "metadata": {"name": "x"}, "spec": {}}]',
        '[{"kind": "Service", "metadata": {"name": "other"}, "spec": {}}]',
        json.dumps([{"kind": "Service", "metadata": {"name": MARKER}, "spec": {"type": "LoadBalancer"}}]),
    ],
)
def test_what_somebody_has_written_into_our_annotation_is_not_made(server, written):
    """Whoever may edit a Job there would else make the broker create what they may not."""
    server.says("GET", JOBS, listed(job_object(annotations={names.UNFINISHED: written})))
    server.says("GET", PODS, listed())

    seen = server.adapter().observe([HANDLED]).found[MARKER]

    assert "is not what the broker wrote" in seen.message
    assert server.bodies("POST") == []


# ---- changes --------------------------------------------------------------------------------------------

IN_USE = status(409, "the object has been modified; please apply your changes", "Conflict")


HELD = {"completions": 1, "parallelism": 1, "suspend": True}
VERBS = {"cancel": {}, "hold": {}, "release": {"spec": HELD}}  # and what the Job is before


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_that_others_always_get_ahead_of_is_asked_for_again(server, verb):
    """It was dropped in silence."""
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object(**VERBS[verb])))
    server.says("GET", PODS, listed())
    server.says("PATCH", f"{JOBS}/{MARKER}", IN_USE)

    with pytest.raises(Busy, match="has been modified"):
        getattr(server.adapter(), verb)(HANDLED)


@pytest.mark.parametrize("verb", VERBS)
def test_another_object_of_the_name_is_not_changed(server, verb):
    other = job_object(metadata={"uid": "another"})
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object(**VERBS[verb])), says(other))
    server.says("GET", PODS, listed())
    server.says("PATCH", f"{JOBS}/{MARKER}", status(409, "Precondition failed: UID", "Conflict"))

    getattr(server.adapter(), verb)(HANDLED)

    (body,) = server.bodies("PATCH")
    assert body["metadata"]["uid"] == HANDLED.handle["uid"]


@pytest.mark.parametrize("verb", ["hold", "release"])
def test_hold_and_release_change_only_what_was_looked_at(server, verb):
    """A pod may start, or a cancel come, between the look and the change."""
    before = job_object(**VERBS[verb])
    after = job_object(**VERBS[verb], metadata={"resourceVersion": "8"})
    path = f"{JOBS}/{MARKER}"
    server.says("GET", path, says(before), says(before), says(after))  # the second to tell why it was refused
    server.says("GET", PODS, listed())
    server.says("PATCH", path, IN_USE, says({"kind": "Job"}))

    getattr(server.adapter(), verb)(HANDLED)

    assert [one["metadata"]["resourceVersion"] for one in server.bodies("PATCH")] == ["7", "8"]


def test_what_started_just_before_the_hold_runs_on(server):
    started = {"metadata": {"labels": {names.MARKER: MARKER}}, "status": {"phase": "Running"}}
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object()))
    server.says("GET", PODS, listed(), listed(), listed(started))  # each look is two lists
    server.says("PATCH", f"{JOBS}/{MARKER}", IN_USE)

    server.adapter().hold(HANDLED)

    assert len(server.bodies("PATCH")) == 1


def service_object(**metadata):
    found = job_object(metadata=metadata)
    return {**found, "kind": "Deployment", "spec": {"replicas": 1}}


def updating(server, *answers):
    """Its second revision."""
    wanted = spec(image="a:1", kind=Kind.INFERENCE, command=())
    handle = {**HANDLED.handle, "kind": "Deployment"}
    ref = replace(new_ref(wanted, marker=MARKER), handle=handle, revision=2)
    server.says("PUT", f"{DEPLOYMENTS}/{MARKER}", *answers)
    server.adapter().update(ref, wanted)


def test_an_update_that_the_controller_got_ahead_of_is_made_from_what_is_there_now(server):
    path = f"{DEPLOYMENTS}/{MARKER}"
    server.says("GET", path, says(service_object()), says(service_object(resourceVersion="8")))

    updating(server, IN_USE, says(service_object(resourceVersion="9")))

    assert [one["metadata"]["resourceVersion"] for one in server.bodies("PUT")] == ["7", "8"]


def test_an_update_of_what_always_changes_is_asked_for_again(server):
    server.says("GET", f"{DEPLOYMENTS}/{MARKER}", says(service_object()))

    with pytest.raises(Busy, match="has been modified"):
        updating(server, IN_USE)


def test_an_update_does_not_go_over_a_cancel_that_came_in_between(server):
    cancelled = service_object(annotations={names.CANCELLED: "now"})
    server.says("GET", f"{DEPLOYMENTS}/{MARKER}", says(service_object()), says(cancelled))

    updating(server, IN_USE)

    assert server.count("PUT", f"{DEPLOYMENTS}/{MARKER}") == 1


def test_what_was_cancelled_is_not_released(server):
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object(annotations={names.CANCELLED: "now"}, spec=HELD)))

    server.adapter().release(HANDLED)

    assert server.bodies("PATCH") == []


def test_cleanup_deletes_only_what_is_over_and_only_that_object(server):
    over = job_object(status={"conditions": [{"type": "Complete", "status": "True"}]})
    server.says("GET", f"{JOBS}/{MARKER}", says(job_object()), says(over))
    server.says("GET", PODS, listed())
    server.says("DELETE", f"{JOBS}/{MARKER}", says({"kind": "Status"}))
    adapter = server.adapter()

    adapter.cleanup(HANDLED)
    assert server.count("DELETE", f"{JOBS}/{MARKER}") == 0
    adapter.cleanup(HANDLED)

    (body,) = server.bodies("DELETE")
    assert body == {"propagationPolicy": "Background", "preconditions": {"uid": HANDLED.handle["uid"]}}


# ---- what the check says --------------------------------------------------------------------------------


def checked(server, *, who="broker", allowed=True, trial=None):
    server.passes_a_check(who, allowed=allowed)
    if trial is not None:
        server.says("POST", JOBS, trial)
    return {one.subject: (one.well, one.message) for one in server.adapter().check()}


def test_a_cluster_that_is_well_is_told_so(server):
    found = checked(server)

    assert all(well for well, _ in found.values())
    assert found["rights"] == (True, "in jobs it may do all that it needs")
    assert found["trial"] == (True, "in jobs a Job like the broker's is taken")


def test_a_rule_of_the_site_that_refuses_our_jobs_is_told(server):
    """A webhook or an admission policy, which no right and no quota tells of."""
    rule = status(422, "images come from registry.example/approved only")

    told = "in jobs a Job like the broker's is refused: images come from registry.example/approved only"
    assert checked(server, trial=rule)["trial"] == (False, told)


def test_a_namespace_without_the_role_is_told_in_one_sentence(server):
    told = "in jobs the broker may not do anything: its role is not bound there"

    assert checked(server, allowed=False)["rights"] == (False, told)


def test_who_is_nobody_is_told(server):
    """A plug-in for credentials that fails makes everybody anonymous, and nothing else tells."""
    told = "the broker has no credentials: it is anonymous"

    assert checked(server, who="system:anonymous")["identity"] == (False, told)


@pytest.mark.parametrize("answer", [says(HTML), says([]), says({}), status(503, "not ready")])
def test_what_is_no_api_server_is_one_finding(server, answer):
    server.says("GET", "/version", answer)

    (found,) = server.adapter().check()

    assert (found.subject, found.well) == ("connection", False)


def test_an_adapter_that_was_never_used_can_be_closed(server):
    adapter = server.adapter()
    assert isinstance(adapter, KubernetesAdapter)

    adapter.close()


# ---- what is installed -----------------------------------------------------------------------------------


def test_what_is_installed_is_read_from_the_groups_that_are_served(server):
    groups = [{"name": "kueue.x-k8s.io", "versions": [{"version": "v1beta2"}, {"version": "v1beta1"}]}]
    server.says("GET", "/apis", says({"kind": "APIGroupList", "groups": [*groups, {"name": "odd"}]}))

    assert cluster.apis(server.adapter().client) == {"kueue.x-k8s.io": ["v1beta2", "v1beta1"], "odd": []}


def test_a_broker_that_may_not_ask_knows_of_nothing_that_is_installed(server):
    server.says("GET", "/apis", status(403, RIGHT, "Forbidden"))

    assert cluster.apis(server.adapter().client) == {}
