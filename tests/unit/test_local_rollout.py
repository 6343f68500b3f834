"""How a service's replicas are started, replaced and retired, as a pure function of what there is."""

from __future__ import annotations

import pytest

from adapters.local.rollout import Replica, Steps, next_steps


def replicas(text):
    """``1r 2`` is a ready replica of revision 1 and one of revision 2 that is not ready."""
    return [
        Replica(index=index, revision=int(word[0]), ready=word.endswith("r"))
        for index, word in enumerate(text.split())
    ]


@pytest.mark.parametrize(
    "there, wanted, room, steps",
    [
        pytest.param("", 2, True, Steps(start=2), id="none yet"),
        pytest.param("2r", 3, True, Steps(start=2), id="scale up"),
        pytest.param("2r 2r 2r", 1, True, Steps(retire=(2, 1)), id="scale down: the youngest go"),
        pytest.param("2r 2 2r", 2, True, Steps(retire=(1,)), id="scale down: those not ready go first"),
        pytest.param("2r 2r", 0, True, Steps(retire=(1, 0)), id="to nothing"),
        pytest.param("2r 2r", 2, True, Steps(), id="nothing to do"),
        pytest.param("1r 1r", 2, True, Steps(start=1), id="update: one more first"),
        pytest.param("1r 1r 2", 2, True, Steps(), id="update: wait for the new one"),
        pytest.param("1r 1r 2r", 2, True, Steps(retire=(1,)), id="update: the new one is ready"),
        pytest.param("1r 2r", 2, True, Steps(start=1), id="update: the next"),
        pytest.param("1r 1r", 2, False, Steps(retire=(1,)), id="no room: one goes first"),
        pytest.param("1r 2", 2, False, Steps(), id="no room: wait for the new one"),
        pytest.param("1r 2r", 2, False, Steps(retire=(0,)), id="no room: the next"),
        pytest.param("1r 1r 1r 1r 2", 2, True, Steps(retire=(3, 2)), id="scaled down in the middle"),
        pytest.param("1r 1r", 3, True, Steps(start=1), id="scaled up in the middle"),
        pytest.param("1r 1r", 0, True, Steps(retire=(1, 0)), id="old ones to nothing"),
    ],
)
def test_the_next_steps_to_revision_two(there, wanted, room, steps):
    assert next_steps(replicas(there), wanted, 2, room) == steps


@pytest.mark.parametrize("wanted", [1, 2, 5])
@pytest.mark.parametrize("room", [True, False])
def test_an_update_reaches_its_end_and_keeps_all_but_one_serving(wanted, room):
    there = [Replica(index=index, revision=1, ready=True) for index in range(wanted)]

    for _ in range(10 * wanted):
        steps = next_steps(there, wanted, 2, room)
        there = [one for one in there if one.index not in steps.retire]
        assert sum(one.ready for one in there) >= wanted - (0 if room else 1)
        there = [Replica(index=one.index, revision=one.revision, ready=True) for one in there]
        free = (index for index in range(99) if index not in {one.index for one in there})
        there += [Replica(index=next(free), revision=2, ready=False) for _ in range(steps.start)]

    assert [(one.revision, one.ready) for one in there] == [(2, True)] * wanted
