"""What a dead worker has left undone at a backend, for which a pass knows too little of the job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.errors import Busy
from adapters.fake.adapter import FakeAdapter
from api_spec.states import JobState
from tests.builders import spec
from tests.kit import ENDLESS


class LeavesSome(FakeAdapter):
    """Until it was completed as often as it takes."""

    def __init__(self, config, takes=1):
        super().__init__(config)
        self.takes = takes
        self.completed = []

    def observe(self, refs):
        seen = super().observe(refs)
        left = len(self.completed) < self.takes
        return replace(seen, found={key: replace(one, unfinished=left) for key, one in seen.found.items()})

    def complete(self, ref):
        self.completed.append(ref)
        if len(self.completed) < self.takes:
            raise Busy("not yet")


@pytest.mark.parametrize("takes", [1, 3])
def test_it_is_made_with_all_that_the_broker_knows_of_the_job(kit, takes):
    """Also where nothing else of it changes from one pass to the next."""
    adapter = LeavesSome(kit.settings.backends[0], takes)
    kit.broker.context.adapters["fake"] = adapter
    job_id = kit.submit(spec(name="first", environment=ENDLESS, project="vision"))
    kit.reaches(job_id, JobState.RUNNING)

    kit.settle(lambda: len(adapter.completed) == takes, why="it is asked until it has done so")
    for _ in range(3):
        kit.work()

    assert len(adapter.completed) == takes
    assert {(one.job_id, one.owner, one.project, one.number) for one in adapter.completed} == {
        (job_id, "ana", "vision", 1)
    }
