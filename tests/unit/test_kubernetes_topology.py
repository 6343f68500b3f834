"""How the pods of one attempt stand to each other: spread, or in one rack."""

from __future__ import annotations

import pytest

from adapters.base import Inventory
from adapters.kubernetes import names, refusals, topology
from api_spec.jobs import Array, Kind, Placement, Resources
from api_spec.reasons import Reason
from tests.builders import spec
from tests.unit.kubernetes_objects import MARKER
from tests.unit.kubernetes_plans import options, pod

RACK = "example.org/rack"
KNOWS_RACKS = options(rack_label=RACK)
OURS = {"matchLabels": {names.MARKER: MARKER}}


def job(given, nodes=2, **changes):
    placement = Placement(kubernetes=given)
    return spec(
        project="vision", image="a:1", placement=placement, resources=Resources(nodes=nodes), **changes
    )


def constraint(label, how="ScheduleAnyway", **more):
    return {"maxSkew": 1, "topologyKey": label, "whenUnsatisfiable": how, "labelSelector": OURS, **more}


ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
SPREAD = {
    "a word": ("zone", [constraint(ZONE)]),
    "a table": (
        {"zone": "required", "host": "preferred"},
        [constraint(ZONE, "DoNotSchedule"), constraint(HOST)],
    ),
    "racks": ("rack", [constraint(RACK)]),
}


@pytest.mark.parametrize("case", SPREAD)
def test_pods_are_spread(case):
    asked, constraints = SPREAD[case]

    assert (
        pod(job({"spread": asked}), options=KNOWS_RACKS)["spec"]["topologySpreadConstraints"] == constraints
    )


def test_replicas_that_an_update_replaces_do_not_count():
    wanted = job({"spread": "zone"}, nodes=1, kind=Kind.INFERENCE, command=())

    [made] = pod(wanted)["spec"]["topologySpreadConstraints"]

    assert made == constraint(ZONE, matchLabelKeys=[names.REVISION])


def test_nodes_of_the_same_rack():
    term = {"topologyKey": RACK, "labelSelector": OURS}

    required = pod(job({"same_rack": "required"}), options=KNOWS_RACKS)["spec"]["affinity"]["podAffinity"]
    preferred = pod(job({"same_rack": "preferred"}), options=KNOWS_RACKS)["spec"]["affinity"]["podAffinity"]

    assert required == {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    assert preferred == {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]
    }


def test_nothing_is_said_where_nothing_is_asked():
    assert not {"affinity", "topologySpreadConstraints"} & set(pod(job({}), options=KNOWS_RACKS)["spec"])


# ---- refused ---------------------------------------------------------------------------------------------

SAME, SPREAD_OUT = "/placement/kubernetes/same_rack", "/placement/kubernetes/spread"
REFUSED = {
    "one node": (job({"same_rack": "required"}, nodes=1), KNOWS_RACKS, Reason.UNSUPPORTED, SAME),
    "one pod": (job({"spread": "zone"}, nodes=1), KNOWS_RACKS, Reason.UNSUPPORTED, SPREAD_OUT),
    "no racks": (job({"same_rack": "preferred"}), options(), Reason.UNSUPPORTED, SAME),
    "over no racks": (job({"spread": "rack"}), options(), Reason.UNSUPPORTED, SPREAD_OUT),
    "another place": (job({"spread": "region"}), KNOWS_RACKS, Reason.INVALID_SPEC, SPREAD_OUT),
    "another word": (job({"spread": {"zone": "maybe"}}), KNOWS_RACKS, Reason.INVALID_SPEC, SPREAD_OUT),
    "nothing": (job({"spread": {}}), KNOWS_RACKS, Reason.INVALID_SPEC, SPREAD_OUT),
    "a list": (job({"spread": ["zone"]}), KNOWS_RACKS, Reason.INVALID_SPEC, SPREAD_OUT),
    "true": (job({"same_rack": True}), KNOWS_RACKS, Reason.INVALID_SPEC, SAME),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_by_its_field(case):
    wanted, given, code, field = REFUSED[case]

    assert [(one.code, one.field) for one in refusals.refusals(wanted, None, given, "k8s")] == [(code, field)]


def test_an_array_is_spread_like_any_other():
    wanted = job({"spread": "zone"}, nodes=1, array=Array(indices="0-3"))

    assert not refusals.refusals(wanted, None, KNOWS_RACKS, "k8s")


def never(given, labels):
    found = topology.never(job(given), Inventory(as_of=0, details={"labels": labels}), KNOWS_RACKS, "k8s")
    return [(one.code, one.field) for one in found]


def test_what_is_required_by_a_label_that_no_node_has_never_fits():
    """The scheduler would leave it pending for ever."""
    assert never({"same_rack": "required"}, {}) == [(Reason.NEVER_FITS, SAME)]
    assert never({"spread": {"zone": "required"}}, {RACK: ["a"]}) == [(Reason.NEVER_FITS, SPREAD_OUT)]
    assert never({"same_rack": "required"}, {RACK: None}) == []
    assert never({"same_rack": "preferred", "spread": "zone"}, {}) == []
