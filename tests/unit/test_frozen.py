"""The quick ways to make a frozen dataclass do what the slow ones do."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from api_spec.frozen import changed, quick
from tests.builders import spec


@quick
@dataclass(frozen=True, kw_only=True)
class Berth:
    name: str
    depth_m: float = 4.0
    ships: list[str] = field(default_factory=list)


def test_a_quick_constructor_knows_defaults_and_shares_none_of_those_that_are_made():
    first, second = Berth(name="a"), Berth(name="b", depth_m=9.0, ships=["x"])

    assert (first.name, first.depth_m, first.ships) == ("a", 4.0, [])
    assert (second.name, second.depth_m, second.ships) == ("b", 9.0, ["x"])
    assert Berth(name="a").ships is not first.ships
    assert replace(first, name="b", depth_m=9.0, ships=["x"]) == second


@pytest.mark.parametrize(
    "members, wrong", [({}, "name"), ({"name": "a", "depth": 1}, "depth"), ({"nam": "a"}, "nam, name")]
)
def test_a_quick_constructor_refuses_what_the_slow_one_refuses(members, wrong):
    with pytest.raises(TypeError, match=f"Berth lacks, or does not have: {wrong}$"):
        Berth(**members)


def test_what_was_made_quickly_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Berth(name="a").name = "b"


def test_a_changed_copy_is_the_one_that_replace_makes():
    before = spec(labels={"team": "vision"})

    after = changed(before, project="vision", name="other")

    assert after == replace(before, project="vision", name="other")
    assert before == spec(labels={"team": "vision"})


def test_a_changed_copy_is_frozen():
    with pytest.raises(FrozenInstanceError):
        changed(spec(), name="other").name = "third"
