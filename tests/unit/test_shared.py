"""One fetch for all who ask for the same, in a moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker.lifecycle.shared import Shared
from tests.helpers import wait_until


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Fetches:
    """Counts, and waits for ``gate``."""

    def __init__(self):
        self.count, self.gate, self.error = 0, threading.Event(), None

    def __call__(self):
        self.count += 1
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        return self.count


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fetch():
    return Fetches()


def test_who_comes_while_it_is_fetched_waits_for_it_however_long_it_takes(clock, fetch):
    shared = Shared(1.0, clock)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(shared.get, "a", fetch)
        wait_until(lambda: fetch.count)
        clock.now += 100
        others = [pool.submit(shared.get, "a", fetch) for _ in range(7)]
        fetch.gate.set()

        assert {one.result() for one in (first, *others)} == {1}


def test_an_answer_is_as_old_as_its_question(clock, fetch):
    """It may tell what was so when it was asked."""
    fetch.gate.set()
    shared = Shared(1.0, clock)

    assert shared.get("a", fetch) == 1
    clock.now += 0.9
    assert shared.get("a", fetch) == 1
    clock.now += 0.1
    assert shared.get("a", fetch) == 2


def test_another_key_is_another_fetch(clock, fetch):
    fetch.gate.set()
    shared = Shared(1.0, clock)

    assert (shared.get("a", fetch), shared.get("b", fetch)) == (1, 2)


def test_an_error_is_for_those_who_wait_and_is_not_kept(clock, fetch):
    shared = Shared(1.0, clock)
    fetch.error = ValueError("no")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared.get, "a", fetch)
        wait_until(lambda: fetch.count)
        second = pool.submit(shared.get, "a", fetch)
        wait_until(second.running)
        fetch.gate.set()
        assert all(isinstance(one.exception(), ValueError) for one in (first, second))

    fetch.error = None
    assert shared.get("a", fetch) == fetch.count
