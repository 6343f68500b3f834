"""What a namespace allows, before a job is placed there: only what can never be is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import Inventory
from adapters.kubernetes import limit_ranges, loading, tenancy
from api_spec.jobs import Kind, Output, Replicas, Resources, Service, Volume
from api_spec.reasons import Reason
from tests.builders import spec
from tests.limit_ranges import ALLOWED, REFUSED, WITHOUT_MEMORY

OPTIONS = loading.load(
    {"kubeconfig": "/k", "namespaces": {"vision": "ml-vision"}, "outputs_claim": "outputs"}, "k8s"
)


def named(name, **members):
    return {"metadata": {"name": name}, "spec": members}


def quota(hard, **members):
    return named("gpus", hard=hard, **members)


def there(quotas=(), limits=(), claims=None):
    found = {"quotas": tenancy.quotas(list(quotas)), "limits": limit_ranges.read(list(limits))}
    if claims is not None:
        found["claims"] = tenancy.named([named(name) for name in claims])
    return Inventory(as_of=0, details={"tenancy": {"ml-vision": found}})


def job(**changes):
    return replace(spec(**changes), project="vision", image="a:1")


def asks(**resources):
    return job(resources=Resources(**resources))


def refused(wanted, inventory):
    return [(one.code, one.field) for one in tenancy.refusals(wanted, inventory, OPTIONS)]


def service(**replicas):
    return job(kind=Kind.INFERENCE, service=Service(port=80, replicas=Replicas(**replicas)))


BEYOND = {
    "gpus": (asks(gpus_per_node=8), {"requests.nvidia.com/gpu": "4"}, "/resources/gpus_per_node"),
    "gpus of all nodes": (
        asks(nodes=2, gpus_per_node=4),
        {"requests.nvidia.com/gpu": "7"},
        "/resources/gpus_per_node",
    ),
    "cpus": (asks(cpus_per_task=3), {"requests.cpu": "2500m"}, "/resources/cpus_per_task"),
    "cpus in short": (asks(cpus_per_task=3), {"cpu": "2"}, "/resources/cpus_per_task"),
    "memory": (asks(memory_per_node_mib=2048), {"limits.memory": "1Gi"}, "/resources/memory_per_node"),
    "pods": (asks(nodes=3), {"pods": "2"}, "/resources/nodes"),
    "replicas": (service(min=3, max=4), {"pods": "2"}, "/resources/nodes"),
}


@pytest.mark.parametrize("case", BEYOND)
def test_what_a_quota_can_never_hold_is_refused(case):
    wanted, hard, field = BEYOND[case]

    assert refused(wanted, there([quota(hard)])) == [(Reason.QUOTA_EXCEEDED, field)]


WITHIN = {
    "as much": (asks(gpus_per_node=4), quota({"requests.nvidia.com/gpu": "4"})),
    "something else": (asks(gpus_per_node=4), quota({"requests.storage": "1", "count/jobs.batch": "1"})),
    "a limit of cpus": (asks(cpus_per_task=9), quota({"limits.cpu": "1"})),
    "of some pods only": (asks(nodes=9), quota({"pods": "1"}, scopes=["BestEffort"])),
    "of a class": (asks(nodes=9), quota({"pods": "1"}, scopeSelector={"matchExpressions": []})),
    "memory that is not asked for": (asks(), quota({"requests.memory": "1Mi"})),
}


@pytest.mark.parametrize("case", WITHIN)
def test_what_a_quota_may_hold_is_not(case):
    wanted, found = WITHIN[case]

    assert refused(wanted, there([found])) == []


def test_the_sentence_has_both_numbers():
    [one] = tenancy.refusals(asks(memory_per_node_mib=2048), there([quota({"memory": "1Gi"})]), OPTIONS)

    assert one.message == "asks for 2048Mi of memory; the quota gpus of ml-vision allows 1024Mi"


FOUR = asks(cpus_per_task=4, memory_per_node_mib=1024)


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_limit_refuses_of_a_pod_is_told_before(case):
    rows, (field, told) = REFUSED[case]
    (one,) = tenancy.refusals(FOUR, there(limits=[named("small", limits=rows)]), OPTIONS)

    assert (one.code, one.field) == (Reason.NEVER_FITS, field)
    assert one.message.startswith(told)


@pytest.mark.parametrize("case", WITHOUT_MEMORY)
def test_memory_that_a_job_does_not_name_is_what_it_is_given(case):
    rows, told = WITHOUT_MEMORY[case]
    inventory = there(limits=[named("small", limits=rows)])
    found = list(tenancy.refusals(asks(cpus_per_task=4), inventory, OPTIONS))

    assert [one.message.startswith(told) for one in found] == ([True] if told else [])


@pytest.mark.parametrize("case", ALLOWED)
def test_what_a_limit_allows_is_not_refused(case):
    assert refused(FOUR, there(limits=[named("small", limits=ALLOWED[case])])) == []


def test_of_several_defaults_nobody_knows_which_it_is():
    """The API server takes them in no order that lasts."""
    rows = [{"type": "Container", "default": {"cpu": most}} for most in ("8", "2")]

    assert refused(FOUR, there(limits=[named("a", limits=rows[:1]), named("b", limits=rows[1:])])) == []


def test_a_claim_has_to_be_there():
    wanted = job(
        volumes=(Volume(source="pvc:data", mount_path="/d"), Volume(source="pvc:gone", mount_path="/g")),
        outputs=(Output(name="model", path="m"),),
    )

    assert refused(wanted, there(claims=["data"])) == [
        (Reason.UNSUPPORTED, "/volumes/1/source"),
        (Reason.UNSUPPORTED, "/outputs"),
    ]
    assert refused(wanted, there(claims=["data", "gone", "outputs"])) == []


def test_what_could_not_be_read_refuses_nothing():
    wanted = job(resources=Resources(nodes=99), volumes=(Volume(source="pvc:data", mount_path="/d"),))

    assert refused(wanted, there()) == []
    assert refused(wanted, Inventory(as_of=0)) == []
    assert refused(replace(wanted, project="nlp"), there([quota({"pods": "1"})])) == []


@pytest.mark.parametrize(
    "odd", [{}, {"spec": None}, {"spec": {"hard": [1]}}, {"spec": {"limits": [None, 3]}}]
)
def test_an_odd_object_is_read_as_nothing(odd):
    assert all(not one["hard"] for one in tenancy.quotas([odd]))
    assert limit_ranges.read([odd]) == []
