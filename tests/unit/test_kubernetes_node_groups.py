"""Nodes that a cluster autoscaler has taken away, and would bring again."""

from __future__ import annotations

import pytest

from adapters.kubernetes import capacity, node_groups, refusals
from api_spec.jobs import Resources
from api_spec.reasons import Reason
from tests.builders import spec
from tests.unit.kubernetes_objects import GPU, node
from tests.unit.kubernetes_plans import options

LABELS = {"cloud.example/group": "gpu", "nvidia.com/gpu.product": "H100"}
GROUP = {"labels": LABELS, "resources": {"cpu": "8", "memory": "16Gi", GPU: 8}, "most": 3}
HERE = options(node_groups=[GROUP])
WANTS = spec(image="a", project="vision", resources=Resources(gpus_per_node=8, gpu_type="H100", nodes=2))


def told(*found, chosen=HERE):
    """What is read of these nodes, with the absent ones of the groups."""
    real = [capacity.node(one, chosen) for one in found]
    return real + node_groups.absent(real, chosen)


def gpu_node(name):
    return node(name, LABELS, nvidia_com__gpu="8")


def refused(wanted, *found, chosen=HERE):
    inventory = capacity.inventory(told(*found, chosen=chosen), ["ml-vision"], 1.0)
    return [one.code for one in refusals.refusals(wanted, inventory, chosen, "k8s")]


def test_what_only_an_absent_group_could_hold_is_not_refused():
    assert refused(WANTS, node("small"), chosen=options()) != []
    assert refused(WANTS, node("small")) == []
    assert refused(spec(image="a", project="vision", resources=Resources(gpus_per_node=9))) == [
        Reason.NEVER_FITS
    ]


@pytest.mark.parametrize(("there", "missing"), [(0, 3), (1, 2), (3, 0), (4, 0)])
def test_a_group_can_grow_by_what_is_missing_of_it(there, missing):
    found = told(node("small"), *(gpu_node(f"gpu-{n}") for n in range(there)))

    assert len(found) == 1 + there + missing
    shapes = {shape.gpu_type: shape.count for shape in capacity.inventory(found, [], 1.0).shapes}
    assert shapes == {None: 1, "H100": there + missing}


def test_nothing_of_an_absent_node_is_free():
    (_, free) = capacity.load(told(gpu_node("gpu-0"), node("small")), [], GPU, 1.0).shapes

    assert (free.free_nodes, free.free_cpus, free.free_gpus) == (1, 8, 8)


def test_labels_of_a_group_are_labels_that_nodes_have():
    inventory = capacity.inventory(told(), [], 1.0)

    assert inventory.details["labels"] == {name: [value] for name, value in LABELS.items()}
    assert inventory.features == {"H100"}
