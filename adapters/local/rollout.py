"""Which replicas of a service to start and which to retire, and when to start one again.  Pure.

An update replaces them one by one: where there is room a new one is started first and an old one goes when
the new one is ready; without room an old one goes first.  A revision that never gets ready stops there, and
the old replicas go on serving.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


def pause_s(failures: int) -> float:
    """Before the next start of a replica that had failed so often in a row when it ended once more."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures, 10))


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One that is wanted; those that retire already are none of ours."""

    index: int
    revision: int
    ready: bool


@dataclass(frozen=True)
class Steps:
    start: int = 0  # how many, of the newest revision
    retire: tuple[int, ...] = ()  # indices


def next_steps(replicas: Sequence[Replica], wanted: int, revision: int, room: bool) -> Steps:
    """``room``: one more replica would find free slots now."""
    old = [one for one in replicas if one.revision != revision]
    if len(replicas) < wanted:
        return Steps(start=wanted - len(replicas))
    if not old or wanted == 0:
        return Steps(retire=_least_useful(replicas, len(replicas) - wanted))
    if len(replicas) == wanted:
        new_are_ready = all(one.ready for one in replicas if one.revision == revision)
        if room and new_are_ready:
            return Steps(start=1)
        return Steps() if room or not new_are_ready else Steps(retire=_least_useful(old, 1))
    if len(replicas) > wanted + 1:  # scaled down in the middle of an update
        return Steps(retire=_least_useful(old, min(len(old), len(replicas) - wanted - 1)))
    if all(one.ready for one in replicas if one.revision == revision):
        return Steps(retire=_least_useful(old, 1))
    return Steps()


def _least_useful(replicas: Sequence[Replica], count: int) -> tuple[int, ...]:
    """Those that are not ready first, then the youngest."""
    ranked = sorted(replicas, key=lambda one: (one.ready, -one.index))
    return tuple(one.index for one in ranked[:count])
