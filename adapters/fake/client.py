"""The fake's socket: one request, one answer.  The only module of this adapter that opens connections.

Nothing but ``BackendError`` leaves it.  What was not sent was not done (``Busy``); what was sent and not
answered was perhaps done, which matters for writes alone (``OutcomeUnknown``).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adapters.errors import BackendError, Busy, OutcomeUnknown, Rejected
from api_spec.reasons import Reason

Answer = dict[str, Any]


class NoAnswer(Exception):
    """Sent, and nothing that can be read came back.  Stays in this module."""


class Client:
    def __init__(self, path: str, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s

    def ask(self, op: str, **fields: Any) -> Answer:
        """A read: without an answer nothing is lost, so it is ``Busy``."""
        try:
            return self._exchange(op, fields)
        except NoAnswer as error:
            raise Busy(f"the fake did not answer: {error}", reason=Reason.BACKEND_DOWN) from error

    def tell(self, op: str, **fields: Any) -> Answer | None:
        """A write; None: there is no such job."""
        try:
            answer = self._exchange(op, fields)
        except NoAnswer as error:
            raise OutcomeUnknown(f"the fake did not answer: {error}") from error
        return None if answer["status"] == 404 else answer

    def _exchange(self, op: str, fields: Answer) -> Answer:
        with self._connection() as connection:
            try:
                connection.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
                with connection.makefile("rb") as reader:
                    line = reader.readline()
            except OSError as error:
                raise NoAnswer(str(error)) from error
        return checked(line)

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(self._path)
            except OSError as error:
                raise Busy(f"the fake cannot be reached: {error}", reason=Reason.BACKEND_DOWN) from error
            yield connection


def checked(line: bytes) -> Answer:
    """The answer, if it is one.  A 404 is an answer; other refusals become our errors."""
    try:
        answer = dict(json.loads(line))
        status, message = answer["status"], str(answer.get("message", ""))
        retry_after_s = float(answer.get("retry_after_s") or 1.0)
        reason = Reason(answer.get("reason") or Reason.REJECTED)
    except (ValueError, TypeError, KeyError) as error:
        raise NoAnswer(f"{len(line)} bytes that are no answer") from error
    if status == 429:
        raise Busy(message, retry_after_s=retry_after_s)
    if status == 422:
        raise Rejected(message, reason)
    if status not in (200, 404):
        raise NoAnswer(f"status {status}")
    return answer


@contextmanager
def readable(error: type[BackendError] = Busy) -> Iterator[None]:
    """JSON that has not the form it should have is no answer either."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
        raise error("the fake's answer cannot be read") from cause
