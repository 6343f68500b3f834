"""Where everything of one data directory lies.  Pure, and light: supervisors load it.

| path                               | what                                                               |
|------------------------------------|--------------------------------------------------------------------|
| ``ledger.db``                      | SQLite: the truth of this backend                                  |
| ``lock``                           | held by the agent that runs (flock); its pid and start time         |
| ``wake``                           | a named pipe: a byte makes the agent look at the ledger             |
| ``options.json``                   | what the agent offers: slots, environment pass-list                |
| ``agent.log``                      | what the agent and its helpers say                                 |
| ``attempts/MARKER/script-rN``      | a script of the user, revision N                                   |
| ``attempts/MARKER/work``           | the working directory, where the spec names none                   |
| ``attempts/MARKER/proxy.lock``     | held by the process that holds the endpoint of a service            |
| ``attempts/MARKER/tasks/INDEX/``   | ``stdout``, ``stderr`` and ``exit-LAUNCH.json`` of a task or replica |
| ``outputs/MARKER``                 | ``BROKER_OUTPUT_DIR``; outlives ``cleanup`` when it holds something |
| ``secrets/NAME/KEY``               | secrets, unless the options name another directory                 |

All of it is for the user alone (0700, 0600).
"""

from __future__ import annotations

import os


class Home:
    """Paths as text below one data directory."""

    def __init__(self, data_dir: str) -> None:
        self.root = os.path.abspath(data_dir)
        self.ledger = os.path.join(self.root, "ledger.db")
        self.lock = os.path.join(self.root, "lock")
        self.wake = os.path.join(self.root, "wake")
        self.options = os.path.join(self.root, "options.json")
        self.agent_log = os.path.join(self.root, "agent.log")
        self.secrets = os.path.join(self.root, "secrets")
        self.attempts = os.path.join(self.root, "attempts")

    def attempt(self, marker: str) -> str:
        return os.path.join(self.attempts, marker)

    def task(self, marker: str, index: int) -> str:
        return os.path.join(self.attempts, marker, "tasks", str(index))

    def work(self, marker: str) -> str:
        return os.path.join(self.attempts, marker, "work")

    def script(self, marker: str, revision: int) -> str:
        return os.path.join(self.attempts, marker, f"script-r{revision}")

    def outputs(self, marker: str) -> str:
        return os.path.join(self.root, "outputs", marker)


def exit_record(task_dir: str, launch: str) -> str:
    return os.path.join(task_dir, f"exit-{launch}.json")


def is_a_safe_name(marker: str) -> bool:
    """A marker becomes a directory name; nothing may lead out of the data directory."""
    return bool(marker) and marker not in (".", "..") and "/" not in marker and "\0" not in marker
