"""The heartbeat of workers and controllers, and the check that listens to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from api_spec.errors import StoreUnavailable
from broker.controller import Controller
from broker.heartbeat import Heartbeat, is_alive, reads_logs
from tests.helpers import wait_until
from tests.store_kit import opened

HERE = socket.gethostname()


@pytest.fixture
def store(redis_server):
    with opened(redis_server) as store:
        yield store


def test_one_that_beats_is_alive_in_its_role_and_on_its_host(store):
    Heartbeat(store, "worker").beat()

    assert is_alive(store, "worker", HERE)
    assert not is_alive(store, "controller", HERE)
    assert not is_alive(store, "worker", "elsewhere")


def test_one_that_has_gone_is_not_missed_while_another_is_there(store):
    mine = Heartbeat(store, "worker")
    mine.beat()
    store.alive.say("worker", HERE, os.getpid() + 1, int(store.now() * 1000), 60_000)

    mine.end()
    assert is_alive(store, "worker", HERE)

    store.alive.take_back("worker", HERE, os.getpid() + 1)
    assert not is_alive(store, "worker", HERE)


def test_one_that_fell_silent_is_forgotten_and_so_is_its_key(store):
    now_ms = int(store.now() * 1000)
    store.alive.say("worker", HERE, 7, now_ms - 60_000, 30_000)
    assert not is_alive(store, "worker", HERE), "the key is there, and what it says is over"

    store.alive.say("worker", HERE, 8, now_ms, 1)

    wait_until(lambda: not list(store.client.scan_iter(f"{store.prefix}alive:*")))


def test_a_log_reader_is_known_by_its_backend_and_its_host(store):
    mine = Heartbeat.of_log_reader(store, "hpc")
    mine.beat()
    store.alive.say("log-reader", "other", "elsewhere:1", int(store.now() * 1000), 60_000)

    assert mine.name == f"{HERE}:{os.getpid()}"
    assert reads_logs(store, "hpc", HERE)
    assert not reads_logs(store, "hpc", HERE[:-1]), "a host whose name another's begins with"
    assert not reads_logs(store, "other", HERE)
    assert reads_logs(store, "other", "elsewhere")

    mine.end()
    assert not reads_logs(store, "hpc", HERE)


class Listens:
    """A store that counts what it is told, and is down as often as it is said."""

    def __init__(self, down=0):
        self.alive = SimpleNamespace(say=self.say, take_back=self.say)
        self.down, self.told = down, 0

    def now(self):
        return 1000.0

    def say(self, *_):
        if self.down:
            self.down -= 1
            raise StoreUnavailable("the store does not answer")
        self.told += 1


def test_a_beat_at_each_turn_of_a_loop_is_one_write_in_seconds():
    store = Listens()
    heart = Heartbeat(store, "controller")

    for _ in range(100):
        heart.beat()

    assert store.told == 1


def test_a_store_that_is_down_ends_nobody_and_is_told_with_the_next_beat():
    store = Listens(down=2)
    heart = Heartbeat(store, "controller")

    heart.end()
    heart.beat()
    heart.beat()

    assert store.told == 1


@pytest.mark.parametrize("failures, beats", [(0, 3), (2, 1), (3, 0)])
def test_a_controller_beats_after_a_round_that_went_well(failures, beats):
    """One that fails at each round is alive, and of no use."""
    rounds, heard = [], []

    def tick():
        rounds.append(1)
        if len(rounds) == 3:
            controller.stop()
        if len(rounds) <= failures:
            raise StoreUnavailable("the store does not answer")

    broker = SimpleNamespace(tick=tick, sweep=lambda: None)
    controller = Controller(broker, sweep_s=60, tick_s=0.001, beat=lambda: heard.append(1))

    controller.run()

    assert len(heard) == beats


def test_a_check_loads_nothing_that_it_does_not_need():
    """It runs every few seconds on every host."""
    heavy = ("celery", "flask", "cel_expr_python", "broker.lifecycle", "policies", "adapters.local")
    program = (
        f"import sys, broker.settings, broker.heartbeat; print([n for n in {heavy} if n in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
