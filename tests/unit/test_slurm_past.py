"""The last word of the accounting database on what has just ended in the queue."""

from __future__ import annotations

import pytest

from adapters.slurm.past import LAST_WORD_S, Past, key_of
from adapters.slurm.rest import new, old
from adapters.slurm.rest.accounting import EARLIEST, Ask
from tests.slurm_cluster import InMemory
from tests.slurm_rows import row

ENDED_AT = 1000.0
CANCELLED = {"id": 5, "submitted_at": 900.0, "ended_at": ENDED_AT, "nodes": ("n1",)}
KILLED = {**CANCELLED, "signal": 9}


@pytest.fixture
def cluster():
    return InMemory()


@pytest.fixture
def past(cluster):
    return Past(cluster, cluster.clock)


def last_word(past, live):
    return past.with_last_words([live]).get(key_of(live))


def test_the_database_says_who_cancelled(cluster, past):
    live = row("CANCELLED", **CANCELLED)
    cluster.recorded.append(row("CANCELLED", **CANCELLED, cancelled_by="root", accounted=True))

    assert last_word(past, live).cancelled_by == "root"


def test_the_database_says_what_a_killed_job_had_used(cluster, past):
    live = row("FAILED", **KILLED)
    cluster.recorded.append(row("FAILED", **KILLED, peak_memory_mib=99.0, accounted=True))

    assert last_word(past, live).peak_memory_mib == 99.0


@pytest.mark.parametrize(
    "live",
    [
        row("COMPLETED", **CANCELLED),
        row("CANCELLED", **CANCELLED, reason="DependencyNeverSatisfied"),
        row("FAILED", **CANCELLED, exit_code=1),
        row("FAILED", **CANCELLED, signal=15),
        row("CANCELLED", **CANCELLED, accounted=True),
        row("RUNNING", id=5),
    ],
    ids=["completed", "by Slurm", "exit code", "another signal", "a record", "running"],
)
def test_nothing_is_asked_about_others(cluster, past, live):
    assert last_word(past, live) is None
    assert "history" not in cluster.asked


@pytest.mark.parametrize(
    "nodes, states", [(("n1",), ("CANCELLED", "COMPLETING")), ((), ("PENDING",))], ids=["ran", "waited"]
)
def test_a_job_is_not_quite_over_before_its_record_has_come(cluster, past, nodes, states):
    """Nor ever started because of that."""
    live = row("CANCELLED", **{**CANCELLED, "nodes": nodes})

    before = last_word(past, live)
    cluster.clock.now = ENDED_AT + LAST_WORD_S + 1
    after = last_word(past, live)

    assert before.states == states
    assert after == live, "the database may be down for long"


def test_a_record_without_what_is_asked_for_is_waited_for_as_well(cluster, past):
    """22.05 records that a job has ended a moment before its steps."""
    live = row("FAILED", **KILLED)
    cluster.recorded.append(row("FAILED", **KILLED, accounted=True))

    assert last_word(past, live).states == ("FAILED", "COMPLETING")


def test_the_record_of_another_run_says_nothing(cluster, past):
    cluster.clock.now = ENDED_AT + LAST_WORD_S + 1
    live = row("CANCELLED", **CANCELLED)
    cluster.recorded.append(row("CANCELLED", **{**CANCELLED, "submitted_at": 1.0}, cancelled_by="root"))

    assert last_word(past, live) == live


@pytest.mark.parametrize("dialect", [old, new])
@pytest.mark.parametrize("since", [None, 0.0, 1.0, 999999.0])
def test_a_question_about_all_times_names_one_that_slurm_takes(dialect, since):
    """It refuses any before 1,000,000, so that no job was seen any more once one had left the queue."""
    (parameters,) = dialect.questions(Ask(names=["a"], since=since))

    assert f"uts{EARLIEST}" in dict(parameters).values()
