"""Records as they stand in Redis, also those that another release wrote."""

from __future__ import annotations

import json

from api_spec.ids import marker
from api_spec.states import AttemptState
from broker.store.records import AttemptRecord, dump_attempt, read_attempt

JOB = "01JABCDEFGHJKMNPQRSTVWXYZ0"
ATTEMPT = AttemptRecord(
    number=2,
    marker=marker("main", JOB, 2),
    backend="hpc",
    state=AttemptState.RUNNING,
    submitted_at=1.5,
    nodes=("n1", "n2"),
    after=(("01J", "ended", 1),),
)


def test_an_attempt_reads_back():
    assert read_attempt(JOB, 2, dump_attempt(ATTEMPT)) == ATTEMPT


def test_what_a_newer_release_wrote_beside_it_is_left_alone():
    """While two releases run side by side, each reads what the other has written."""
    written = json.dumps({**json.loads(dump_attempt(ATTEMPT)), "of_tomorrow": {"a": 1}})

    assert read_attempt(JOB, 2, written) == ATTEMPT
