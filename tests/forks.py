"""Commands of the broker, and fake backends, as processes of their own that need not import them again.

A server that has imported it once forks each of them: a new interpreter spends more on its imports than most
tests spend on all they do.  What is tested from the first byte on (``broker dev``, the services of the
compose file, the agent of the local backend) is started as anybody starts it, and not here.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

# Not broker.web: the library of figures decides when it is imported whether it counts for several processes.
IMPORTED = (
    "tests.crash.process",
    "adapters.fake.adapter",
    "adapters.fake.server",
    "adapters.local.adapter",
    "broker.cli.logs",
    "broker.cli.main",
    "broker.cli.server",
    "broker.client.client",
    "broker.heartbeat",
    "broker.processes",
    "broker.tasks",
    "broker.web.server",
    "apispec_oneofschema",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "flask_smorest",
    "gunicorn.workers.gthread",
    "kombu.transport.redis",
    "limits.storage.redis",
)
# multiprocessing looks through its children at each start, and trips over one that is closed meanwhile.
CHILDREN = threading.Lock()


def fork_server() -> ForkServerContext:
    """One for each process of the tests; it ends with it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(IMPORTED))
    return context


class Forked:
    """A function in a process of its own, as far as tests need ``subprocess.Popen``."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        self._process = fork_server().Process(target=function, args=arguments, daemon=True)
        with CHILDREN:
            self._process.start()
        self.pid = int(self._process.pid or 0)

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired("a fork", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# ---- the broker --------------------------------------------------------------------------------------


class Command(Forked):
    """``broker`` with these words; what it writes is appended to the files."""

    def __init__(self, words: tuple[str, ...], environment: Mapping[str, str], out: Path, err: Path) -> None:
        # Its input names its directory, by which ``running_for`` finds it.
        (mark := out.with_name("input")).touch()
        super().__init__(_main, words, dict(environment), str(mark), str(out), str(err))


def _main(words: tuple[str, ...], environment: dict[str, str], mark: str, out: str, err: str) -> None:
    gc.freeze()  # what was imported stays for ever
    os.environ.clear()
    os.environ.update(environment)
    to_append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, (path, mode) in enumerate([(mark, os.O_RDONLY), (out, to_append), (err, to_append)]):
        file = os.open(path, mode, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["broker", *words]
    from broker.cli.main import main

    main(prog_name="broker")


# ---- the fake backend ----------------------------------------------------------------------------------


def start_fake(*arguments: str) -> Forked:
    """Returns when it answers."""
    ready, says = fork_server().Pipe(duplex=False)
    with ready, says:
        fake = Forked(_fake, arguments, says)
        says.close()  # or nobody would see that it has died
        with open(ready.fileno(), "rb", closefd=False) as printed:
            assert printed.readline() == b"ready\n", "the fake did not start"
    return fake


def _fake(arguments: tuple[str, ...], says: Connection) -> None:
    gc.freeze()
    os.dup2(says.fileno(), 1)
    says.close()
    sys.argv = ["fake", *arguments]
    from adapters.fake.server import main

    main()
