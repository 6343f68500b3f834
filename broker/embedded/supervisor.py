"""Keeps a few processes alive on one machine, and takes them with it however it dies.

Each child writes to a log file of its own; one that ends is started again after a pause that grows while it
keeps dying, and each such event is said aloud.  To be used from the main thread (see ``tether``).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from broker.embedded.tether import tethered

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
SETTLED_S = 60.0  # one that ran this long has not died "again"
LARGEST_LOG_BYTES = 32 * 1024**2
LAST_WORDS_LINES = 8


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


class Child:
    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.environment = environment
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_again_at = 0.0
        self.pause_s = FIRST_PAUSE_S

    def start(self) -> None:
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LARGEST_LOG_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tethered(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops them in order
            )
        self.started_at = time.monotonic()

    def died(self) -> int | None:
        """The exit code of a process that has just ended, once; it is due again after the pause."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.process = None
        if time.monotonic() - self.started_at > SETTLED_S:
            self.pause_s = FIRST_PAUSE_S
        self.start_again_at = time.monotonic() + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        return code

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_WORDS_LINES:]
        return "\n".join(f"  {self.name} | {line}" for line in lines)


class Supervisor:
    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        environment: Mapping[str, str],
        log_dir: Path,
        tell: Callable[[str], None] = say,
    ) -> None:
        """They are started in the order of ``commands``, and stopped together."""
        log_dir.mkdir(mode=0o700, exist_ok=True)
        self.tell = tell
        self.children = [
            Child(name, command, environment, log_dir / f"{name}.log") for name, command in commands.items()
        ]

    def start(self) -> None:
        for child in self.children:
            child.start()

    def tend(self) -> None:
        """One round: note who has ended, start who is due again."""
        for child in self.children:
            code = child.died()
            if code is not None:
                reason = f"signal {-code}" if code < 0 else f"exit code {code}"
                wait_s = child.start_again_at - time.monotonic()
                self.tell(
                    f"{child.name} ended ({reason}) and is started again in {wait_s:.1f} s; its last words:"
                )
                self.tell(child.last_words())
            if child.process is None and time.monotonic() >= child.start_again_at:
                child.start()

    def stop(self, grace_s: float = 20.0) -> None:
        """Asks all to end, and ends those that have not within ``grace_s`` together."""
        running = [child for child in self.children if child.process is not None]
        for child in running:
            child.process.terminate()  # type: ignore[union-attr]  # the filter above
        give_up_at = time.monotonic() + grace_s
        for child in running:
            self._end(child, give_up_at)

    def _end(self, child: Child, give_up_at: float) -> None:
        process, child.process = child.process, None
        if process is None:
            return
        try:
            process.wait(max(0.0, give_up_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.tell(f"{child.name} did not stop in time and is killed")
            process.kill()
            process.wait()
