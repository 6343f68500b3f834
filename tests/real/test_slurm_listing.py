"""The cheap listing of a real controller: what it makes the broker ask for beside it."""

from __future__ import annotations

import pytest

from adapters.slurm.live import LiveQueue
from tests.helpers import wait_until
from tests.real.test_slurm_rest import speaking, submission

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    "cluster, dialect", [("24.11", f"v0.0.{number}") for number in (40, 41, 42)], indirect=["cluster"]
)
def test_an_array_that_runs_is_asked_for_once(cluster, dialect, monkeypatch):
    slurm = speaking(cluster, dialect)
    array = slurm.submit(submission(cluster, "sleep 100", name="wb-array-1", array="0-9%4"))
    wait_until(lambda: sum("RUNNING" in job.states for job in slurm.job(array)) == 4)
    # What has no reason to wait yet is looked at again.
    wait_until(lambda: all(job.reason for job in slurm.job(array) if "PENDING" in job.states))
    queue, asked = LiveQueue(slurm), []
    queue.listed(0)
    details = slurm.job
    monkeypatch.setattr(slurm, "job", lambda one: (asked.append(one), details(one))[1])
    monkeypatch.setattr(slurm, "jobs", None)

    for _ in range(3):
        found = queue.listed(queue.listed(0).began_at + 0.001).named("wb-array-1")

    running = [job.task for job in found if job.states == ("RUNNING",)]
    assert sorted(running) == [0, 1, 2, 3]
    assert asked == []
    slurm.cancel(f"{array}_2", cluster.user)

    def runs():
        queue.changed()
        return {job.task for job in queue.listed(0).named("wb-array-1") if job.states == ("RUNNING",)}

    wait_until(lambda: runs() == {0, 1, 3, 4})
    assert asked
    slurm.cancel(str(array), cluster.user)
    wait_until(lambda: runs() == set())

    def asks_nothing():
        asked.clear()
        queue.listed(queue.listed(0).began_at + 0.001)
        return not asked

    wait_until(asks_nothing, why="its end is seen, and no more of it")
