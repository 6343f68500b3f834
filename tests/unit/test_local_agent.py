"""The agent's turns, one at a time, on a ledger of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from adapters.base import AttemptRef
from adapters.local import attempts, ledger, options, processes
from adapters.local.agent import Agent
from adapters.local.paths import Home
from adapters.local.watch import Watch
from api_spec.jobs import JobSpec, Kind
from tests.helpers import wait_until

REF = AttemptRef(marker="wb-x-j-1")


@pytest.fixture
def agent(tmp_path):
    home = Home(str(tmp_path))
    ledger.create(home.ledger)
    chosen = options.load(home.root, {"cpus": 1, "grace_s": 60})
    (tmp_path / "options.json").write_text(options.to_json(chosen))
    watch = Watch(home.wake)
    with ledger.opened(home.ledger) as connection:
        yield Agent(home, connection, watch)
    watch.close()


def test_a_cancel_reaches_a_supervisor_that_claims_while_the_agent_looks(agent, monkeypatch):
    """The row had no process when it was read, and the claim came before it could be ended.

    Once such a supervisor counted as told and was killed for not acting.
    """
    attempts.record(agent.connection, REF, JobSpec(kind=Kind.BATCH, name="j", command=("true",)))
    agent.connection.execute("INSERT INTO tasks (attempt, idx, state, launch) VALUES (1, 0, 'STARTING', 'l')")
    attempts.ask_for_the_end(agent.connection, REF.marker)
    stale = agent._tasks("1")
    supervisor = subprocess.Popen(["sleep", "600"])
    ledger.claim(agent.connection, "l", supervisor.pid, processes.born(supervisor.pid), processes.boot_id())

    with monkeypatch.context() as patch:
        patch.setattr(agent, "_tasks", lambda _: stale)
        patience = agent._end_what_was_cancelled()
    agent._end_what_was_cancelled()

    assert patience == 0.0
    assert supervisor.wait(timeout=60) == -signal.SIGTERM


def test_a_process_that_a_former_agent_started_is_watched(agent):
    child = subprocess.Popen(["sleep", "600"])

    added = agent.watch.add("key", child.pid, processes.born(child.pid), processes.boot_id())
    child.kill()
    dead = agent.watch.wait(60)
    child.wait()

    assert (added, dead, "key" in agent.watch) == (True, ["key"], False)


@pytest.mark.parametrize("born, boot", [(1, None), (None, "an earlier one")])
def test_a_process_that_only_has_the_same_number_is_not(agent, born, boot):
    me = os.getpid()
    born = born or processes.born(me)

    assert not agent.watch.add("key", me, born, boot or processes.boot_id())
    assert not processes.is_alive(me, born, boot or processes.boot_id())


def test_a_signal_goes_to_that_very_process_or_to_none(agent):
    child = subprocess.Popen(["sleep", "600"])
    born = processes.born(child.pid)

    assert not processes.send(child.pid, born + 1, signal.SIGKILL)
    assert processes.send(child.pid, born, signal.SIGKILL)

    child.wait()
    wait_until(lambda: not processes.send(child.pid, born, signal.SIGKILL))
