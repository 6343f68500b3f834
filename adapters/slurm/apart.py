"""A transport in supervised processes of its own: for a library that may end its process, or hold the
interpreter's lock for as long as a controller takes to answer.

Two processes, one for questions and one for writes, so that a question that hangs holds up no cancel.  Each
is started by the first call, killed when it has not answered within ``answer_s``, and started again.

not reached   it did not come up: the library is missing, or has ended the process over slurm.conf
no answer     it was asked, and has died or was killed before it answered
try later     another call has taken all the time there was; nothing was sent
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import IO, Any, BinaryIO, cast

from adapters.slurm.options import Options
from adapters.slurm.records import Cluster
from adapters.slurm.transport import NoAnswer, NotAuthenticated, NotReached, SlurmError, Transport, TryLater

WRITES = frozenset({"submit", "cancel", "change"})
# Slurm's libraries read settings from them and copy SLURM_* into jobs; the broker's are nobody's business.
SCRUBBED = ("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "PYSLURM_", "SPANK_", "_SLURM_", "BROKER_")
SAID = 500  # characters of what it printed last
DYING_S = 1.0  # from its last word until the system has its exit code
BROKEN = (OSError, EOFError, pickle.UnpicklingError)


class TransportApart:
    """Every call of the transport at ``place``, "module:Class", which is made without arguments.  Safe in
    threads and in forked processes.  Nothing is started before the first call."""

    def __init__(self, place: str, options: Options) -> None:
        self._place, self._options = place, options
        self._by_process: dict[int, Children] = {}  # a forked process must not talk to its parent's
        self._cluster: Cluster | None = None

    def __getattr__(self, call: str) -> Callable[..., Any]:
        if call not in vars(Transport):
            raise AttributeError(call)
        return partial(self._ask, call)

    def _ask(self, call: str, *given: Any, **named: Any) -> Any:
        child = self._children.writes if call in WRITES else self._children.reads
        try:
            return child.ask(call, given, named)
        except (NoAnswer, NotAuthenticated, NotReached):
            self._cluster = None
            raise

    @property
    def _children(self) -> Children:
        mine = os.getpid()
        if mine not in self._by_process:
            # setdefault is atomic: of two threads that come first, one's are used.
            new = Children(Child(self._place, self._options), Child(self._place, self._options))
            self._by_process.setdefault(mine, new)
        return self._by_process[mine]

    def cluster(self) -> Cluster:
        if (found := self._cluster) is None:
            found = self._cluster = self._ask("cluster")
        return found

    def close(self) -> None:
        if children := self._by_process.pop(os.getpid(), None):
            children.reads.close()
            children.writes.close()


class Child:
    """Safe from several threads, which take turns.  Not in a process that was forked from its own."""

    def __init__(self, place: str, options: Options) -> None:
        self._place = place
        self._options = options
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._channel: BinaryIO | None = None
        self._printed: IO[bytes] | None = None

    def ask(self, call: str, given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        if not self._turn.acquire(timeout=self._options.answer_s):
            raise TryLater(f"{self._options.transport} is busy with other calls")
        try:
            until = time.monotonic() + self._options.answer_s
            channel = self._open(until)
            try:
                self._limit(until)
                tell(channel, (call, given, named))
                answer, error = self._heard(channel, until)
            except BROKEN as broken:
                raise NoAnswer(f"{self._options.transport} did not answer: {self._end(broken)}") from broken
        except BaseException as interrupted:
            if not isinstance(interrupted, SlurmError):
                self._end()  # else its answer would be taken for that of the next call
            raise
        finally:
            self._turn.release()
        if error is not None:
            raise error
        return answer

    def close(self) -> None:
        """Who waits for an answer gets none."""
        if process := self._process:
            process.kill()
        with self._turn:
            self._end()

    def _limit(self, until: float) -> None:
        assert self._socket is not None  # noqa: S101 - it has a channel
        self._socket.settimeout(max(0.001, until - time.monotonic()))

    def _heard(self, channel: BinaryIO, until: float) -> Any:
        self._limit(until)
        return pickle.load(channel)  # noqa: S301 - of our own process

    def _open(self, until: float) -> BinaryIO:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._end()
        try:
            channel = self._started()
            self._heard(channel, until)
        except BROKEN as broken:
            raise NotReached(f"{self._options.transport} did not start: {self._end(broken)}") from broken
        return channel

    def _started(self) -> BinaryIO:
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the child
        self._socket, theirs = socket.socketpair()
        channel = self._channel = cast(BinaryIO, self._socket.makefile("rwb"))
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), self._place],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                env=environment(self._options),
                cwd="/",
                start_new_session=True,  # a Ctrl-C is for the broker, which ends its children itself
            )
        return channel

    def _end(self, broken: Exception | None = None) -> str:
        """Makes sure that it has ended.  What was wrong, and what it printed last."""
        wrong, said = f"not within {self._options.answer_s:g} s", b""
        if self._process is not None:
            if broken is not None and not isinstance(broken, TimeoutError):
                wrong = f"it ended with {exit_code(self._process)}"
            self._process.kill()
            self._process.wait()
        if self._channel is not None and self._socket is not None:
            with suppress(OSError):  # what it has not taken
                self._channel.close()
            self._socket.close()
        if self._printed is not None:
            self._printed.seek(0)
            said = self._printed.read()[-SAID:]
            self._printed.close()
        self._process = self._socket = self._channel = self._printed = None
        return "; ".join(filter(None, (wrong, said.decode(errors="replace").strip())))


@dataclass(frozen=True)
class Children:
    reads: Child
    writes: Child


def exit_code(process: subprocess.Popen[bytes]) -> int | str:
    try:
        return process.wait(DYING_S)
    except subprocess.TimeoutExpired:
        return "nothing yet"


def environment(options: Options) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(SCRUBBED)}
    conf = {"SLURM_CONF": options.slurm_conf} if options.slurm_conf else {}
    return {**kept, **conf, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


# ---- in both -----------------------------------------------------------------------------------------


def tell(channel: BinaryIO, what: object) -> None:
    pickle.dump(what, channel)
    channel.flush()


# ---- in the child ------------------------------------------------------------------------------------


def main() -> None:
    descriptor, place = sys.argv[1:]
    module, _, name = place.partition(":")
    with socket.socket(fileno=int(descriptor)) as theirs:
        channel = cast(BinaryIO, theirs.makefile("rwb"))
        transport = getattr(import_module(module), name)()
        tell(channel, "up")
        with suppress(EOFError):  # who asks has gone
            while True:
                call, given, named = pickle.load(channel)  # noqa: S301 - of our own process
                tell(channel, outcome(getattr(transport, call), given, named))


def outcome(
    call: Callable[..., Any], given: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[Any, SlurmError | None]:
    try:
        return call(*given, **named), None
    except SlurmError as error:
        return None, error


if __name__ == "__main__":
    main()
