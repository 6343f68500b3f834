"""Cancel of single tasks of an array, by "12_3": one call a task, since v0.0.38 takes no list of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from adapters.slurm import observations
from adapters.slurm.records import Job
from adapters.slurm.transport import NotKnown, Transport
from api_spec.states import AttemptState

AT_ONCE = 200
"""So many calls take a second or two; who has more to cancel asks again."""


def cancel(transport: Transport, rows: Sequence[Job], indices: Collection[int]) -> frozenset[int]:
    """``rows``: all that the controller has of one array now.  The answer: the tasks that it does not know.

    Slurm keeps nothing of a task that was cancelled before it started.
    """
    if not observations.is_array(rows):
        return frozenset()
    known = observations.tasks_of(rows, tuple(indices))
    on_their_way = {row.task for row in rows if "COMPLETING" in row.states}
    left = [i for i in known if i in set(indices) and known[i].state is not AttemptState.ENDED]
    gone = {i for i in indices if i not in known}
    # Those that wait first: else one of them starts in the place of one that was running.
    left.sort(key=lambda index: known[index].state is not AttemptState.QUEUED)
    for index in [i for i in left if i not in on_their_way][:AT_ONCE]:
        try:
            transport.cancel(f"{rows[0].group}_{index}", rows[0].user)
        except NotKnown:
            gone.add(index)
    return frozenset(gone)
