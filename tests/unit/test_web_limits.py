"""The rate limit: requests are taken from the store in blocks, and a block is kept for one period."""

from __future__ import annotations

import threading

import pytest

from broker.web.limits import RateLimit

HOUR_S = 3600


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limit(clock):
    """Blocks of ten; ``taken`` holds the size of each that was asked for."""
    limit = RateLimit("1000 per hour", "memory://", clock)
    limit.taken, hit = [], limit.counter.hit
    limit.counter.hit = lambda *keys, cost: limit.taken.append(cost) or hit(*keys, cost=cost)
    return limit


def test_what_is_left_of_a_block_is_used_up_within_the_period(limit, clock):
    limit.count("tok-1")
    clock.now += HOUR_S - 1
    for _ in range(9):
        limit.count("tok-1")

    assert limit.taken == [10]


def test_threads_that_find_a_block_empty_at_once_lose_nothing_of_theirs(limit):
    """Each takes one; what is left of all of them is used before another is taken."""
    hit, meet = limit.counter.hit, threading.Barrier(4)
    limit.counter.hit = lambda *keys, cost: meet.wait(10) is not None and hit(*keys, cost=cost)
    threads = [threading.Thread(target=limit.count, args=["tok-1"]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    limit.counter.hit = hit

    for _ in range(36):
        limit.count("tok-1")

    assert limit.taken == [10] * 4


def test_after_the_period_a_block_counts_no_more(limit, clock):
    """What was counted for it has left the window: used later it would come on top of the limit."""
    limit.count("tok-1")
    clock.now += HOUR_S
    limit.count("tok-1")

    assert limit.taken == [10, 10]


def test_a_block_is_not_kept_for_longer_because_it_is_used(limit, clock):
    limit.count("tok-1")
    clock.now += HOUR_S - 1
    limit.count("tok-1")
    clock.now += 1
    limit.count("tok-1")

    assert limit.taken == [10, 10]


def test_each_token_has_blocks_of_its_own(limit):
    limit.count("tok-1")
    limit.count("tok-2")

    assert limit.taken == [10, 10]
