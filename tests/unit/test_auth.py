"""Tokens: what they are bound to, and how long what happens to them."""

import pytest
from web_stub import MemoryTokens

from api_spec.errors import Conflict, Forbidden, InvalidRequest, Unauthenticated
from broker.access import Scope
from broker.auth import REMEMBERED_S, SECRET, NewToken, Tokens, scopes_from


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(clock):
    return Tokens(MemoryTokens(), clock)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e300, float("inf"), float("nan")])
def test_a_token_whose_end_is_no_date_is_refused_before_anything_is_stored(tokens, seconds):
    with pytest.raises(InvalidRequest, match="the lifetime of a token must be more than 0"):
        tokens.create(NewToken(subject="ana", project="vision", lifetime_s=seconds))

    assert tokens.list() == []


def test_a_token_carries_everything_it_is_bound_to(tokens):
    wanted = NewToken(
        subject="portal",
        owner="ana",
        project="vision",
        groups=frozenset({"staff", "gpu"}),
        scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_ACT_AS}),
    )

    secret, record = tokens.create(wanted)
    who = tokens.check(secret)

    assert SECRET.fullmatch(secret)
    assert (who.token_id, who.subject, who.owner, who.project) == (record["id"], "portal", "ana", "vision")
    assert who.groups == {"staff", "gpu"}
    assert who.scopes == {Scope.JOBS_READ, Scope.JOBS_ACT_AS}


def test_the_store_never_sees_a_secret(tokens):
    secret, record = tokens.create(NewToken(subject="ana", project="vision"))

    assert secret not in repr(tokens.store.records)
    assert secret not in repr(record)


def test_two_tokens_are_never_alike(tokens):
    made = {tokens.create(NewToken(subject="ana", project="vision"))[0] for _ in range(50)}

    assert len(made) == 50


@pytest.mark.parametrize(
    "bearer",
    ["", "wb_", "ana", "wb_" + "A" * 43, "wb_" + "A" * 5000, "wb_\udce2" + "A" * 42, "Bearer x"],
    ids=["empty", "prefix", "word", "unknown", "huge", "surrogate", "scheme"],
)
def test_what_is_no_token_is_unauthenticated(tokens, bearer):
    with pytest.raises(Unauthenticated):
        tokens.check(bearer)


def test_a_token_ends_at_its_expiry_even_when_it_was_just_used(tokens, clock):
    secret, _ = tokens.create(NewToken(subject="ana", project="vision", lifetime_s=2.0))
    tokens.check(secret)

    clock.now += 2.0

    with pytest.raises(Unauthenticated):
        tokens.check(secret)


def test_a_good_token_is_looked_up_once_in_a_while(tokens, clock):
    secret, _ = tokens.create(NewToken(subject="ana", project="vision"))

    for _ in range(10):
        tokens.check(secret)
    asked_before = tokens.store.reads
    clock.now += REMEMBERED_S
    tokens.check(secret)

    assert (asked_before, tokens.store.reads) == (1, 2)


def test_a_bad_token_is_not_remembered_so_that_a_new_one_works_at_once(tokens):
    elsewhere = Tokens(MemoryTokens())
    secret, record = elsewhere.create(NewToken(subject="ana", project="vision", lifetime_s=9e9))
    with pytest.raises(Unauthenticated):
        tokens.check(secret)

    tokens.store.records |= elsewhere.store.records

    assert tokens.check(secret).token_id == record["id"]


def test_a_revoked_token_ends_here_at_once(tokens):
    secret, record = tokens.create(NewToken(subject="ana", project="vision"))
    tokens.check(secret)

    assert tokens.revoke(record["id"])

    with pytest.raises(Unauthenticated):
        tokens.check(secret)
    assert not tokens.revoke(record["id"])


def test_a_token_revoked_by_another_process_ends_within_the_stated_delay(tokens, clock):
    secret, record = tokens.create(NewToken(subject="ana", project="vision"))
    tokens.check(secret)
    Tokens(tokens.store, clock).revoke(record["id"])

    clock.now += REMEMBERED_S

    with pytest.raises(Unauthenticated):
        tokens.check(secret)


def test_a_list_holds_the_records_by_age(tokens, clock):
    for subject in ("ana", "ben"):
        tokens.create(NewToken(subject=subject, project="vision"))
        clock.now += 1

    assert [record["subject"] for record in tokens.list()] == ["ana", "ben"]


def test_a_scope_of_a_newer_release_gives_nothing(tokens):
    secret, _ = tokens.create(NewToken(subject="ana", project="vision"))
    next(iter(tokens.store.records.values()))["scopes"] += " jobs:everything"

    assert tokens.check(secret).scopes == {Scope.JOBS_READ, Scope.JOBS_WRITE}


def test_acting_for_another_needs_its_scope(tokens):
    plain = tokens.check(tokens.create(NewToken(subject="ana", project="vision"))[0])

    assert plain.acting_for("ana").owner == "ana"
    with pytest.raises(Forbidden):
        plain.acting_for("ben")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\nb", "-a", "a" * 129, "é"])
def test_a_name_that_could_be_read_as_something_else_is_refused(tokens, name):
    with pytest.raises(InvalidRequest):
        tokens.create(NewToken(subject="ana", project=name or " "))


def test_an_unknown_scope_is_named():
    with pytest.raises(InvalidRequest, match="jobs:fly"):
        scopes_from(["jobs:read", "jobs:fly"])


def test_where_nobody_is_isolated_a_second_owner_gets_no_token(clock):
    """The local backend runs every job as the broker's own user."""
    tokens = Tokens(MemoryTokens(), clock, for_one_owner="local")
    tokens.create(NewToken(subject="ana", project="vision"))

    tokens.create(NewToken(subject="portal", owner="ana", project="vision"))
    with pytest.raises(Conflict, match="allow_shared_local"):
        tokens.create(NewToken(subject="ben", project="vision"))
    with pytest.raises(Conflict, match="acts for"):
        scopes = frozenset({Scope.JOBS_ACT_AS})
        tokens.create(NewToken(subject="ana", project="vision", scopes=scopes))
