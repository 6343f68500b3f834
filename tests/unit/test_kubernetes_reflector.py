"""What a reflector holds, whatever a watch says or does not say, and how often it asks."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

from adapters.kubernetes.names import member
from adapters.kubernetes.reflector import NOT_LISTED, Reflector, Source
from tests.helpers import wait_until
from tests.unit.kubernetes_stub import JOBS, Answer, Feed, job_object, listed, status

GONE = status(410, "too old resource version: 101 (200)", "Expired")


def job(name, version, **metadata):
    return job_object(f"wb-test-{name}-1", metadata={"resourceVersion": str(version), **metadata})


def name_and_version(found):
    name, version = member(found, "metadata", "name"), member(found, "metadata", "resourceVersion")
    return (name.split("-")[2], version) if str(name).startswith("wb-") else None


class Told:
    """What a reflector has told, and so what it holds."""

    def __init__(self):
        self.told, self.held = [], set()

    def __call__(self, before, after):
        self.told.append((before, after))
        self.held = (self.held - {before}) | ({after} if after else set())


@contextmanager
def reflecting(server, read=name_and_version, path=JOBS, watch_s=60.0):
    told = Told()
    source = Source(path=path, selector="workload-broker/instance=test", read=read)
    told.reflector = Reflector(server.adapter().client, source, told, watch_s)
    thread = threading.Thread(target=told.reflector.run, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.reflector.stop()
        thread.join(5.0)
    assert not thread.is_alive(), "it stops whatever it does"


def holds(told, *names):
    wait_until(lambda: {name for name, _ in told.held} == set(names), why=f"{names} are held")


def versions_asked(server):
    return [query["resourceVersion"] for query in server.queries("WATCH", JOBS)]


# ---- a watch that is well -------------------------------------------------------------------------------


def test_it_holds_what_is_listed_and_what_a_watch_tells_afterwards(server):
    server.says("GET", JOBS, listed(job("a", 7), job("b", 8)))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        holds(told, "a", "b")
        feed.tells("ADDED", job("c", 101))
        feed.tells("MODIFIED", job("a", 102))
        feed.tells("DELETED", job("b", 103))

        wait_until(lambda: told.held == {("a", "102"), ("c", "101")})
        last_words = [(("b", "8"), ("b", "103")), (("b", "103"), None)]
        assert told.told[2:] == [(None, ("c", "101")), (("a", "7"), ("a", "102")), *last_words]

    (asked,) = server.queries("WATCH", JOBS)
    assert asked["allowWatchBookmarks"] == "true"
    assert asked["labelSelector"] == "workload-broker/instance=test"
    assert 45 <= int(asked["timeoutSeconds"]) <= 60


def test_it_is_in_order_only_when_it_has_listed_and_watches(server):
    server.says("GET", JOBS, status(500, "etcdserver: leader changed"), listed())
    server.watched(JOBS)

    with reflecting(server) as told:
        assert told.reflector.fault is not None
        wait_until(lambda: told.reflector.fault not in (None, NOT_LISTED))
        assert "leader changed" in told.reflector.fault
        wait_until(lambda: told.reflector.fault is None)


def test_a_list_in_pages_is_one_list(server):
    server.says("GET", JOBS, listed(job("a", 7), more="more"), listed(job("b", 8), version="100"))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        holds(told, "a", "b")
        wait_until(lambda: versions_asked(server) == ["100"])
        feed.ends()


@pytest.mark.parametrize("last", ["event", "bookmark"])
def test_after_its_end_a_watch_goes_on_where_it_was(server, last):
    server.says("GET", JOBS, listed())
    first, second = server.watched(JOBS, 2)

    with reflecting(server) as told:
        wait_until(lambda: told.reflector.fault is None)
        first.tells("ADDED", job("a", 150)) if last == "event" else first.bookmark("150")
        threading.Timer(1.2, first.ends).start()  # sooner would be a server that closes at once
        wait_until(lambda: len(versions_asked(server)) == 2)
        second.tells("ADDED", job("b", 151))
        wait_until(lambda: ("b", "151") in told.held)

    assert versions_asked(server) == ["100", "150"]
    assert server.count("GET", JOBS) == 1, "nothing is listed again"


def test_what_was_told_before_or_is_older_changes_nothing(server):
    server.says("GET", JOBS, listed(job("a", 7)))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        holds(told, "a")
        feed.tells("MODIFIED", job("a", 110))
        feed.tells("MODIFIED", job("a", 110))
        feed.tells("MODIFIED", job("a", 105))
        feed.tells("DELETED", job("a", 104))
        feed.tells("ADDED", job("b", 120))
        feed.tells("DELETED", job("b", 121))
        feed.tells("MODIFIED", job("b", 119))
        feed.tells("ADDED", job("c", 130))
        wait_until(lambda: ("c", "130") in told.held)

        assert told.held == {("a", "110"), ("c", "130")}
        assert len(told.told) == 6


def test_another_object_of_the_same_name_is_another(server):
    server.says("GET", JOBS, listed(job("a", 7, uid="old")))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        feed.tells("DELETED", job("a", 110, uid="old"))
        feed.tells("ADDED", job("a", 111, uid="new"))
        feed.tells("DELETED", job("a", 112, uid="old"))
        feed.tells("ADDED", job("b", 113))
        wait_until(lambda: ("b", "113") in told.held)

        assert told.held == {("a", "111"), ("b", "113")}


# ---- a watch that is not --------------------------------------------------------------------------------


def by_status(feed):
    return GONE


def by_event(feed):
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
    feed.tells("ERROR", gone)
    return feed


def by_another_error(feed):
    feed.tells("ERROR", {"kind": "Status", "code": 500, "message": "etcdserver: no leader"})
    return feed


def by_a_word_that_is_no_event(feed):
    feed.says(b"<html>\n")
    return feed


@pytest.mark.parametrize("how", [by_status, by_event, by_another_error, by_a_word_that_is_no_event])
def test_where_a_watch_cannot_go_on_it_lists_again(server, how):
    """What went meanwhile is told as gone, what came as new, and what stayed is not told again."""
    server.says(
        "GET", JOBS, listed(job("a", 7), job("b", 8)), listed(job("b", 8), job("c", 9), version="200")
    )
    server.says("WATCH", JOBS, how(Feed()), Feed())

    with reflecting(server) as told:
        holds(told, "b", "c")
        wait_until(lambda: told.reflector.fault is None)

    assert told.told[2:] == [(None, ("c", "9")), (("a", "7"), None)]
    assert versions_asked(server)[-1] == "200"


def test_a_reset_in_the_middle_of_a_line_loses_nothing(server):
    server.says("GET", JOBS, listed())
    first, second = server.watched(JOBS, 2)

    with reflecting(server) as told:
        first.tells("ADDED", job("a", 110))
        holds(told, "a")
        first.says(b'{"type": "ADDED", "object": {"metadata": {"na')
        first.resets()
        second.tells("ADDED", job("b", 111))
        holds(told, "a", "b")

    assert versions_asked(server) == ["100", "110"]
    assert server.count("GET", JOBS) == 1


def test_a_connection_whose_other_end_is_gone_is_noticed(server):
    """Nothing is said on it, not even that it is over."""
    server.says("GET", JOBS, listed())
    _, second = server.watched(JOBS, 2)

    with reflecting(server, watch_s=1.0) as told:
        second.tells("ADDED", job("a", 110))
        holds(told, "a")

    assert server.count("GET", JOBS) == 1


NO_RIGHT = status(403, 'jobs.batch is forbidden: cannot watch resource "jobs"', "Forbidden")
STORMS = {
    "a right that is missing": NO_RIGHT,
    "410 by status": GONE,
    "closed at once": Answer(body=b""),
    "500": status(500, "no"),
    "an event that is none": Answer(body=b"[]\n"),
    "an error": Answer(body=b'{"type": "ERROR", "object": null}\n'),
}


@pytest.mark.parametrize("storm", STORMS)
def test_a_server_that_goes_on_failing_is_asked_less_and_less(server, storm):
    server.says("GET", JOBS, listed(job("a", 7)))
    server.says("WATCH", JOBS, STORMS[storm])
    began = time.monotonic()

    with reflecting(server) as told:
        wait_until(lambda: server.count("WATCH", JOBS) == 4)
        took_s = time.monotonic() - began
        wait_until(lambda: told.reflector.fault)

    assert took_s > 0.25 + 0.5 + 1.0, "half of each pause at least"
    assert server.count("GET", JOBS) <= 4
    assert told.held == {("a", "7")}


def test_a_right_that_is_missing_is_told(server):
    server.says("GET", JOBS, listed())
    server.says("WATCH", JOBS, NO_RIGHT)

    with reflecting(server) as told:
        wait_until(lambda: "cannot watch resource" in (told.reflector.fault or ""))


def test_who_asks_to_be_left_alone_is(server):
    server.says("GET", JOBS, status(429, "too many requests", Retry_After="2"), listed())
    began = time.monotonic()

    with reflecting(server) as told:
        wait_until(lambda: told.reflector.fault is None)

    assert time.monotonic() - began >= 2.0


# ---- odd things -----------------------------------------------------------------------------------------


def test_odd_objects_hide_no_others(server):
    odd = [{"metadata": None}, {"metadata": {"uid": 7, "name": "x"}}, {"metadata": {"name": "no-uid"}}, {}]
    server.says("GET", JOBS, listed(*odd, None, 3, job("a", 7)))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        holds(told, "a")
        for one in (None, 3, [], *odd, {**job("b", 1), "metadata": {"uid": "u", "resourceVersion": 12}}):
            feed.tells("ADDED", one)
        feed.tells("NEWER", job("z", 150))
        feed.tells("ADDED", job("b", 151))
        holds(told, "a", "b")

        assert told.reflector.fault is None


def test_a_list_without_a_version_is_no_beginning(server):
    server.says("GET", JOBS, listed(job("a", 7), version=""), listed(job("a", 7)))

    with reflecting(server) as told:
        wait_until(lambda: server.count("WATCH", JOBS))

        assert versions_asked(server) == ["100"]
        assert told.held == {("a", "7")}


def test_versions_that_are_no_numbers_are_taken_as_they_come(server):
    server.says("GET", JOBS, listed(job("a", "x1"), version="x9"))
    (feed,) = server.watched(JOBS)

    with reflecting(server) as told:
        feed.tells("MODIFIED", job("a", "w2"))
        wait_until(lambda: told.held == {("a", "w2")})
        feed.tells("DELETED", job("a", "v3"))
        wait_until(lambda: not told.held)
