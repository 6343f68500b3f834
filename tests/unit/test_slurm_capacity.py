"""What a cluster has, and what of it is free."""

from __future__ import annotations

import pytest

from adapters.slurm import capacity
from adapters.slurm.live import Queue
from adapters.slurm.options import Options, Users
from adapters.slurm.records import Node, Partition
from tests.slurm_cluster import InMemory

OPTIONS = Options(
    directory="/",
    users=Users(owner=True),
    gpu_types={"h100": "nvidia_h100"},
    mig_profiles={"1g.10gb": "gpu:nvidia_h100_1g.10gb"},
)


def cluster_of(*nodes, partitions=()):
    cluster = InMemory(accounting=False)
    cluster.nodes = lambda: nodes
    cluster.partitions = lambda: partitions
    return cluster


def node(*states, name="n1", **has):
    return Node(name=name, states=states, cpus=8, memory_mib=16000, partitions=("train",), **has)


@pytest.mark.parametrize(
    "states", [("UNKNOWN", "NOT_RESPONDING"), ("DOWN",), ("IDLE", "DRAIN"), ("IDLE", "POWERED_DOWN")], ids=str
)
def test_what_a_node_can_hold_it_will_hold_again(states):
    """A controller that has just started knows nothing of its nodes yet; nobody is to be refused for that."""
    found = capacity.inventory(cluster_of(node(*states)), 1.0, OPTIONS)

    assert [(shape.count, shape.cpus) for shape in found.shapes] == [(1, 8)]


@pytest.mark.parametrize("states", [("UNKNOWN", "NOT_RESPONDING"), ("DOWN",), ("IDLE", "DRAIN")], ids=str)
def test_nothing_is_free_on_a_node_that_starts_nothing(states):
    found = capacity.load(cluster_of(node(*states)), Queue(began_at=1.0), 1.0, OPTIONS)

    assert [shape.free_cpus for shape in found.shapes] == [0]


def test_a_node_that_is_only_planned_counts_for_nothing():
    assert capacity.inventory(cluster_of(node("FUTURE")), 1.0, OPTIONS).shapes == ()


def test_the_longest_time_is_that_of_a_partition_that_is_closed_for_now_as_well():
    partitions = (
        Partition(name="debug", up=True, time_limit_min=60),
        Partition(name="train", up=False, time_limit_min=600),
    )

    assert capacity.inventory(cluster_of(node("IDLE"), partitions=partitions), 1.0, OPTIONS).limits == {
        "time_limit_s": 36000.0
    }


# GRES of a node, its GPUs, their type, and how many there are by the names that jobs use, whole and sliced.
GPUS = {
    "of one type": ({"gpu:nvidia_h100": 4}, 4, "nvidia_h100", {"nvidia_h100": 4, "h100": 4}, {}),
    "of two": ({"gpu:a100": 4, "gpu:nvidia_h100": 2}, 6, None, {"a100": 4, "nvidia_h100": 2, "h100": 2}, {}),
    "without a type": ({"gpu": 4}, 4, None, {}, {}),
    "whole and sliced": (
        {"gpu:a100": 1, "gpu:nvidia_h100_1g.10gb": 7},
        1,
        "a100",
        {"a100": 1},
        {"1g.10gb": 7},
    ),
    "sliced alone": ({"gpu:nvidia_h100_1g.10gb": 7, "shard": 4}, 0, None, {}, {"1g.10gb": 7}),
    "none": ({}, 0, None, {}, {}),
}


@pytest.mark.parametrize("case", GPUS)
def test_gpus_are_counted_by_type(case):
    gres, *wanted = GPUS[case]
    (shape,) = capacity.inventory(cluster_of(node("IDLE", gres=gres)), 1.0, OPTIONS).shapes

    assert [shape.gpus, shape.gpu_type, shape.gpus_by_type, shape.slices] == wanted


def test_slices_that_are_in_use_leave_the_whole_gpus_free():
    gres = {"gpu:a100": 2, "gpu:nvidia_h100_1g.10gb": 7}
    used = {"gpu:a100": 1, "gpu:nvidia_h100_1g.10gb": 5}
    found = capacity.load(
        cluster_of(node("MIXED", gres=gres, gres_used=used)), Queue(began_at=1.0), 1.0, OPTIONS
    )

    assert [shape.free_gpus for shape in found.shapes] == [1]
