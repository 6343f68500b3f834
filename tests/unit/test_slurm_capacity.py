"""What a cluster has, and what of it is free."""

from __future__ import annotations

import pytest

from adapters.slurm import capacity
from adapters.slurm.live import Queue
from adapters.slurm.records import Node, Partition
from tests.slurm_cluster import InMemory


def cluster_of(*nodes, partitions=()):
    cluster = InMemory(accounting=False)
    cluster.nodes = lambda: nodes
    cluster.partitions = lambda: partitions
    return cluster


def node(*states, name="n1"):
    return Node(name=name, states=states, cpus=8, memory_mib=16000, partitions=("train",))


@pytest.mark.parametrize(
    "states", [("UNKNOWN", "NOT_RESPONDING"), ("DOWN",), ("IDLE", "DRAIN"), ("IDLE", "POWERED_DOWN")], ids=str
)
def test_what_a_node_can_hold_it_will_hold_again(states):
    """A controller that has just started knows nothing of its nodes yet; nobody is to be refused for that."""
    found = capacity.inventory(cluster_of(node(*states)), 1.0)

    assert [(shape.count, shape.cpus) for shape in found.shapes] == [(1, 8)]


@pytest.mark.parametrize("states", [("UNKNOWN", "NOT_RESPONDING"), ("DOWN",), ("IDLE", "DRAIN")], ids=str)
def test_nothing_is_free_on_a_node_that_starts_nothing(states):
    found = capacity.load(cluster_of(node(*states)), Queue(began_at=1.0), 1.0)

    assert [shape.free_cpus for shape in found.shapes] == [0]


def test_a_node_that_is_only_planned_counts_for_nothing():
    assert capacity.inventory(cluster_of(node("FUTURE")), 1.0).shapes == ()


def test_the_longest_time_is_that_of_a_partition_that_is_closed_for_now_as_well():
    partitions = (
        Partition(name="debug", up=True, time_limit_min=60),
        Partition(name="train", up=False, time_limit_min=600),
    )

    assert capacity.inventory(cluster_of(node("IDLE"), partitions=partitions), 1.0).limits == {
        "time_limit_s": 36000.0
    }
