"""The fake as a place of the contract: it can show every fault."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from adapters.base import Adapter, AttemptRef, Capability
from adapters.errors import OutcomeUnknown
from adapters.fake.adapter import FakeAdapter
from api_spec.jobs import Array, JobSpec, Kind, Replicas, Service
from tests.contract.places import Fault, Place
from tests.fakes import running_fake


class FakePlace(Place):
    name = "fake"
    shows = frozenset({*FakeAdapter.capabilities, Capability.NATIVE_DEPENDENCY, *Fault})
    unique_names = False
    breakages = ("dead", "closes", "HTML", "half of the JSON", "another form", "no object", "not UTF-8")

    ANSWERS: ClassVar[dict[str, bytes]] = {
        "closes": b"",
        "HTML": b"<html><body><h1>502 Bad Gateway</h1></body></html>\n",
        "half of the JSON": b'{"status": 200, "as_of": 1.5, "complete": true, "jobs": [{"id": 1, "mark',
        "another form": b'{"status": 200, "as_of": "soon", "complete": true, "jobs": [7], "id": "one"}\n',
        "no object": b"[]\n",
        "not UTF-8": b"\xff\xfe\x00\n",
    }

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        super().__init__()
        self._folder = folder
        self.fake = stack.enter_context(running_fake(folder))
        self.adapter = self.fake.adapter(native_dependencies=True)

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        environment = {"FAKE_RUN_S": "forever" if runs else "0", "FAKE_EXIT": str(exit_code)}
        if signal is not None:
            environment["FAKE_SIGNAL"] = str(signal)
        return JobSpec(kind=Kind.BATCH, name="job", command=("true",), environment=environment)

    def short_job(self, exit_code: int = 0) -> JobSpec:
        return replace(self.job(), environment={"FAKE_RUN_S": "0.5", "FAKE_EXIT": str(exit_code)})

    def job_that_says(self, text: str) -> JobSpec:
        return replace(self.job(), environment={"FAKE_LOG": text})

    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec:
        exits = {} if failing is None else {"FAKE_TASKS": f'{{"{failing}": 3}}'}
        environment = {"FAKE_RUN_S": "forever" if runs else "0", **exits}
        return replace(self.job(), array=Array(indices=indices), environment=environment)

    def service(self, replicas: int) -> JobSpec:
        served = Service(port=8000, replicas=Replicas(min=replicas, max=8))
        return JobSpec(kind=Kind.INFERENCE, name="service", command=("true",), service=served)

    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        spec = replace(self.job(), environment={"FAKE_START_S": "60", "FAKE_RUN_S": "forever"})
        return self.submit(spec), lambda: self.fake.advance(120)

    def starts(self, marker: str) -> int:
        return self.fake.starts(marker)

    def copies(self, marker: str) -> int:
        return self.fake.accepts(marker)

    def round_trips(self) -> int:
        return sum(self.fake.asked().values())

    @contextmanager
    def broken(self, breakage: str) -> Iterator[Adapter]:
        if breakage == "dead":
            yield FakeAdapter(replace(self.fake.config(), options={"socket": str(self._folder / "dead")}))
            return
        with answering(self.ANSWERS[breakage], str(self.fake.socket) + "-broken") as path:
            yield FakeAdapter(replace(self.fake.config(), options={"socket": path}))

    def calm(self) -> None:
        self.fake.faults.clear()
        super().calm()

    # ---- faults

    def submit_and_lose_the_answer(self, ref: AttemptRef, spec: JobSpec) -> None:
        self.fake.faults.lose_answers(1, of="submit")
        try:
            self.adapter.submit(ref, spec)
        except OutcomeUnknown:
            return
        raise AssertionError("a lost answer was not noticed")

    def lose_next_answer(self) -> None:
        self.fake.faults.lose_answers(1)

    def accept_late(self, seconds: float) -> Callable[[], None]:
        """The next submit; what is returned brings it in at once."""
        self.fake.faults.accept_late(seconds)
        return lambda: self.fake.advance(seconds)

    def list_partially(self) -> None:
        self.fake.faults.partial_listing()

    def reuse_ids(self, ref: AttemptRef) -> None:
        """The backend forgets this job, and gives its id to the next one."""
        self.fake.faults.forget(ref.marker)
        self.fake.faults.reuse_ids(first=(ref.handle or {})["id"])

    def refuse_next(self) -> None:
        self.fake.faults.refuse("ImageError", times=1)

    def be_busy(self) -> None:
        self.fake.faults.busy(1, retry_after_s=7)

    def say_an_unknown_word(self, ref: AttemptRef) -> str:
        self.fake.faults.unknown_word(ref.marker, "WEIRD")
        return "WEIRD"

    def requeue(self, ref: AttemptRef) -> None:
        self.fake.faults.requeue(ref.marker, start_s=60)

    def hang(self) -> Adapter:
        """An adapter that gives up soon; what it asks for is done when the place is calm again."""
        self.fake.faults.freeze()
        return self.fake.adapter(timeout_s=0.1)


class Same(socketserver.BaseRequestHandler):
    """Answers everything with the same bytes."""

    def handle(self) -> None:
        self.request.recv(1 << 20)
        self.request.sendall(self.server.answer)  # type: ignore[attr-defined]


@contextmanager
def answering(answer: bytes, path: str) -> Iterator[str]:
    Path(path).unlink(missing_ok=True)
    with socketserver.UnixStreamServer(path, Same) as server:
        server.answer = answer  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()
