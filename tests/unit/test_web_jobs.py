"""Jobs over HTTP: submit, read, act; against a broker in memory."""

import dataclasses
import json
import threading

import pytest
from web_stub import DECISION, SERVICE, TRAINING, running_api

from api_spec.errors import NothingFits
from api_spec.states import JobState
from broker.access import Scope


@pytest.fixture
def api():
    with running_api() as api:
        yield api


@pytest.fixture
def ana(api):
    return api.as_("ana")


@pytest.fixture
def job(ana):
    return ana.post("/v1/jobs", json=TRAINING).json["job"]


@pytest.fixture
def service(ana):
    return ana.post("/v1/jobs", json=SERVICE).json["job"]


# ---- submit ------------------------------------------------------------------------------------------


def test_a_submitted_job_comes_back_with_its_decision_and_its_place(ana):
    answer = ana.post("/v1/jobs", json=TRAINING)

    assert answer.status_code == 202
    assert answer.json["job"]["state"] == "ACCEPTED"
    assert answer.json["decision"]["chosen"] == "local"
    assert ana.get(answer.headers["Location"]).json == answer.json["job"]


def test_what_was_read_can_be_submitted_again(ana, job):
    again = ana.post("/v1/jobs", json=job["spec"])

    assert again.json["job"]["spec"] == job["spec"]


def test_a_dry_run_of_a_bundle_answers_each_decision_and_stores_nothing(api, ana):
    answer = ana.post("/v1/jobs:batch?dry_run=true", json={"jobs": [TRAINING, TRAINING | {"name": "b"}]})

    assert answer.status_code == 200
    assert [decision["outcome"] for decision in answer.json["decisions"]] == ["placed", "placed"]
    assert api.broker.jobs == {}


@pytest.mark.parametrize(
    "method, path", [("POST", "/v1/jobs/{}/cancel"), ("GET", "/v1/jobs/{}"), ("POST", "/v1/jobs/{}/resubmit")]
)
def test_a_parameter_that_nobody_reads_is_refused(api, ana, job, method, path):
    """Who asks for a dry run must not get a wet one."""
    answer = ana.open(path.format(job["id"]) + "?dry_run=true&x=1", method=method)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [fault["pointer"] for fault in answer.json["errors"]] == ["?dry_run", "?x"]
    assert api.broker.jobs[job["id"]].state is JobState.ACCEPTED


def test_a_health_check_may_say_what_it_likes(ana):
    assert ana.get("/healthz?from=balancer").status_code == 200


def test_a_dry_run_answers_the_decision_and_stores_nothing(api, ana):
    answer = ana.post("/v1/jobs?dry_run=true", json=TRAINING)

    assert (answer.status_code, answer.json["outcome"]) == (200, "placed")
    assert [verdict["eligible"] for verdict in answer.json["verdicts"]] == [False, True]
    assert api.broker.jobs == {}


def test_every_fault_of_a_spec_is_pointed_at(ana):
    answer = ana.post("/v1/jobs", json={**TRAINING, "nme": "x", "resources": {"nodes": 0}})

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_spec")
    assert {fault["pointer"] for fault in answer.json["errors"]} == {"/nme", "/resources/nodes"}


def test_when_nothing_fits_the_decision_says_why(api, ana):
    def nothing_fits(*_, **__):
        raise NothingFits("no backend can run it", decision=DECISION)

    api.broker.accept = nothing_fits

    answer = ana.post("/v1/jobs", json=TRAINING)

    assert (answer.status_code, answer.json["code"]) == (422, "nothing_fits")
    assert answer.json["decision"]["verdicts"][0]["refusals"][0]["code"] == "Drained"


def test_a_bundle_is_answered_in_its_order(ana):
    answer = ana.post("/v1/jobs:batch", json={"jobs": [TRAINING, SERVICE]})

    assert answer.status_code == 202
    assert [one["job"]["spec"]["name"] for one in answer.json["jobs"]] == ["digits", "digits-api"]


def test_the_faults_of_all_jobs_of_a_bundle_are_told_at_once(api, ana):
    answer = ana.post("/v1/jobs:batch", json={"jobs": [{**TRAINING, "x": 1}, SERVICE, {"kind": "batch"}]})

    assert answer.status_code == 422
    assert {"/jobs/0/x", "/jobs/2/name"} <= {fault["pointer"] for fault in answer.json["errors"]}
    assert api.broker.jobs == {}


@pytest.mark.parametrize(
    "bundle",
    [[], {}, {"jobs": []}, {"jobs": {}}, {"jobs": [TRAINING], "more": 1}, {"jobs": [TRAINING] * 1001}],
    ids=["list", "nothing", "empty", "object", "more", "too many"],
)
def test_what_is_no_bundle_is_refused(ana, bundle):
    answer = ana.post("/v1/jobs:batch", json=bundle)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/jobs")


# ---- idempotency -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first, second", [('"k-1"', '"k-1"'), ("k-1", '"k-1"')], ids=["same", "bare or quoted"]
)
def test_a_repeated_key_gives_the_same_job(api, ana, first, second):
    one = ana.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": first})
    other = ana.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": second})

    assert one.json == other.json
    assert "Idempotent-Replayed" not in one.headers
    assert other.headers["Idempotent-Replayed"] == "true"
    assert len(api.broker.jobs) == 1


def test_a_key_with_another_body_is_refused(ana):
    ana.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": "k"})

    answer = ana.post("/v1/jobs", json={**TRAINING, "name": "other"}, headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_conflict")


@pytest.mark.parametrize("key", ["", '""', "a b", "é", "x" * 256], ids=["no", "empty", "blank", "é", "long"])
def test_a_key_that_cannot_be_one_is_refused(ana, key):
    answer = ana.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["errors"][0]["pointer"] == "Idempotency-Key"


# ---- read --------------------------------------------------------------------------------------------


def test_a_list_leads_to_its_next_page_by_link(ana):
    for _ in range(3):
        ana.post("/v1/jobs", json=TRAINING)

    first = ana.get("/v1/jobs?limit=2&state=ACCEPTED")
    link = first.headers["Link"]
    second = ana.get(link[1 : link.index(">")])

    assert link.endswith('rel="next"') and "state=ACCEPTED" in link
    assert (len(first.json["items"]), len(second.json["items"]), second.json["next"]) == (2, 1, None)
    assert "Link" not in second.headers


def test_the_filters_of_a_list_reach_the_broker(api, ana):
    ana.get(
        "/v1/jobs?state=QUEUED&state=RUNNING&kind=training&label=team%3Dvision&label=a=b=c"
        "&created_after=2026-11-22T02:18:54Z&owner=ana&limit=7"
    )

    query = api.broker.calls[-1][1]
    assert query.project == "vision"
    assert query.state == (JobState.QUEUED, JobState.RUNNING)
    assert query.labels == {"team": "vision", "a": "b=c"}
    assert (query.kind, query.owner, query.limit, query.backend) == ("training", "ana", 7, None)
    assert query.created_after == 1795313934.0


def test_a_list_is_of_the_tokens_own_project(api, ana):
    assert ana.get("/v1/jobs?project=vision").status_code == 200

    answer = ana.get("/v1/jobs?project=speech")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (403, "?project")
    assert "the token is for the project vision" in answer.json["detail"]


@pytest.mark.parametrize(
    "query, pointer",
    [
        ("limit=0", "?limit"),
        ("limit=501", "?limit"),
        ("limit=x", "?limit"),
        ("state=DONE", "?state"),
        ("label=team", "?label"),
        ("created_after=yesterday", "?created_after"),
        ("colour=red", "?colour"),
        ("limit=1&limit=2", "?limit"),
        ("cursor=", "?cursor"),
    ],
)
def test_a_query_that_means_nothing_is_refused_by_name(ana, query, pointer):
    answer = ana.get(f"/v1/jobs?{query}")

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)


def test_a_job_that_has_not_changed_is_not_sent_again(ana, job):
    first = ana.get(f"/v1/jobs/{job['id']}")

    again = ana.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", '"1"')


def test_freshness_alone_does_not_change_the_etag(api, ana, job):
    before = ana.get(f"/v1/jobs/{job['id']}").headers["ETag"]
    api.broker.jobs[job["id"]] = dataclasses.replace(api.broker.jobs[job["id"]], observed_at=2e9)

    assert ana.get(f"/v1/jobs/{job['id']}").headers["ETag"] == before


@pytest.mark.parametrize("part", ["attempts", "usage", "tasks", "events", "pending", "decision?all=true"])
def test_the_parts_of_a_job_are_lists(ana, job, part):
    answer = ana.get(f"/v1/jobs/{job['id']}/{part}")

    assert answer.status_code == 200
    assert len(answer.json["items"]) >= 1


def test_the_decision_of_a_job_is_the_last_one(ana, job):
    assert ana.get(f"/v1/jobs/{job['id']}/decision").json["attempt"] == 1


# ---- wait --------------------------------------------------------------------------------------------


def test_a_wait_ends_when_the_job_does(api, ana, job):
    threading.Timer(0.3, api.broker.change, [job["id"]], {"state": JobState.COMPLETED}).start()

    answer = ana.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})

    assert answer.json["state"] == "COMPLETED"
    assert answer.headers["Preference-Applied"] == "wait=30"


def test_a_wait_with_an_etag_ends_with_any_change(api, ana, job):
    threading.Timer(0.3, api.broker.change, [job["id"]], {"state": JobState.QUEUED}).start()

    headers = {"Prefer": "respond-async, wait=30", "If-None-Match": '"1"'}
    answer = ana.get(f"/v1/jobs/{job['id']}", headers=headers)

    assert (answer.status_code, answer.json["state"]) == (200, "QUEUED")


def test_a_wait_is_over_at_its_time(ana, job):
    headers = {"Prefer": "wait=1", "If-None-Match": '"1"'}

    assert ana.get(f"/v1/jobs/{job['id']}", headers=headers).status_code == 304


def test_with_no_thread_to_spare_nobody_waits(api, ana, job):
    while api.web.slots.take():
        pass

    answer = ana.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=30"})

    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_every_wait_gives_its_slot_back(api, ana, job):
    ana.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=1"})

    assert api.web.slots.free._value == api.web.slots.count


# ---- act ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb, member, value",
    [("cancel", "cancel_requested", True), ("hold", "held", True), ("release", "held", False)],
)
def test_an_action_answers_the_job_as_it_is_then(ana, job, verb, member, value):
    answer = ana.post(f"/v1/jobs/{job['id']}/{verb}")

    assert (answer.status_code, answer.json[member]) == (202, value)
    assert answer.headers["ETag"] == '"2"'


def test_a_cancel_may_name_tasks_and_says_what_became_of_them(api, ana, job):
    answer = ana.post(f"/v1/jobs/{job['id']}/cancel", json={"tasks": "9,3,5-7"})

    assert answer.status_code == 202
    assert api.broker.calls[-1] == ("cancel_tasks", "3,5-7,9")
    assert answer.json["task_cancel"] == {"requested": "3,5-7,9", "ended_before": None}
    assert (answer.json["cancel_requested"], answer.headers["ETag"]) == (False, '"2"')


@pytest.mark.parametrize("sent", [{}, {"json": {}}, {"data": b""}], ids=["nothing", "an object", "no bytes"])
def test_a_cancel_that_names_no_tasks_means_the_whole_job(ana, job, sent):
    answer = ana.post(f"/v1/jobs/{job['id']}/cancel", **sent)

    assert (answer.status_code, answer.json["cancel_requested"]) == (202, True)
    assert answer.json["task_cancel"] is None


@pytest.mark.parametrize(
    "body, status, pointer",
    [
        ({"tasks": ""}, 422, "/tasks"),
        ({"tasks": None}, 422, "/tasks"),
        ({"tasks": 3}, 422, "/tasks"),
        ({"tasks": [3]}, 422, "/tasks"),
        ({"tasks": "3-1"}, 422, "/tasks"),
        ({"tasks": "99"}, 422, "/tasks"),
        ({"task": "3"}, 422, "/task"),
        ([], 422, ""),
        (None, 422, ""),
    ],
    ids=str,
)
def test_a_cancel_that_cannot_be_read_cancels_nothing(api, ana, job, body, status, pointer):
    """Least of all the whole job, where somebody meant one task of it."""
    answer = ana.post(f"/v1/jobs/{job['id']}/cancel", data=json.dumps(body), content_type="application/json")

    assert answer.status_code == status
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert api.broker.jobs[job["id"]].version == 1


def test_a_body_of_a_cancel_that_is_no_json_is_refused(api, ana, job):
    text = ana.post(f"/v1/jobs/{job['id']}/cancel", data="tasks=3")
    broken = ana.post(f"/v1/jobs/{job['id']}/cancel", data="{", content_type="application/json")

    assert (text.status_code, broken.status_code) == (415, 400)
    assert api.broker.jobs[job["id"]].version == 1


@pytest.mark.parametrize("verb", ["hold", "release", "resubmit"])
@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        ("{{{", "application/json", 400),
        ('{"a": 1, "a": 2}', "application/json", 400),
        ('{"spec": {}}', "application/json", 422),
        ("[]", "application/json", 422),
        ("x", "text/plain", 415),
        ("{" + " " * 2_000_000 + "}", "application/json", 413),
        ("{}", "application/json", 202),
        ("", "text/plain", 202),
    ],
    ids=["broken", "doubled", "a member", "a list", "text", "huge", "empty", "nothing"],
)
def test_a_body_that_nobody_reads_is_refused_and_nothing_done(
    api, ana, job, verb, data, content_type, status
):
    before = dict(api.broker.jobs)

    answer = ana.post(f"/v1/jobs/{job['id']}/{verb}", data=data, content_type=content_type)

    assert answer.status_code == status
    assert (api.broker.jobs != before) == (status == 202)


@pytest.mark.parametrize("verb", ["drain", "pause", "resume", "check"])
def test_a_body_for_a_backend_that_nobody_reads_is_refused(ana, verb):
    answer = ana.post(f"/v1/backends/local/{verb}", json={"reason": "upgrade"})

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/reason")


def test_a_resubmitted_job_is_a_new_one(ana, job):
    answer = ana.post(f"/v1/jobs/{job['id']}/resubmit")

    assert answer.status_code == 202
    assert answer.json["job"]["id"] != job["id"]
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['job']['id']}"


def test_a_repeated_key_resubmits_once(api, ana, job):
    one, two = (ana.post(f"/v1/jobs/{job['id']}/resubmit", headers={"Idempotency-Key": "k"}) for _ in "ab")

    assert one.json == two.json
    assert two.headers["Idempotent-Replayed"] == "true"
    assert len(api.broker.jobs) == 2


def test_a_key_that_submitted_a_job_resubmits_none(ana, job):
    ana.post("/v1/jobs", json=TRAINING, headers={"Idempotency-Key": "k"})

    answer = ana.post(f"/v1/jobs/{job['id']}/resubmit", headers={"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_conflict")


def test_a_service_is_scaled(ana, service):
    answer = ana.patch(f"/v1/jobs/{service['id']}", json={"replicas": 3})

    assert (answer.status_code, answer.json["replicas_wanted"]) == (202, 3)


def test_a_patch_of_the_spec_leaves_the_rest_as_it_was(ana, service):
    patch = {"spec": {"environment": {"A": "1"}, "service": {"replicas": {"max": 9}}}}

    answer = ana.patch(
        f"/v1/jobs/{service['id']}", json=patch, headers={"Content-Type": "application/merge-patch+json"}
    )

    assert answer.status_code == 202
    assert answer.json["spec"]["environment"] == {"A": "1"}
    assert answer.json["spec"]["service"]["replicas"]["max"] == 9
    assert answer.json["spec"]["command"] == SERVICE["command"]


@pytest.mark.parametrize("name", ["service", "array", "time_limit"])
def test_a_patch_of_a_field_at_the_top_is_told_where_it_goes(ana, service, name):
    answer = ana.patch(f"/v1/jobs/{service['id']}", json={name: {}})

    fault = answer.json["errors"][0]
    assert (answer.status_code, fault["pointer"]) == (422, f"/{name}")
    assert f'{{"spec": {{"{name}": ...}}}}' in fault["message"]


def test_null_in_a_patch_takes_a_member_away(ana):
    job = ana.post("/v1/jobs", json={**SERVICE, "labels": {"a": "1", "b": "2"}}).json["job"]

    answer = ana.patch(f"/v1/jobs/{job['id']}", json={"spec": {"labels": {"a": None}}})

    assert answer.json["spec"]["labels"] == {"b": "2"}


@pytest.mark.parametrize("verb", ["", "cancel", "hold", "release", "resubmit"])
@pytest.mark.parametrize(
    "if_match, status",
    [
        ('"1"', 202),
        ("*", 202),
        ('"2"', 412),
        ('W/"1"', 412),
        ('"x"', 412),
        ('"1", "2"', 400),
        ("1", 400),
        ("", 400),
    ],
)
def test_what_acts_on_a_job_honours_if_match(api, ana, service, verb, if_match, status):
    before, headers = dict(api.broker.jobs), {"If-Match": if_match}

    if verb:
        answer = ana.post(f"/v1/jobs/{service['id']}/{verb}", headers=headers)
    else:
        answer = ana.patch(f"/v1/jobs/{service['id']}", json={"replicas": 3}, headers=headers)

    assert answer.status_code == status
    assert (api.broker.jobs == before) == (status != 202)
    if status == 400:
        assert [fault["pointer"] for fault in answer.json["errors"]] == ["If-Match"]


@pytest.mark.parametrize(
    "patch, pointer",
    [
        ({}, ""),
        ([], ""),
        ({"replicas": -1}, "/replicas"),
        ({"replicas": "3"}, "/replicas"),
        ({"replicas": True}, "/replicas"),
        ({"spec": []}, "/spec"),
        ({"state": "COMPLETED"}, "/state"),
        ({"spec": {"service": {"port": 0}}}, "/spec/service/port"),
    ],
    ids=str,
)
def test_a_patch_that_means_nothing_is_refused(ana, service, patch, pointer):
    answer = ana.patch(f"/v1/jobs/{service['id']}", json=patch)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)


def test_what_the_backend_cannot_do_says_so(ana, job):
    answer = ana.patch(f"/v1/jobs/{job['id']}", json={"replicas": 3})

    assert (answer.status_code, answer.json["code"]) == (501, "not_supported")


# ---- who may -----------------------------------------------------------------------------------------

ROUTES_OF_A_JOB = [
    ("GET", ""),
    ("PATCH", ""),
    ("GET", "/attempts"),
    ("GET", "/usage"),
    ("GET", "/tasks"),
    ("GET", "/events"),
    ("GET", "/decision"),
    ("GET", "/pending"),
    ("GET", "/logs"),
    ("POST", "/cancel"),
    ("POST", "/hold"),
    ("POST", "/release"),
    ("POST", "/resubmit"),
]


def test_the_table_below_knows_every_route_of_a_job(api):
    found = {
        (method, rule.rule.removeprefix("/v1/jobs/<job_id>"))
        for rule in api.app.url_map.iter_rules()
        if rule.rule.startswith("/v1/jobs/<job_id>")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert found == set(ROUTES_OF_A_JOB)


@pytest.mark.parametrize("method, path", ROUTES_OF_A_JOB, ids=lambda part: part or "/")
@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_another_projects_job_is_the_same_404_as_none_at_all(api, service, method, path, accept):
    stranger = api.as_("eve", project="speech")
    ask = {
        "method": method,
        "headers": {"Accept": accept},
        "json": {"replicas": 2} if method == "PATCH" else None,
    }

    theirs = stranger.open(f"/v1/jobs/{service['id']}{path}", **ask)
    none = stranger.open(f"/v1/jobs/{'0' * 26}{path}", **ask)

    assert (theirs.status_code, none.status_code) == (404, 404)
    assert theirs.json["detail"].replace(service["id"], "0" * 26) == none.json["detail"]


def test_a_colleagues_job_can_be_read_and_not_cancelled(api, job):
    ben = api.as_("ben", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))

    assert ben.get(f"/v1/jobs/{job['id']}").status_code == 200
    assert ben.post(f"/v1/jobs/{job['id']}/cancel").status_code == 403


def test_a_portal_acts_for_its_users(api):
    portal = api.as_("portal", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.JOBS_ACT_AS}))

    job = portal.post("/v1/jobs", json=TRAINING, headers={"Broker-Owner": "ana"}).json["job"]

    assert (job["owner"], job["submitter"]) == ("ana", "portal")


@pytest.mark.parametrize("owner, status", [("ben", 403), ("a b", 400), ("", 400), ("a\tb", 400)])
def test_who_may_not_act_for_others_does_not(api, owner, status):
    plain = api.as_("ana", scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))

    answer = plain.post("/v1/jobs", json=TRAINING, headers={"Broker-Owner": owner})

    assert answer.status_code == status
