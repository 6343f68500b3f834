"""The fake backend as tests use it: its process, its faults and its ledger.

with running_fake(tmp_path, run_s=5) as fake:
    fake.faults.lose_answers(1)
    adapter = fake.adapter()
    ...
    assert fake.starts(marker) == 1
"""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.fake.adapter import FakeAdapter
from adapters.fake.ledger import read_ledger
from broker.settings import ConfiguredBackend
from tests.forks import Forked, start_fake

ROOT = Path(__file__).resolve().parents[1]
INSTANCE = "test"
FOR_EVER = -1


class Faults:
    """Each method tells the running fake to do something wrong.  ``times`` FOR_EVER: until ``clear``."""

    def __init__(self, control: Callable[..., dict[str, Any]]) -> None:
        self._control = control

    def set(self, kind: str, times: int = 1, value: Any = True, ops: list[str] | None = None) -> None:
        self._control("fault", kind=kind, times=times, value=value, ops=ops)

    def clear(self) -> None:
        self._control("clear")

    def lose_answers(self, times: int = 1, of: str | None = None) -> None:
        """It acts, and the caller never hears of it."""
        self.set("lose", times, ops=[of] if of else None)

    def drop(self, times: int = 1, of: str | None = None) -> None:
        """It does not act, and the caller cannot tell this from a lost answer."""
        self.set("drop", times, ops=[of] if of else None)

    def accept_late(self, seconds: float, times: int = 1) -> None:
        """The caller gets no answer, and the job is accepted only after so long (or ``advance``)."""
        self.set("late", times, seconds)

    def delay(self, seconds: float, times: int = FOR_EVER, of: str | None = None) -> None:
        self.set("delay", times, seconds, [of] if of else None)

    def slow(self, seconds: float, times: int = FOR_EVER, of: str | None = None) -> None:
        """It acts at once, and answers only after so long."""
        self.set("slow", times, seconds, [of] if of else None)

    def refuse(self, reason: str | None = None, times: int = FOR_EVER) -> None:
        """Submits are refused for good; ``reason`` as in api_spec.reasons."""
        self.set("refuse", times, reason)

    def busy(self, times: int = 1, retry_after_s: float = 0.1, of: str | None = None) -> None:
        self.set("busy", times, retry_after_s, [of] if of else None)

    def flap(self) -> None:
        """Every second request is dropped."""
        self.set("flap", FOR_EVER)

    def partial_listing(self, times: int = FOR_EVER) -> None:
        """Half of the rows; of one row, none."""
        self.set("partial", times)

    def garbage(self, text: str, times: int = 1, of: str | None = None) -> None:
        self.set("garbage", times, text, [of] if of else None)

    def truncate(self, times: int = 1, of: str | None = None) -> None:
        self.set("truncate", times, ops=[of] if of else None)

    def freeze(self) -> None:
        """Requests are taken and wait; they act after ``unfreeze``, whoever still listens."""
        self._control("freeze")

    def unfreeze(self) -> None:
        self._control("unfreeze")

    def forget(self, marker: str) -> None:
        """As if it never had been, alive or not."""
        self._control("forget", marker=marker)

    def reuse_ids(self, first: int = 1) -> None:
        """The next job gets the lowest id from there on that no live job has."""
        self._control("reuse_ids", first=first)

    def unknown_word(self, marker: str, word: str | None = "WEIRD") -> None:
        self._control("say", marker=marker, word=word)

    def requeue(self, marker: str, start_s: float = 0.0) -> None:
        self._control("requeue", marker=marker, start_s=start_s)

    def waits_for(self, marker: str, why: str) -> None:
        """The job waits for this native reason until ``start``."""
        self._control("waits_for", marker=marker, why=why)

    def hold_back(self, marker: str) -> None:
        """It goes on waiting for other jobs, whatever becomes of them."""
        self._control("hold_back", marker=marker)

    def start(self, marker: str) -> None:
        self._control("start", marker=marker)

    def finish(
        self, marker: str, exit_code: int | None = 0, signal: int | None = None, word: str | None = None
    ) -> None:
        word = word or ("KILLED" if signal else "BROKE" if exit_code else "DONE")
        code = None if signal else exit_code
        self._control("finish", marker=marker, word=word, exit_code=code, signal=signal)

    def finish_task(self, marker: str, index: int, exit_code: int = 0) -> None:
        self._control("finish_task", marker=marker, index=index, exit_code=exit_code)

    def ready_at_most(self, marker: str, count: int | None) -> None:
        self._control("ready_at_most", marker=marker, count=count)

    def has(self, *shapes: dict[str, Any], features: tuple[str, ...] = (), **limits: float) -> None:
        """The inventory from now on."""
        inventory = {"shapes": list(shapes), "features": list(features), "limits": limits}
        self._control("has", inventory=inventory)


class Fake:
    """One fake: the same ledger and socket over restarts."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.ledger_file = folder / "ledger.jsonl"
        self.folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="fake-"))  # a socket's path has 107 bytes at most
        self.socket = self._short / "socket"
        self.faults = Faults(self.control)
        self._options = options
        self._process: Forked | None = None

    def start(self) -> None:
        arguments = ["--socket", str(self.socket), "--ledger", str(self.ledger_file)]
        for name, value in self._options.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        self._process = start_fake(*arguments)

    def kill(self) -> None:
        """As by SIGKILL; what it had accepted stands in its ledger."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._short)

    def config(self, name: str = "fake", **options: Any) -> ConfiguredBackend:
        options = {"socket": str(self.socket), **options}
        return ConfiguredBackend(
            name=name, type="fake", instance=INSTANCE, data_dir=str(self.folder), options=options
        )

    def adapter(
        self, name: str = "fake", clock: Callable[[], float] = time.time, **options: Any
    ) -> FakeAdapter:
        return FakeAdapter(self.config(name, **options), clock)

    def control(self, name: str, **fields: Any) -> dict[str, Any]:
        """Beside all faults."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(10)
            connection.connect(str(self.socket))
            connection.sendall(json.dumps({"op": "control", "name": name, **fields}).encode() + b"\n")
            with connection.makefile("rb") as reader:
                answer: dict[str, Any] = json.loads(reader.readline())
        assert answer.pop("status") == 200, answer
        return answer

    def advance(self, seconds: float) -> None:
        """What was due within so many seconds is due now."""
        self.control("advance", seconds=seconds)

    def asked(self) -> dict[str, int]:
        """How many requests of each kind it has answered."""
        return self.control("asked")

    def reset(self) -> None:
        """No jobs, no faults."""
        self.faults.clear()
        self.control("reset")

    # ---- the ledger, read from the file, whether or not the process lives

    def ledger(self) -> list[dict[str, Any]]:
        return list(read_ledger(self.ledger_file))

    def entries(self, event: str, marker: str) -> list[dict[str, Any]]:
        return [entry for entry in self.ledger() if (entry["event"], entry.get("marker")) == (event, marker)]

    def starts(self, marker: str) -> int:
        """How many processes it has started under this name, each restart by a requeue included."""
        return len(self.entries("start", marker))

    def accepts(self, marker: str) -> int:
        """How many jobs it has taken under this name."""
        return len(self.entries("accept", marker))


@contextmanager
def running_fake(folder: Path, **options: Any) -> Iterator[Fake]:
    """Options are those of the server: start_s, run_s, slots, cap (submits a second), max_live."""
    fake = Fake(folder, **options)
    try:
        fake.start()
        yield fake
    finally:
        fake.close()
