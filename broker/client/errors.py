"""What can go wrong between a program and the broker.  Knows no HTTP library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """The base of all; the message is fit for the user."""


class NotConfigured(ClientError):
    """Neither the environment nor a file says where the broker is, or the file cannot be used."""


class NotReachable(ClientError):
    """No broker answered.  Unless ``never_sent``, it is not known whether a call was acted upon."""

    def __init__(self, message: str, *, never_sent: bool = False, timed_out: bool = False) -> None:
        super().__init__(message)
        self.never_sent = never_sent
        self.timed_out = timed_out


class WaitTimeout(ClientError):
    """The time for ``wait`` is over; ``jobs`` holds what was last seen of each."""

    def __init__(self, message: str, jobs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message)
        self.jobs = tuple(jobs)


class Refused(ClientError):
    """The broker answered with a problem document (RFC 9457), which is in ``problem``, whole."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP status {status}"))
        self.status = status
        self.problem = problem

    @property
    def code(self) -> str:
        """Stable, for programs: ``not_found``, ``nothing_fits`` ..."""
        return str(self.problem.get("code", f"http_{self.status}"))

    @property
    def faults(self) -> Sequence[Mapping[str, str]]:
        """``pointer`` into what was sent, and ``message``."""
        return tuple(self.problem.get("errors", ()))

    @property
    def decision(self) -> Mapping[str, Any] | None:
        """Why no backend can run the job, where that is the reason."""
        return self.problem.get("decision")


def no_broker(url: str) -> NotReachable:
    hint = "start one with `broker dev`, or set BROKER_URL"
    return NotReachable(f"no broker answers at {url}: {hint}", never_sent=True)


def silent(url: str, seconds: float) -> NotReachable:
    return NotReachable(f"the broker at {url} did not answer within {seconds:g} s", timed_out=True)


def broken(url: str, error: Exception) -> NotReachable:
    return NotReachable(f"the connection to the broker at {url} broke: {error}")
