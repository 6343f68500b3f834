"""The tail: one reader for all streams, nothing lost and nothing twice."""

import threading

import pytest
from helpers import wait_until

from api_spec.errors import Gone, StoreUnavailable
from api_spec.views import EventView, Page
from broker.web import tail as module
from broker.web.tail import Tail


class Log:
    """Events of projects, as the store has them; counts how often it is read."""

    def __init__(self):
        self.events, self.reads, self.oldest, self.failure = {}, 0, 1, None

    def add(self, count=1, project="vision"):
        events = self.events.setdefault(project, [])
        for _ in range(count):
            events.append(EventView(id=f"a-{len(events) + 1}", at=0.0, type="x", job=None, data={}))

    def read(self, project, after, limit):
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        start = int(after.split("-")[1]) if after else 0
        if start < self.oldest - 1:
            raise Gone("gone", oldest=f"a-{self.oldest}")
        return Page(tuple(self.events.get(project, [])[start : start + limit]))


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def tail(log):
    tail = Tail(log.read)
    yield tail
    tail.stop()


def follow(tail, seen, until):
    got = []
    while not got or got[-1] != until:
        for event in tail.after("vision", seen, 5.0):
            seen = event.id
            got.append(seen)
    return got


def ids(first, last):
    return [f"a-{number}" for number in range(first, last + 1)]


def test_whoever_follows_gets_what_was_and_what_comes(log, tail):
    log.add(3)
    threading.Timer(0.1, log.add, [2]).start()

    assert follow(tail, None, "a-5") == ids(1, 5)


def test_a_follower_far_behind_reads_the_store_itself(log, tail, monkeypatch):
    monkeypatch.setattr(module, "RING_COUNT", 10)
    log.add(200)
    follow(tail, None, "a-200")

    assert follow(tail, "a-5", "a-200") == ids(6, 200)


def test_a_follower_ahead_of_the_ring_misses_nothing(log, tail, monkeypatch):
    monkeypatch.setattr(module, "PAGE_COUNT", 2)
    log.add(50)
    tail.after("vision", None, 5.0)

    threading.Timer(0.1, log.add, [1]).start()

    assert follow(tail, "a-50", "a-51") == ["a-51"]


def test_many_followers_cost_one_reader(log, tail, monkeypatch):
    monkeypatch.setattr(module, "PERIOD_S", 0.05)
    log.add(1)
    results = []
    threads = [threading.Thread(target=lambda: results.append(follow(tail, "a-1", "a-40"))) for _ in range(9)]
    for thread in threads:
        thread.start()
    for _ in range(39):
        log.add()
    for thread in threads:
        thread.join()

    assert results == [ids(2, 40)] * 9
    assert log.reads < 9 * 39


def test_projects_do_not_mix(log, tail):
    log.add(1, "vision")
    log.add(2, "speech")

    assert [event.id for event in tail.after("speech", "a-1", 5.0)] == ["a-2"]
    assert tail.after("vision", "a-1", 0.05) == ()


def test_with_no_news_it_answers_when_the_time_is_over(log, tail):
    assert tail.after("vision", None, 0.05) == ()


def test_whoever_is_behind_what_is_kept_is_told(log, tail):
    log.add(10)
    log.oldest = 8

    with pytest.raises(Gone):
        follow(tail, "a-2", "a-10")
    assert follow(tail, "a-7", "a-10") == ids(8, 10)


def test_it_goes_on_when_the_store_is_back(log, tail):
    log.add(1)
    follow(tail, None, "a-1")
    log.failure = StoreUnavailable("no")
    reads = log.reads
    wait_until(lambda: log.reads > reads + 1)
    log.failure = None
    log.add(1)

    assert follow(tail, "a-1", "a-2") == ["a-2"]


def test_a_project_that_nobody_follows_is_no_longer_read(log, tail, monkeypatch):
    monkeypatch.setattr(module, "IDLE_S", 0.0)
    tail.after("vision", None, 0.0)

    wait_until(lambda: not tail.rings and tail.thread is None)

    log.add(1)
    assert follow(tail, None, "a-1") == ["a-1"]
