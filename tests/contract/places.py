"""One harness for each adapter: how to make it, what to run on it, and which faults it can be made to show.

``shows`` holds capabilities and faults.  A test names what it needs with ``@needs`` and is run for the places
that show it; so nothing is skipped, and a place that shows nothing more is still held to the rest.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

from adapters.base import Adapter, AttemptRef, Capability, Observation, Observations
from adapters.errors import OutcomeUnknown
from api_spec.jobs import Array, JobSpec, Kind, Replicas, Resources, Service
from api_spec.states import AttemptState
from tests.fakes import INSTANCE
from tests.helpers import wait_until

T = TypeVar("T", bound=Callable[..., Any])


class Fault(StrEnum):
    """What a place can be made to do, and what its hook is called."""

    LOST_SUBMIT = "submit_and_lose_the_answer"
    LOST_WRITE = "lose_next_answer"
    LATE = "accept_late"
    PARTIAL = "list_partially"
    REUSED_ID = "reuse_ids"
    REFUSES = "refuse_next"
    BUSY = "be_busy"
    UNKNOWN_WORD = "say_an_unknown_word"
    REQUEUE = "requeue"
    HANGS = "hang"


def needs(*what: Fault | Capability) -> Callable[[T], T]:
    def mark(test: T) -> T:
        test.needs = frozenset(what)  # type: ignore[attr-defined]
        return test

    return mark


def new_ref(spec: JobSpec, **changes: Any) -> AttemptRef:
    """The first attempt of a new job."""
    job_id = f"01{uuid.uuid4().hex[:24]}"
    ref = AttemptRef(
        marker=f"wb-{INSTANCE}-{job_id}-1",
        submitted_at=time.time(),
        job_id=job_id,
        project="vision",
        owner="ana",
        kind=spec.kind.value,
        name=spec.name,
        digest="d" * 64,
        task_indices=spec.array.task_indices if spec.array else (),
        replicas=spec.service.replicas.min if spec.service else None,
    )
    return replace(ref, **changes)


def broken_spec(adapter: Adapter) -> JobSpec:
    """Something that it takes while it is well; a service where it has them, since that can be updated."""
    image = "registry.example/job:1" if adapter.type == "kubernetes" else None
    if Capability.SERVICES not in adapter.capabilities:
        return JobSpec(kind=Kind.BATCH, name="job", image=image, command=("true",), time_limit_s=60)
    served = Service(port=1, replicas=Replicas(min=1, max=2))
    return JobSpec(kind=Kind.INFERENCE, name="job", image=image, command=("true",), service=served)


class Place(ABC):
    """A running backend and its adapter, shared by the tests of a session: each uses markers of its own."""

    name: ClassVar[str]
    shows: ClassVar[frozenset[str]]
    unique_names: ClassVar[bool]  # a second submit of one marker makes no second job
    breakages: ClassVar[tuple[str, ...]]  # what ``broken`` can make
    trips_per_pass: ClassVar[int] = 1  # at most, over however many attempts
    adapter: Adapter

    @abstractmethod
    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        """It ends at once, or ``runs`` until it is cancelled, then with the code if there is one."""

    @abstractmethod
    def short_job(self, exit_code: int = 0) -> JobSpec:
        """It runs long enough for another one to be sent meanwhile."""

    @abstractmethod
    def job_that_says(self, text: str) -> JobSpec: ...

    @abstractmethod
    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec: ...

    @abstractmethod
    def service(self, replicas: int) -> JobSpec: ...

    @abstractmethod
    def submit_waiting(self) -> tuple[AttemptRef, Callable[[], None]]:
        """A job that cannot start yet, and what lets it start."""

    @abstractmethod
    def starts(self, marker: str) -> int:
        """From the backend's own ledger: how many processes were started under this name."""

    @abstractmethod
    def copies(self, marker: str) -> int:
        """From the backend's own ledger: how many jobs were accepted under this name."""

    @abstractmethod
    def round_trips(self) -> int:
        """How many there were so far."""

    @abstractmethod
    def broken(self, breakage: str) -> Any:
        """A context manager: an adapter whose backend is broken in this way."""

    def settle(self) -> None:  # noqa: B027 - most have nothing on its way
        """Nothing is on its way within the backend: what it does not have now is absent."""

    def __init__(self) -> None:
        self._submitted: list[AttemptRef] = []

    def calm(self) -> None:
        """No faults any more, and nothing runs that a test has left."""
        while self._submitted:
            self.adapter.cancel(self._submitted.pop())

    def submit(self, spec: JobSpec, **changes: Any) -> AttemptRef:
        ref = new_ref(spec, **changes)
        self._submitted.append(ref)
        return replace(ref, handle=self.adapter.submit(ref, spec))

    def ends_unknown(self, ref: AttemptRef, spec: JobSpec) -> None:
        try:
            self.adapter.submit(ref, spec)
        except OutcomeUnknown:
            return
        raise AssertionError("a lost answer was not noticed")

    def look(self, ref: AttemptRef) -> Observation:
        """What one complete pass says of one attempt."""
        pass_: Observations = self.adapter.observe([ref])
        assert pass_.complete
        return pass_.found[ref.marker]

    def until(self, ref: AttemptRef, state: AttemptState) -> Observation:
        """Its observation, once it is there."""
        seen: list[Observation] = []

        def arrived() -> bool:
            seen.append(self.look(ref))
            return seen[-1].state is state

        wait_until(arrived, why=f"{ref.marker} is {state}")
        return seen[-1]


class RunsCommands(Place):
    """A place where a job is a command of this machine."""

    resources: ClassVar[Resources] = Resources()

    def command(self, *words: str, **changes: Any) -> JobSpec:
        members = {"kind": Kind.BATCH, "name": "job", "resources": self.resources, **changes}
        return JobSpec(command=words, **members)

    def job(self, *, runs: bool = False, exit_code: int = 0, signal: int | None = None) -> JobSpec:
        if runs and exit_code:
            return self.command("sh", "-c", f"trap 'exit {exit_code}' TERM; while :; do sleep 0.1; done")
        if runs:
            return self.command("sleep", "1000")
        if signal is not None:
            return self.command("sh", "-c", f"kill -{signal} $$")
        return self.command("sh", "-c", f"exit {exit_code}")

    def short_job(self, exit_code: int = 0) -> JobSpec:
        return self.command("sh", "-c", f"sleep 3; exit {exit_code}")

    def job_that_says(self, text: str) -> JobSpec:
        return self.command("printf", "%s", text)

    def array(self, indices: str, failing: int | None = None, runs: bool = False) -> JobSpec:
        text = "sleep 1000" if runs else f'test "$BROKER_TASK_INDEX" != "{failing}" || exit 3'
        return self.command("sh", "-c", text, array=Array(indices=indices))
