"""What slurmrestd answered, and which error it means.  Pure.

HTTP alone says little: an update that failed is 200, an unknown job is 500 (v0.0.38) or 200 (a cancel of
v0.0.40 and later).  The numbers are Slurm's own (slurm_errno.h).

    not reached        no byte was sent, or slurmrestd found no controller to send it to
    no answer          sent, and nobody knows
    everything else    slurmctld read it and said so: it did not act
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adapters.slurm.codes import ACCESS_DENIED, KINDS, said_no
from adapters.slurm.transport import NoAnswer, NotAuthenticated, Refused, SlurmError, TryLater

Body = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: Body | None = field(default=None, repr=False)  # holds the job's environment


@dataclass(frozen=True, kw_only=True)
class Answer:  # a listing is large, so it is parsed once
    status: int
    content: bytes = field(default=b"", repr=False)
    took_s: float = 0.0

    @cached_property
    def body(self) -> dict[str, Any] | None:
        """None where it is no JSON object: slurmrestd's own refusals (400, 401, 404, 405) are plain text."""
        try:
            body = json.loads(self.content)
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    @classmethod
    def of(cls, body: Body, status: int = 200) -> Answer:
        return cls(status=status, content=json.dumps(body).encode())

    def text(self) -> str:
        return self.content[:200].decode(errors="replace").strip()


@dataclass(frozen=True)
class Problem:
    """One entry of ``errors`` or ``warnings``."""

    text: str
    code: int | None = None
    source: str = ""


UNSPECIFIED = -1
ZERO_BYTES = 5005  # the controller closed the connection: also how 22.05 refuses to speak for another user
UNKNOWN_JOB = 2017
ALREADY_DONE = 2021
UNKNOWN_USER = 2166
HELD = 2042  # a job that was submitted held says so as if it were an error
NOTHING_FOUND = 9003

# Beside a job's id: the controller has queued the job, and says why it does not start it at once (the list
# nonfatal_errors of slurmrestd; v0.0.38 puts them among the errors).
QUEUED = frozenset(
    {
        2015,  # the partition is not like that now
        2016,  # all nodes are busy
        2040,  # the licences are in use
        2042,  # it is held
        2050,  # a limit of the account or the QOS is reached
        2055,  # the reservation is in use
        2056,  # the reservation cannot be used now
        2059,  # MPI's ports are in use
        2068,  # a node that it asks for is down, drained or reserved
        2074,  # the threshold of the QOS is reached
        2100,  # the burst buffer has to be allocated
        2101,  # the partition is down
    }
)

# fmt: off
STATUSES: dict[int, type[SlurmError]] = {
    401: NotAuthenticated,
    403: NotAuthenticated,
    429: TryLater,
    503: TryLater,
    511: NotAuthenticated,
}
# fmt: on


def problems(answer: Answer, key: str = "errors") -> list[Problem]:
    """What the body complains of; entries that say no more than "held" or "nothing found" are left out."""
    entries = (answer.body or {}).get(key) or []
    found = [problem(entry) for entry in entries if isinstance(entry, dict)]
    return [one for one in found if one.code not in (HELD, NOTHING_FOUND) and not harmless(one)]


def problem(entry: Body) -> Problem:
    code = next((entry[key] for key in ("error_number", "error_code", "errno") if entry.get(key)), None)
    parts = (str(entry[key]).strip() for key in ("description", "error") if entry.get(key))
    return Problem(": ".join(dict.fromkeys(parts)), code, str(entry.get("source") or ""))


def harmless(one: Problem) -> bool:
    # v0.0.38 looks at a pointer where it means the first result, so that every change of an array "failed".
    return one.code is None and one.text.startswith("job array update from")


def worst(found: Sequence[Problem]) -> Problem | None:
    """The one that says most: 22.05 puts "Failure during parsing" after the key that it could not parse."""
    coded = [one for one in found if one.code is not None and one.code not in (UNSPECIFIED, 9001)]
    return next(iter([*coded, *found]), None)


def failure(answer: Answer, *, for_another: bool = False) -> SlurmError | None:
    """The error that the answer is; None for one that may be read on.

    ``for_another``: the token is one user's and the call in the name of another.
    """
    found = problems(answer)
    if answer.status == 304 or (answer.status == 200 and not found):
        return None
    if answer.body is None:
        return plain_failure(answer)
    first = worst(found) or Problem(f"HTTP {answer.status}")
    text = " ".join(dict.fromkeys(one.text for one in (first, *found)))
    kind = KINDS.get(first.code or 0) or STATUSES.get(answer.status) or by_range(first, answer, for_another)
    return kind(text, first.code)


def by_range(first: Problem, answer: Answer, for_another: bool) -> type[SlurmError]:
    if first.code == ACCESS_DENIED and for_another:
        return NotAuthenticated
    if answer.status in (400, 404, 405, 422):
        return Refused
    if said_no(first.code):
        return Refused
    return NoAnswer


def plain_failure(answer: Answer) -> SlurmError:
    said = f"slurmrestd answers {answer.status} {answer.text()}".strip()
    if kind := STATUSES.get(answer.status):
        return kind(said)
    if 400 <= answer.status < 500:
        return Refused(said)
    return NoAnswer(said)


def says_little(error: SlurmError) -> bool:
    """v0.0.38 says the same for a token that is wrong, a controller that is down and one that is frozen."""
    return error.code in (UNSPECIFIED, ZERO_BYTES)
