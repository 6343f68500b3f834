"""A call and its answer, with retries; how the bytes travel is a wire's business.

Two wires: ``transport`` (httpx2: pooled, proxies, streams), which programs get, and ``plain`` (the standard
library), with which a command that makes one call starts in a third of the time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from json import loads
from typing import Any, Protocol

from broker import __version__
from broker.client.contexts import Connection
from broker.client.errors import NotReachable, Refused

TRIES = 3
LONGEST_WAIT_S = 30.0  # a broker that asks for more has to be asked again by the user
BUSY = frozenset({429, 503})  # the answers which say that nothing was done


@dataclass(frozen=True, kw_only=True)
class Call:
    """``repeatable``: a second one does no harm, so it may follow an answer that was lost."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False


@dataclass(frozen=True)
class Answer:
    """``headers`` are found in any case of letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """None for what is not JSON, or for nothing."""
        is_json = self.headers.get("Content-Type", "").split(";")[0].endswith("json")
        try:
            return loads(self.content) if is_json and self.content else None
        except ValueError:
            return None


class Wire(Protocol):
    """Raises ``NotReachable`` and nothing of the library that it stands on."""

    def send(self, call: Call) -> Answer: ...

    def events(self, call: Call) -> Iterator[tuple[str, str, str]]:
        """Event, id and data of one stream of server-sent events, until the broker closes it."""

    def close(self) -> None: ...


def common_headers(known: Connection) -> dict[str, str]:
    headers = {"User-Agent": f"workload-broker/{__version__}", "Accept": "application/json"}
    if known.token:
        headers["Authorization"] = f"Bearer {known.token}"
    if known.owner:
        headers["Broker-Owner"] = known.owner
    return headers


def send(wire: Wire, call: Call, sleep: Callable[[float], None] = time.sleep) -> Answer:
    """Raises ``Refused`` with the problem document, or ``NotReachable``."""
    for attempt in range(1, TRIES):
        try:
            answer = wire.send(call)
        except NotReachable as error:
            if not may_repeat(call, error):
                raise
            pause = backoff(attempt)
        else:
            wanted = wanted_pause(answer)
            if wanted is None or not call.repeatable or wanted > LONGEST_WAIT_S:
                return checked(answer)
            pause = wanted or backoff(attempt)
        sleep(pause)
    return checked(wire.send(call))


def may_repeat(call: Call, error: NotReachable) -> bool:
    """What never got through may always be sent again; a lost answer only where that does no harm, and not
    after a silence, which would only be doubled."""
    return error.never_sent or (call.repeatable and not error.timed_out)


def wanted_pause(answer: Answer) -> float | None:
    """How long to wait before the next try, 0.0 for "soon"; None: this answer stands."""
    if answer.status not in BUSY:
        return None
    given = answer.headers.get("Retry-After", "")
    return float(given) if given.isdecimal() else 0.0


def backoff(attempt: int) -> float:
    """0.2, 0.4 s with some spread, so that many clients do not come back together."""
    spread = random.uniform(0.8, 1.2)  # noqa: S311 (no secret)
    return 0.1 * float(2**attempt) * spread


def checked(answer: Answer) -> Answer:
    if answer.status >= 400:
        problem = answer.json
        if not isinstance(problem, dict):
            problem = {"title": f"the broker answered with HTTP status {answer.status}"}
        raise Refused(answer.status, problem)
    return answer
