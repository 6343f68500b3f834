"""A place that is called over HTTP: the wire to it loses, holds back and swallows, as real ones do."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from adapters.base import Adapter, AttemptRef
from adapters.errors import BackendError
from api_spec.jobs import JobSpec
from tests.contract.answering import NONSENSE, answering
from tests.contract.places import Fault, Place
from tests.helpers import wait_until
from tests.wire import Wire

WIRE_FAULTS = frozenset({Fault.LOST_SUBMIT, Fault.LATE, Fault.HANGS})


class BehindAWire(Place):
    breakages = ("dead", *NONSENSE)

    def __init__(self, stack: ExitStack, wire: Wire) -> None:
        """The wire is running.  ``adapter_at`` is ready to be called."""
        super().__init__()
        self.wire = wire
        self._stack = stack
        self._impatient = self._opened(wire.url, answer_s=0.5)
        self.adapter = self._opened(wire.url)

    @abstractmethod
    def adapter_at(self, url: str, **changes: Any) -> Any:
        """An adapter that calls there; ``changes`` of its options."""

    def _opened(self, url: str, **changes: Any) -> Any:
        adapter = self.adapter_at(url, **changes)
        self._stack.callback(adapter.close)
        return adapter

    def round_trips(self) -> int:
        return self.wire.count

    @contextmanager
    def broken(self, breakage: str) -> Iterator[Adapter]:
        if breakage == "dead":
            yield self._opened("http://127.0.0.1:1")
            return
        with answering(NONSENSE[breakage]) as url:
            yield self._opened(url, answer_s=5)

    def calm(self) -> None:
        self.wire.calm()
        self.wire.let_it_arrive()
        super().calm()

    # ---- faults

    def submit_and_lose_the_answer(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._submitted.append(ref)
        self.wire.loses_answers_to = "POST"
        self.ends_unknown(ref, spec)

    def accept_late(self, seconds: float) -> Callable[[], None]:
        """The next submit; what is returned brings it in at once."""
        self.wire.holds_back = "POST"
        timer = threading.Timer(seconds, self.wire.let_it_arrive)
        timer.daemon = True
        timer.start()
        return self.wire.let_it_arrive

    def _has_called(self) -> bool:
        """A first call asks for more than those after it."""
        try:
            self._impatient.find("nobody", 0.0)
        except BackendError:
            return False
        return True

    def hang(self) -> Adapter:
        """One that has called before, and soon gives up."""
        wait_until(self._has_called, 30, "it answers somebody who does not wait long")
        self.wire.swallows = True
        return self._impatient
