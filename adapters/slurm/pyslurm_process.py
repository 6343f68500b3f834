"""One child process with pyslurm in it: started by the first call, killed when it is late, started again.

not reached   it did not come up: pyslurm is missing, or has ended the process over slurm.conf
no answer     it was asked, and has died or was killed before it answered
try later     another call has taken all the time there was; nothing was sent
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from typing import IO, Any

from adapters.slurm.options import Options
from adapters.slurm.transport import NoAnswer, NotReached, TryLater

CHILD = "adapters.slurm.pyslurm_child"
# pyslurm reads settings from them and copies SLURM_* into jobs; the broker's own are nobody's business.
SCRUBBED = ("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "PYSLURM_", "SPANK_", "_SLURM_", "BROKER_")
SAID = 500  # characters of what it printed last
DYING_S = 1.0  # from its last word until the system has its exit code


class Child:
    """Safe from several threads, which take turns.  Not in a process that was forked from its own."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._printed: IO[bytes] | None = None

    def ask(self, call: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Raises ``NotReached``, ``NoAnswer`` or ``TryLater``; takes at most ``answer_s`` for its turn and as
        much again for the call."""
        if not self._turn.acquire(timeout=self._options.answer_s):
            raise TryLater("pyslurm is busy with other calls")
        try:
            until = time.monotonic() + self._options.answer_s
            channel = self._open(until)
            try:
                channel.settimeout(left(until))
                channel.sendall(json.dumps([call, arguments]).encode() + b"\n")
                return received(channel, until)
            except (OSError, ValueError) as error:
                raise NoAnswer(f"pyslurm did not answer: {self._end(error)}") from error
        finally:
            self._turn.release()

    def close(self) -> None:
        """Who waits for an answer gets none."""
        if process := self._process:
            process.kill()
        with self._turn:
            self._end()

    def _open(self, until: float) -> socket.socket:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._end()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", CHILD, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                env=environment(self._options),
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for the broker, which ends its children itself
            )
        try:
            received(self._channel, until)
        except (OSError, ValueError) as error:
            raise NotReached(f"pyslurm did not start: {self._end(error)}") from error
        return self._channel

    def _end(self, error: Exception | None = None) -> str:
        """Makes sure that it has ended.  What was wrong, and what it printed last."""
        wrong = f"not within {self._options.answer_s:g} s"
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            if error is not None and not isinstance(error, TimeoutError):
                wrong = f"{error}; it ended with {exit_code(self._process)}"
            self._process.kill()
            self._process.wait()
        said = b""
        if self._printed is not None:
            self._printed.seek(0)
            said = self._printed.read()[-SAID:]
            self._printed.close()
        self._process = self._channel = self._printed = None
        return "; ".join(filter(None, (wrong, said.decode(errors="replace").strip())))


def exit_code(process: subprocess.Popen[bytes]) -> int | str:
    try:
        return process.wait(DYING_S)
    except subprocess.TimeoutExpired:
        return "nothing yet"


def environment(options: Options) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SCRUBBED)}
    conf = {"SLURM_CONF": options.slurm_conf} if options.slurm_conf else {}
    return {**kept, **conf, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def received(channel: socket.socket, until: float) -> Mapping[str, Any]:
    """One line.  Raises ``OSError`` where there is none in time, or none any more."""
    parts: list[bytes] = []
    while not parts or not parts[-1].endswith(b"\n"):
        channel.settimeout(left(until))
        parts.append(channel.recv(2**20))
        if not parts[-1]:
            raise ConnectionResetError("the process has closed")
    answer: Mapping[str, Any] = json.loads(b"".join(parts))
    return answer


def left(until: float) -> float:
    if (seconds := until - time.monotonic()) <= 0:
        raise TimeoutError
    return seconds
