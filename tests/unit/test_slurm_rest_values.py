"""How Slurm writes numbers, resources and lists of nodes."""

from __future__ import annotations

import pytest

from adapters.slurm.records import JobState
from adapters.slurm.rest import rows, values


@pytest.mark.parametrize(
    "said, meant",
    [
        (7, 7),
        (0, 0),
        (None, None),
        (-1, None),
        (0xFFFFFFFE, None),
        (0xFFFFFFFF, None),
        ({"set": True, "infinite": False, "number": 7}, 7),
        ({"set": True, "infinite": True, "number": 0}, None),
        ({"set": False, "infinite": False, "number": 0}, None),
    ],
)
def test_a_number_that_is_not_set_or_has_no_limit_is_none(said, meant):
    assert values.number(said) == meant


@pytest.mark.parametrize("said", ["7", True, [7]])
def test_what_is_no_number_is_not_taken_for_one(said):
    with pytest.raises(ValueError, match="no number"):
        values.number(said)


@pytest.mark.parametrize(
    "said, meant",
    [
        ("", {}),
        (None, {}),
        (
            "cpu=8,mem=512M,node=1,billing=8,gres/gpu=2",
            {"cpu": 8, "mem": 512, "node": 1, "billing": 8, "gres/gpu": 2},
        ),
        ("mem=200G", {"mem": 204800}),
        ("mem=1.50G", {"mem": 1536}),
        ("mem=2048K", {"mem": 2}),
        ("gres/gpu:h100=2,gres/shard=1K", {"gres/gpu:h100": 2, "gres/shard": 1000}),
        (
            [
                {"type": "mem", "name": "", "id": 2, "count": 100},
                {"type": "gres", "name": "gpu", "id": 1001, "count": 2},
                {"type": "energy", "name": None, "id": 3, "count": -2},
            ],
            {"mem": 100, "gres/gpu": 2},
        ),
    ],
)
def test_trackable_resources_are_counted_and_memory_is_in_mib(said, meant):
    assert values.tres(said) == meant


def test_an_amount_that_cannot_be_read_is_no_zero():
    with pytest.raises(ValueError, match="no amount"):
        values.tres("mem=plenty")


@pytest.mark.parametrize(
    "said, meant",
    [
        ("", {}),
        ("(null)", {}),
        ("gpu:h100:4", {"gpu:h100": 4}),
        ("gpu:h100:4(S:0-1),shard:8(S:0-1)", {"gpu:h100": 4, "shard": 8}),
        ("gpu:h100:2(IDX:0,2)", {"gpu:h100": 2}),
        ("gpu:4", {"gpu": 4}),
        ("gpu", {"gpu": 1}),
        ("gpu:h100", {"gpu:h100": 1}),
        ("gpu:a100_1g.10gb:7,gpu:a100_3g.40gb:1", {"gpu:a100_1g.10gb": 7, "gpu:a100_3g.40gb": 1}),
        ("gpu:h100:2,gpu:h100:1", {"gpu:h100": 3}),
        ("gpu:h100:0(IDX:N/A)", {"gpu:h100": 0}),
    ],
)
def test_generic_resources_are_counted_by_name_and_type(said, meant):
    assert values.gres(said) == meant


@pytest.mark.parametrize(
    "said, meant",
    [
        ("", ()),
        (None, ()),
        ("login", ("login",)),
        ("n[1-3,07-09],login", ("n1", "n2", "n3", "n07", "n08", "n09", "login")),
        ("n[098-101]", ("n098", "n099", "n100", "n101")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("gpu[1,3]-ib", ("gpu1-ib", "gpu3-ib")),
        ("a,b,a", ("a", "b")),
        ("n[5]", ("n5",)),
    ],
)
def test_a_list_of_nodes_is_written_out(said, meant):
    assert values.nodes(said) == meant


def test_a_range_that_no_cluster_has_is_not_written_out():
    with pytest.raises(ValueError, match="too many"):
        values.nodes("n[1-4294967295]")


@pytest.mark.parametrize(
    "said, code, signal",
    [
        (0, 0, None),
        (768, 3, None),
        (9, None, 9),
        (139, None, 11),  # with the bit of the core
        (4021, None, 53),  # Slurm started nothing
        (None, None, None),
        ({"status": "SUCCESS", "return_code": 0}, 0, None),
        ({"status": "SIGNALED", "return_code": 0, "signal": {"signal_id": 15, "name": "TERM"}}, None, 15),
        ({"status": ["ERROR"], "return_code": {"set": True, "infinite": False, "number": 3}}, 3, None),
        (
            {
                "status": ["SIGNALED"],
                "return_code": {"set": False, "infinite": False, "number": 0},
                "signal": {"id": {"set": True, "infinite": False, "number": 9}, "name": "KILL"},
            },
            None,
            9,
        ),
        ({"status": ["PENDING"], "return_code": {"set": True, "number": 0}}, None, None),
    ],
)
def test_an_exit_is_a_code_or_a_signal(said, code, signal):
    assert rows.exit_of(said) == (code, signal)


@pytest.mark.parametrize(
    "said, by_array, meant",
    [
        ("12", False, JobState(id=12, states=("PENDING",))),
        ("12_3", True, JobState(id=12, states=("PENDING",), array_id=12, task=3)),
        ("14_3", False, JobState(id=14, states=("PENDING",), task=3)),
        ("12_[0-9%2]", False, JobState(id=12, states=("PENDING",), array_id=12, waiting_tasks="0-9%2")),
        ("12+1", False, JobState(id=12, states=("PENDING",))),
    ],
)
def test_the_cheap_listing_tells_a_task_by_its_own_id_or_by_its_arrays(said, by_array, meant):
    """v0.0.41 and later write "14_3" for task 3 of array 12, once the task has an id of its own."""
    assert rows.job_state({"job_id": said, "state": ["PENDING"]}, by_array=by_array) == meant
