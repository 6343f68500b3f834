"""Every word of Slurm 22.05 to 25.11 has a place in ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.slurm import words
from api_spec.reasons import PENDING, Reason
from api_spec.states import AttemptState, JobState

RECORDED = json.loads((Path(__file__).parents[1] / "recorded/slurm/words.json").read_text())["versions"]
VERSIONS = sorted(RECORDED)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_state_and_flag_of_a_version_is_in_the_tables(version):
    assert set(RECORDED[version]["states"]) <= set(words.BASES)
    assert set(RECORDED[version]["flags"]) <= set(words.FLAGS)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_reason_of_a_version_is_known(version):
    unknown = [one for one in RECORDED[version]["reasons"] if words.pending_reason(one) is Reason.UNKNOWN]

    assert unknown == ["InactiveLimit"]  # of an end; no job waits for it


def test_no_table_has_a_word_that_no_version_has():
    known = {word for one in RECORDED.values() for word in [*one["states"], *one["flags"], *one["reasons"]]}

    assert (set(words.BASES) | set(words.FLAGS) | set(words.PENDING) | set(words.ENDINGS)) - known == set()


def test_what_a_job_waits_for_is_a_reason_for_waiting():
    assert set(words.PENDING.values()) <= set(PENDING)


def test_an_end_has_an_outcome_and_nothing_else_has():
    for name, word in {**words.BASES, **words.FLAGS}.items():
        assert (word.outcome is not None) is (word.state is AttemptState.ENDED), name


@pytest.mark.parametrize(
    "states, state, reason",
    [
        (["RUNNING"], AttemptState.RUNNING, None),
        (["RUNNING", "COMPLETING"], AttemptState.RUNNING, None),
        (["COMPLETED", "COMPLETING"], AttemptState.RUNNING, None),
        (["COMPLETING"], AttemptState.RUNNING, None),
        (["PENDING", "COMPLETING"], AttemptState.QUEUED, None),
        (["PENDING", "REQUEUED", "COMPLETING"], AttemptState.QUEUED, None),
        (["PENDING", "REQUEUE_HOLD"], AttemptState.QUEUED, Reason.HELD),
        (["PENDING", "LAUNCH_FAILED"], AttemptState.QUEUED, Reason.HELD),
        (["RUNNING", "CONFIGURING"], AttemptState.QUEUED, Reason.STARTING),
        (["CONFIGURING"], AttemptState.QUEUED, Reason.STARTING),
        (["SUSPENDED", "STOPPED"], AttemptState.RUNNING, Reason.SUSPENDED),
        (["CANCELLED", "REVOKED"], AttemptState.ENDED, Reason.LOST),
    ],
    ids=str,
)
def test_a_flag_decides_before_the_base_state(states, state, reason):
    """COMPLETING is shown until the epilog is over, whatever the outcome: it is not yet an end."""
    word = words.word(tuple(states))

    assert (word.state, word.reason) == (state, reason)


@pytest.mark.parametrize("states", [[], ["DREAMING"], ["RUNNING", "DREAMING"], ["COMPLETED", "DREAMING"]])
def test_a_word_that_is_not_known_says_nothing(states):
    assert words.word(tuple(states)) is None


def test_a_state_may_be_written_in_small_letters():
    assert words.word(("completed",)).outcome is JobState.COMPLETED
