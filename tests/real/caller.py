"""A client that keeps calling a service and writes down what it hears.

with Caller(host, port) as caller:
    ...
assert not caller.failures
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import Self

PAUSE_S = 0.01
ANSWERS_WITHIN_S = 3.0


class Caller:
    """Each call has a connection of its own, so that each is sent to one of the replicas anew."""

    def __init__(self, host: str, port: int, path: str = "/") -> None:
        self._place = host, port, path
        self.answers: list[str] = []
        self.failures: list[str] = []
        self.unanswered: list[
            str
        ] = []  # before the first answer, while proxies have not heard of the service
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._call_on, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def told(self) -> Counter[str]:
        """How often each answer came."""
        return Counter(self.answers)

    def since(self, count: int) -> list[str]:
        """All answers but the first ``count``."""
        return self.answers[count:]

    def _call_on(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                self.answers.append(self._call())
            except (OSError, HTTPException) as error:
                failed = self.failures if self.answers else self.unanswered
                failed.append(f"after {len(self.answers)} answers: {error!r}")

    def _call(self) -> str:
        host, port, path = self._place
        with closing(HTTPConnection(host, port, timeout=ANSWERS_WITHIN_S)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            said = answer.read().decode().strip()
            if answer.status != 200:
                raise HTTPException(f"{answer.status} {said[:100]}")
            return said
