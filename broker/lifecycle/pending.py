"""A write that is still to be made, and what follows from it: so that two jobs may share one trip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker.store.changes import Write
from broker.store.jobs import Jobs, Written


@dataclass(frozen=True)
class Pending:
    write: Write
    go_on: Callable[[Written], Pending | None]  # None: this job is done with


def carry_out(jobs: Jobs, pending: Pending | None) -> None:
    """One write after the other, until the job is done with."""
    while pending is not None:
        pending = pending.go_on(jobs.move_all((pending.write,))[0])


def carry_out_together(jobs: Jobs, last: Pending | None, first: Pending) -> Pending | None:
    """The last write of one job and the first of another, in one trip; how the other goes on."""
    if last is None:
        return first.go_on(jobs.move_all((first.write,))[0])
    one, other = jobs.move_all((last.write, first.write))
    carry_out(jobs, last.go_on(one))
    return first.go_on(other)
