"""The tables of the vocabulary: a state has its moves, a reason its sentence, an error its code."""

from __future__ import annotations

from collections import Counter

import pytest

from api_spec.errors import BrokerError, all_errors
from api_spec.reasons import ENDINGS, PENDING, REFUSALS, RETRYABLE, SENTENCES, Reason
from api_spec.states import ATTEMPT_MOVES, FINAL, LIVE_AT_A_BACKEND, MOVES, AttemptState, JobState, may_move

S = JobState
ORDER = [S.ACCEPTED, S.SUBMITTING, S.QUEUED, S.RUNNING]
TABLES = [
    pytest.param(JobState, MOVES, id="job"),
    pytest.param(AttemptState, ATTEMPT_MOVES, id="attempt"),
]


def reachable(moves, start):
    seen, pending = set(), [start]
    while pending:
        state = pending.pop()
        if state not in seen:
            seen.add(state)
            pending.extend(moves[state])
    return seen


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_every_state_has_its_row(states, moves):
    assert set(moves) == set(states)
    assert all(targets <= set(states) for targets in moves.values())


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_from_every_state_an_end_can_be_reached(states, moves):
    ends = {state for state, targets in moves.items() if not targets}

    assert all(reachable(moves, state) & ends for state in states)


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_every_state_can_be_reached_from_the_first(states, moves):
    assert reachable(moves, next(iter(states))) == set(states)


@pytest.mark.parametrize(("states", "moves"), TABLES)
def test_no_state_lists_itself_because_staying_is_no_move(states, moves):
    assert not [state for state, targets in moves.items() if state in targets]


def test_a_job_ends_completed_failed_or_cancelled_and_stays_there():
    assert {S.COMPLETED, S.FAILED, S.CANCELLED} == FINAL
    assert not [(end, state) for end in FINAL for state in S if may_move(end, state) and end is not state]


@pytest.mark.parametrize("state", sorted(LIVE_AT_A_BACKEND))
def test_a_job_at_a_backend_can_end_in_every_way(state):
    """A row that lost one of its ends survived a first list of tests: nothing else noticed."""
    assert MOVES[state] >= FINAL


def test_a_job_that_runs_nowhere_cannot_have_completed():
    assert not may_move(S.ACCEPTED, S.COMPLETED)
    assert may_move(S.ACCEPTED, S.FAILED)
    assert may_move(S.ACCEPTED, S.CANCELLED)


def test_backward_only_goes_a_requeue_or_the_next_attempt():
    backward = {(a, b) for a in ORDER for b in ORDER if b in MOVES[a] and ORDER.index(b) < ORDER.index(a)}

    assert backward == {
        (S.SUBMITTING, S.ACCEPTED),
        (S.QUEUED, S.ACCEPTED),
        (S.RUNNING, S.ACCEPTED),
        (S.RUNNING, S.QUEUED),
    }


def test_what_was_told_to_go_can_only_end():
    assert ATTEMPT_MOVES[AttemptState.WITHDRAWING] == {AttemptState.ENDED}


# ---- reasons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_sentence_for_people(reason):
    sentence = SENTENCES[reason]

    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert reason.value not in sentence


def test_every_reason_says_when_it_is_used():
    assert set(PENDING) | set(ENDINGS) | set(REFUSALS) == set(Reason)


@pytest.mark.parametrize("listed", [PENDING, ENDINGS, REFUSALS], ids=["pending", "endings", "refusals"])
def test_no_reason_stands_twice_in_its_order(listed):
    assert len(set(listed)) == len(listed)


def test_no_reason_both_waits_and_ends():
    assert not set(PENDING) & set(ENDINGS)


def test_what_a_user_wanted_or_the_backend_refused_for_good_is_not_tried_again():
    assert set(ENDINGS) - RETRYABLE == {
        Reason.COMPLETED,
        Reason.CANCELLED,
        Reason.DEPENDENCY_FAILED,
        Reason.REJECTED,
    }


# ---- errors ------------------------------------------------------------------------------------------

ERRORS = sorted(
    (kind for kind in all_errors() if kind.__module__ == "api_spec.errors"), key=lambda kind: kind.__name__
)


def test_every_error_code_is_unique():
    assert not [code for code, count in Counter(kind.code for kind in ERRORS).items() if count > 1]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_has_a_code_a_status_and_a_title_of_its_own(kind):
    assert kind.code.islower()
    assert 400 <= kind.http_status < 600
    assert kind.title
    assert kind is BrokerError or {"code", "http_status", "title"} <= vars(kind).keys()


def test_only_what_may_go_away_by_itself_is_worth_another_try():
    assert {kind.http_status for kind in ERRORS if kind.retryable} <= {429, 503}
