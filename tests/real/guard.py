"""Ends a cluster whose owner has gone without closing it: a test run that was killed, say.

    python -m tests.real.guard MODULE ARGUMENT ...

Its input is a pipe that the owner holds open and never writes to.  When the owner ends, so does the pipe, and
``remove`` of the module is called with the arguments.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).parents[2]


class Guard:
    """Held by the owner, from before the first daemon starts until all has ended."""

    def __init__(self, leftovers: ModuleType, *arguments: str, keeps: Collection[int] = ()) -> None:
        """``keeps``: open files, such as locks, that are to outlive the owner."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, leftovers.__name__, *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # what kills the owner's group spares it
            pass_fds=keeps,
        )

    def dismiss(self) -> None:
        self._process.kill()
        self._process.communicate()


def main(module: str, *arguments: str) -> None:
    sys.stdin.buffer.read()
    import_module(module).remove(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
