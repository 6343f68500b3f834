"""As whom the broker writes on Kubernetes: by the operator's word, and never as one of Kubernetes' own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapters.base import AttemptRef
from adapters.errors import Busy, Rejected
from adapters.kubernetes import loading, names
from adapters.kubernetes.identity import Identity, identity_of
from api_spec.jobs import Kind
from api_spec.reasons import Reason
from tests.builders import spec
from tests.contract.places import new_ref
from tests.unit.kubernetes_objects import condition
from tests.unit.kubernetes_plans import options, plan
from tests.unit.kubernetes_stub import (
    JOBS,
    MARKER,
    PODS,
    SERVICES,
    Scripted,
    handle_of,
    job_object,
    listed,
    says,
    status,
)

WANTED = spec(image="a:1", kind=Kind.BATCH, project="vision")
REF = new_ref(WANTED, marker=MARKER, owner="ana", project="vision")
BY_NAME = {"user": "ml:{owner}", "groups": ["ml:{project}", "ml"]}
BY_TABLE = {"table": {"ana": "ana@example.org"}}


def known(**given):
    return options(impersonate=given)


# ---- who -------------------------------------------------------------------------------------------------


def test_an_owner_is_a_user_with_groups():
    found = identity_of("ana", "vision", known(**BY_NAME))

    assert found == Identity(user="ml:ana", groups=("ml:vision", "ml"))


def test_who_is_not_in_the_table_is_nobody():
    given = known(**BY_TABLE)

    assert identity_of("ana", "vision", given) == Identity(user="ana@example.org")
    assert identity_of("bob", "vision", given) is None


@pytest.mark.parametrize(
    "owner",
    ["system:masters", "system:serviceaccount:kube-system:x", "a\nImpersonate-Group: x", "größer", "a" * 300],
)
def test_nobody_is_one_of_kubernetes_own_or_a_header_of_his_own(owner):
    assert identity_of(owner, "vision", known(user="{owner}")) is None


def test_a_brace_in_one_name_is_not_the_place_of_another():
    found = identity_of("{project}", "vision", known(user="ml:{owner}:{project}"))

    assert found == Identity(user="ml:{project}:vision")


@pytest.mark.parametrize("group", ["system:{project}", "{project}"])
def test_no_group_becomes_one_of_kubernetes_own(group):
    if group.startswith("system:"):
        with pytest.raises(ValueError, match=r"impersonate\.groups\[0\]"):
            known(user="ml:{owner}", groups=[group])
        return
    assert identity_of("ana", "system:masters", known(user="ml:{owner}", groups=[group])) is None


FAULTS = {
    "impersonate.user": {"user": "system:admin"},
    "impersonate.table.ana": {"table": {"ana": "system:masters"}},
    "impersonate.groups[0]": {"user": "a", "groups": ["system:masters"]},
    "impersonate needs either": {},
    "impersonate needs": {"user": "ml:{owner}", "table": {"ana": "b"}},
    "impersonate.who": {"who": "x"},
    "user is a name": {"user": "ml:{onwer}"},
}


@pytest.mark.parametrize("words", FAULTS)
def test_an_operator_who_errs_is_told_where(words):
    with pytest.raises(ValueError, match=r"^k8s: ") as fault:
        loading.load({"kubeconfig": "/k", "namespace": "jobs", "impersonate": FAULTS[words]}, "k8s")

    assert words in str(fault.value)


# ---- what is written -------------------------------------------------------------------------------------


def test_the_object_keeps_as_whom_it_was_made():
    root = plan(WANTED, options=known(**BY_NAME)).root

    assert root["metadata"]["annotations"][names.USER] == "ml:ana"
    assert names.USER not in plan(WANTED).root["metadata"]["annotations"]


def impersonated(server, method):
    """Of each request of the method: the user and the groups that it was made as."""
    return [
        (
            [one for key, one in headers if key == "Impersonate-User"],
            [one for key, one in headers if key == "Impersonate-Group"],
        )
        for told, headers in server.headers
        if told == method
    ]


def test_writes_are_the_owners_and_reads_the_brokers(server):
    """Each group is a header of its own."""
    made = job_object(annotations={names.USER: "ml:ana"})
    server.says("POST", JOBS, says(made))
    server.says("GET", f"{JOBS}/{MARKER}", says(made))
    server.says("GET", PODS, listed())
    server.says("PATCH", f"{JOBS}/{MARKER}", says(made))
    server.says("DELETE", f"{JOBS}/{MARKER}", says({"kind": "Status"}))
    adapter = server.adapter(impersonate=BY_NAME)

    handle = adapter.submit(REF, WANTED)
    adapter.cancel(REF)
    server.says("GET", f"{JOBS}/{MARKER}", says({**made, "status": {"conditions": [condition("Complete")]}}))
    adapter.cleanup(REF)

    assert handle["user"] == "ml:ana"
    for method in ("POST", "PATCH", "DELETE"):
        assert impersonated(server, method) == [(["ml:ana"], ["ml:vision", "ml"])]
    assert {str(one) for one in impersonated(server, "GET")} == {"([], [])"}


def test_without_the_option_the_broker_is_itself(server):
    server.says("POST", JOBS, says(job_object()))

    handle = server.adapter().submit(REF, WANTED)

    assert "user" not in handle
    assert impersonated(server, "POST") == [([], [])]


def test_a_job_of_nobody_is_refused_and_nothing_is_sent(server):
    adapter = server.adapter(impersonate=BY_TABLE)

    with pytest.raises(Rejected, match="is for bob, who is nobody on k8s"):
        adapter.submit(replace(REF, owner="bob"), WANTED)
    with pytest.raises(Busy, match="nothing is written for bob"):
        adapter.cancel(replace(REF, owner="bob"))

    assert not impersonated(server, "POST")


def test_what_one_owner_may_not_takes_the_backend_from_nobody_else(server):
    """A backend that is down is left alone by all."""
    server.says(
        "POST", JOBS, status(403, 'jobs.batch is forbidden: User "ml:ana" cannot create', "Forbidden")
    )

    with pytest.raises(Busy, match="ml:ana may not") as busy:
        server.adapter(impersonate=BY_NAME).submit(REF, WANTED)

    assert busy.value.reason is not Reason.BACKEND_DOWN


def test_what_a_dead_worker_has_left_is_made_as_the_owner_when_the_broker_has_said_who_that_is(server):
    """A pass knows a marker and a handle, and what an object says of its owner anybody may have written."""
    service = {"kind": "Service", "metadata": {"name": MARKER}, "spec": {"selector": {}}}
    root = job_object(annotations={names.UNFINISHED: json.dumps([service]), names.USER: "ml:bob"})
    server.says("GET", JOBS, listed(root))
    server.says("GET", f"{JOBS}/{MARKER}", says(root))
    server.says("PATCH", f"{JOBS}/{MARKER}", says(root))
    server.says("GET", PODS, listed())
    server.says("POST", SERVICES, says(service))
    adapter = server.adapter(impersonate=BY_NAME)

    seen = adapter.observe([AttemptRef(marker=MARKER, handle=handle_of())]).found[MARKER]
    assert seen.unfinished
    assert not impersonated(server, "POST")
    adapter.complete(replace(REF, handle=handle_of()))

    assert impersonated(server, "POST") == [(["ml:ana"], ["ml:vision", "ml"])]


# ---- what the check says ---------------------------------------------------------------------------------


def checked(server, denied=(), **options):
    """``denied``: users and groups that the broker may not be."""

    class MayNotAll(Scripted):
        def answer(self, method, target, body):
            asked = (body or {}).get("spec", {}).get("resourceAttributes", {})
            if asked.get("name") in denied:
                return says({"kind": "x", "status": {"allowed": False}})
            return super().answer(method, target, body)

    server.__class__ = MayNotAll
    server.passes_a_check()
    return [(one.subject, one.well, one.message) for one in server.adapter(**options).check()]


def test_the_check_asks_for_the_owners_what_they_will_do(server):
    found = checked(server, impersonate={"table": {"ana": "ml:ana"}, "groups": ["ml"]})

    assert ("identity", True, "it may write as ml:ana") in found
    assert ("rights", True, "in jobs ml:ana may do all that it needs") in found
    assert ("trial", True, "in jobs a Job like the broker's is taken") in found
    assert (["ml:ana"], ["ml"]) in impersonated(server, "POST")


def test_the_check_names_whom_the_broker_may_not_be(server):
    found = checked(server, denied=("ml:ana", "ml"), impersonate={"user": "ml:ana", "groups": ["ml"]})

    assert ("identity", False, "the broker may not act as user ml:ana, group ml") in found


def test_of_a_template_nobody_is_known_before_a_job_comes(server):
    found = checked(server, impersonate=BY_NAME)

    told = "it writes as ml:{owner} of each job; whether it may is known when the job comes"
    assert ("identity", True, told) in found
    assert not [one for one in found if one[0] == "trial"]


def test_the_check_says_that_no_node_has_the_label_of_racks(server):
    found = checked(server, rack_label="example.org/rack")

    assert ("nodes", False, "rack_label is example.org/rack, which no node has") in found


def test_rights_to_kedas_objects_are_asked_for_where_they_are_made(server):
    checked(server, prometheus="http://prometheus:9090")

    asked = [
        one["spec"]["resourceAttributes"] for one in server.bodies("POST") if "resourceAttributes" in str(one)
    ]
    assert {one["verb"] for one in asked if one["group"] == "keda.sh"} == {
        "get",
        "list",
        "create",
        "patch",
        "delete",
    }


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        ("exceeded quota: small", Busy, Reason.QUOTA_EXCEEDED),
        ("denied the request: no", Rejected, Reason.REJECTED),
    ],
)
def test_a_quota_and_a_rule_are_told_as_to_the_broker_itself(server, words, error, reason):
    server.says("POST", JOBS, status(403, f'jobs.batch "x" is forbidden: {words}', "Forbidden"))

    with pytest.raises(error) as told:
        server.adapter(impersonate=BY_NAME).submit(REF, WANTED)

    assert told.value.reason is reason
