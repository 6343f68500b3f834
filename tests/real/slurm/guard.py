"""Ends a cluster whose owner has gone without closing it: a test run that was killed, say.

    python -m tests.real.slurm.guard DIRECTORY [USER ...]

Its input is a pipe that the owner holds open and never writes to; it ends when the owner does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.real.slurm import accounts
from tests.real.slurm.daemons import end_processes_of, remove_directory

CHECKOUT = Path(__file__).parents[3]


class Guard:
    """Held by the owner, from before the first daemon starts until all has ended."""

    def __init__(self, directory: Path, users: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(directory), *users],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # what kills the owner's group spares it
        )

    def dismiss(self) -> None:
        self._process.kill()
        self._process.communicate()


def main(directory: str, *users: str) -> None:
    sys.stdin.buffer.read()
    end_processes_of(Path(directory))
    accounts.remove(users)
    remove_directory(Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
