"""Events: one dense, ordered stream a project, a short history a job, one stream for operators."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api_spec.errors import Gone, InvalidRequest
from broker.access import Scope
from broker.auth import NewToken, Tokens, digest_of
from broker.store.changes import Change, Guard
from broker.store.events import of_job
from tests.helpers import wait_until
from tests.store_kit import World, new_job, opened


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def all_events(world, project="vision", limit=7):
    """Page by page, as a reader that follows."""
    out, after = [], None
    while page := world.store.events.of_project(project, after, limit).items:
        out += page
        after = page[-1].id
    return out


def sequence(events):
    return [tuple(map(int, event.id.split("-"))) for event in events]


def say(world, job_id, count):
    for n in range(count):
        world.jobs.move(job_id, Guard(), Change(events=(("said", {"n": n}),)))


# ---- order -------------------------------------------------------------------------------------------


def test_the_stream_is_dense_while_many_write_and_others_read(world):
    """A reader that sees 7 after 5 knows that it lost 6; so there must be no holes of other making."""
    ids = [world.accept() for _ in range(10)]

    with ThreadPoolExecutor(12) as pool:
        writers = [pool.submit(say, world, job_id, 20) for job_id in ids]
        halfway = [pool.submit(all_events, world) for _ in range(2)]

    for future in [*writers, *halfway]:
        future.result()
    events = all_events(world)
    assert sequence(events) == [(1, n) for n in range(1, 211)]
    for reader in halfway:
        assert sequence(reader.result()) == [(1, n) for n in range(1, len(reader.result()) + 1)]
    for job_id in ids:
        assert [e.data["n"] for e in events if e.job == job_id and e.type == "said"] == list(range(20))
    assert [e.at for e in events] == sorted(e.at for e in events)


def test_each_project_counts_for_itself(world):
    world.accept(project="vision")
    world.accept(project="speech")

    assert sequence(all_events(world, "vision")) == sequence(all_events(world, "speech")) == [(1, 1)]
    assert world.store.projects() == ("speech", "vision")


def test_an_event_is_there_exactly_when_its_change_is(world):
    job_id = world.accept()

    world.jobs.move(job_id, Guard(version=99), Change(events=(("said", {}),)))

    assert [e.type for e in all_events(world)] == ["accepted"]


def test_the_sequence_goes_on_in_a_new_incarnation(world):
    """A reader of the old one goes on without a gap; ids rise all the same."""
    job_id = world.accept()
    seen = all_events(world)[-1].id
    world.store.scripts.run("incarnation", {"run_id": "restarted", "durable": False})

    say(world, job_id, 2)

    new = world.store.events.of_project("vision", seen, 10).items
    assert sequence(new) == [(2, 2), (2, 3)]
    assert world.store.events.last_id("vision") == "2-3"


# ---- pages and what is gone --------------------------------------------------------------------------


def trimmed(world):
    """A stream of 10 events of which the first 6 are gone; the sixth included."""
    say(world, world.accept(), 9)
    world.store.client.xtrim(world.key("events:vision"), maxlen=4, approximate=False)


@pytest.mark.parametrize("after, first", [("1-6", 7), ("1-7", 8), ("1-9", 10)])
def test_a_reader_that_has_missed_nothing_goes_on(world, after, first):
    trimmed(world)

    page = world.store.events.of_project("vision", after, 100)

    assert sequence(page.items)[0] == (1, first)
    assert page.next == "1-10"


@pytest.mark.parametrize("id_of", ["{}-{}", "{}-999999", "99-1"])
def test_an_id_that_no_event_has_had_yet_is_refused(world, id_of):
    """A stream would wait for it for ever, and without a word."""
    world.accept()
    run, last = world.store.events.last_id("vision").split("-")

    with pytest.raises(Gone, match=r"no event has the id .* yet"):
        world.store.events.of_project("vision", id_of.format(run, int(last) + 1), 10)


@pytest.mark.parametrize("after", ["1-5", "1-1", "0-1"])
def test_a_reader_that_missed_something_is_told_the_oldest(world, after):
    trimmed(world)

    with pytest.raises(Gone) as gone:
        world.store.events.of_project("vision", after, 100)

    assert gone.value.extra["oldest"] == "1-7"


def test_a_reader_from_an_earlier_incarnation_that_lost_events_is_told(world):
    trimmed(world)
    world.store.scripts.run("incarnation", {"run_id": "restarted", "durable": False})
    say(world, world.accept(), 4)
    world.store.client.xtrim(world.key("events:vision"), maxlen=2, approximate=False)

    with pytest.raises(Gone) as gone:
        world.store.events.of_project("vision", "1-10", 100)

    assert gone.value.extra["oldest"] == "2-14"


@pytest.mark.parametrize("after", ["6-1", "6-2", "6-999"])
def test_a_reader_of_a_store_that_was_lost_is_told(world, after):
    """Also one that had seen no more events than there are by now: what it missed is in no stream."""
    world.store.client.hset(world.key("meta"), mapping={"incarnation": "7", "first_incarnation": "7"})
    say(world, world.accept(), 3)

    with pytest.raises(Gone, match=f"{after} is of another store") as gone:
        world.store.events.of_project("vision", after, 100)

    assert gone.value.extra["oldest"] == "7-1"


def test_a_reader_whose_missed_events_have_all_expired_is_told(redis_server):
    """The whole stream goes when a project was silent for the retention; "nothing new" would be a lie."""
    with opened(redis_server, retention_s=0.05) as store:
        world = World(store)
        say(world, world.accept(), 5)
        wait_until(lambda: store.events.last_id("vision") is None, why="the stream expires")

        with pytest.raises(Gone):
            store.events.of_project("vision", "1-3", 100)


def test_a_reader_that_is_up_to_date_when_the_stream_expires_is_not_bothered(redis_server):
    with opened(redis_server, retention_s=0.05) as store:
        world = World(store)
        job_id = world.accept()
        wait_until(lambda: store.events.last_id("vision") is None, why="the stream expires")

        assert store.events.of_project("vision", "1-1", 100).items == ()
        say(world, job_id, 1)
        assert sequence(store.events.of_project("vision", "1-1", 100).items) == [(1, 2)]


def test_nothing_new_is_an_empty_page_with_the_same_place(world):
    world.accept()

    page = world.store.events.of_project("vision", "1-1", 100)

    assert (page.items, page.next) == ((), "1-1")
    assert world.store.events.of_project("nobody", None, 100).items == ()


@pytest.mark.parametrize("after", ["", "1", "1-", "x-1", "1-2-3", "-1-1", "1-99999999999999999999", "(1-1"])
def test_what_is_no_id_is_refused(world, after):
    with pytest.raises(InvalidRequest):
        world.store.events.of_project("vision", after, 10)


def test_the_stream_is_trimmed_to_what_is_kept(redis_server):
    with opened(redis_server, events_kept=100) as store:
        world = World(store)
        job_id = world.accept()

        say(world, job_id, 500)

        kept = store.client.xlen(world.key("events:vision"))
        assert 100 <= kept <= 300, "approximate: whole nodes of the stream"
        assert store.events.last_id("vision") == "1-501"


# ---- a job's own history -----------------------------------------------------------------------------


def test_a_job_keeps_its_own_last_hundred(world):
    job_id = world.accept()
    world.accept()

    say(world, job_id, 130)

    history = of_job(job_id, world.jobs.parts(job_id).history)
    assert len(history) == 100
    assert [event.data["n"] for event in history] == list(range(30, 130))
    assert history[-1].id == world.store.events.last_id("vision")


def test_a_history_survives_blanks_and_odd_words(world):
    data = {"name": "a b  c", "x": "é\n"}
    job_id = world.accept()

    world.jobs.move(job_id, Guard(), Change(events=(("said", data),)))

    assert of_job(job_id, world.jobs.parts(job_id).history)[-1].data == data


def test_what_was_accepted_is_not_told_twice(world):
    """It stands in the job itself; the stream of the project has it in full."""
    world.jobs.accept([new := new_job(event='{"name":"resnet"}')])

    [event] = of_job(new.id, world.jobs.parts(new.id).history)

    assert (event.type, event.data) == ("accepted", {})
    assert world.store.events.of_project("vision", None, 10).items[-1].data == {"name": "resnet"}


# ---- operators ---------------------------------------------------------------------------------------


def test_operators_have_a_stream_of_their_own(world):
    world.store.events.tell_operator("backend_flags", {"backend": "hpc", "drained": True})
    first = world.store.events.of_operator(None, 10)
    world.store.events.tell_operator("token_created", {"id": "tok-1"})

    second = world.store.events.of_operator(first.next, 10)

    assert [(e.type, e.job, e.data) for e in first.items] == [
        ("backend_flags", None, {"backend": "hpc", "drained": True})
    ]
    assert [e.type for e in second.items] == ["token_created"]
    assert world.store.projects() == ()


def test_operators_are_told_of_each_token_that_is_made_and_revoked(world):
    tokens = Tokens(world.store.tokens)
    wanted = NewToken(subject="portal", owner="ana", project="vision", scopes=frozenset({Scope.JOBS_READ}))
    _, record = tokens.create(wanted)
    tokens.revoke(record["id"])

    created, revoked = world.store.events.of_operator(None, 10).items

    whose = {"id": record["id"], "subject": "portal", "owner": "ana", "project": "vision"}
    assert (created.type, revoked.type) == ("token_created", "token_revoked")
    assert created.data == {
        **whose,
        "groups": "",
        "scopes": "jobs:read",
        "created_at": record["created_at"],
        "expires_at": record["expires_at"],
    }
    assert revoked.data == whose


def test_operators_are_told_neither_a_secret_nor_its_digest(world):
    secret, record = Tokens(world.store.tokens).create(NewToken(subject="ana", project="vision"))

    told = str(world.store.client.xrange(world.key("operator")))

    assert record["id"] in told
    assert secret not in told
    assert digest_of(secret) not in told


def test_to_revoke_what_is_no_token_is_no_event(world):
    assert not Tokens(world.store.tokens).revoke("tok-0")

    assert world.store.events.of_operator(None, 10).items == ()


def told(world, count, start=0):
    for n in range(start, start + count):
        world.store.events.tell_operator("said", {"n": n})


def test_an_operator_that_missed_something_is_told_the_oldest(world):
    told(world, 10)
    ids = [event.id for event in world.store.events.of_operator(None, 100).items]
    before_all = world.store.events.of_operator("0-0", 100)
    world.store.client.xtrim(world.key("operator"), maxlen=4, approximate=False)

    with pytest.raises(Gone) as gone:
        world.store.events.of_operator(ids[2], 100)

    assert gone.value.extra["oldest"] == ids[6]
    assert [event.id for event in world.store.events.of_operator(ids[6], 100).items] == ids[7:]
    assert len(before_all.items) == 10, "nothing was trimmed yet"


# ---- where a reader begins ---------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["project", "operator"])
@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("begin", [None, "oldest", "latest"])
def test_what_comes_after_a_page_is_in_the_next_one_once(world, stream, kept, begin):
    """An empty page says where the next begins too; to ask for ``latest`` again would lose something."""
    job_id = world.accept(project="speech")

    def read(after):
        if stream == "operator":
            return world.store.events.of_operator(after, 100)
        return world.store.events.of_project("speech", after, 100)

    def write(count, start):
        if stream == "operator":
            told(world, count, start)
        else:
            for n in range(start, start + count):
                world.jobs.move(job_id, Guard(), Change(events=(("said", {"n": n}),)))

    write(kept, 0)
    first = read(begin)
    write(2, kept)
    assert first.next is not None
    second = read(first.next)

    seen = [event.data["n"] for page in (first, second) for event in page.items if event.type == "said"]
    assert seen == list(range(kept if begin == "latest" else 0, kept + 2))


def test_the_latest_of_a_stream_that_has_expired_or_begun_anew_loses_nothing(redis_server):
    with opened(redis_server, retention_s=0.05) as store:
        world = World(store)
        job_id = world.accept()
        say(world, job_id, 3)
        wait_until(lambda: store.events.last_id("vision") is None, why="the stream expires")
        store.scripts.run("incarnation", {"run_id": "restarted", "durable": False})

        places = [store.events.of_project("vision", begin, 10).next for begin in (None, "latest")]
        say(world, job_id, 1)

        for place in places:
            assert sequence(store.events.of_project("vision", place, 10).items) == [(2, 5)]
