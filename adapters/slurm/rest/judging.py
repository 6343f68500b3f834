"""What answered a submit, a cancel, a change or a listing, beyond what every answer says.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adapters.slurm.codes import KINDS
from adapters.slurm.records import Listing
from adapters.slurm.rest import rows
from adapters.slurm.rest.answers import ALREADY_DONE, QUEUED, UNKNOWN_JOB, Answer, failure, problems
from adapters.slurm.rest.values import moment, whole
from adapters.slurm.transport import NoAnswer, NotKnown, Refused, SlurmError

# A warning of v0.0.40 and later about what a key held starts so; others are the controller's own remarks.
OF_THE_BODY = "#/"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """A row that cannot be read is no answer: nothing stands in for it."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise NoAnswer(f"slurmrestd's answer about {what} cannot be read: {error!r}") from error


# ---- submit ------------------------------------------------------------------------------------------


def made(answer: Answer) -> int | None:
    """The job that it made, whatever else it says."""
    with reading("a submission"):
        return whole((answer.body or {}).get("job_id") or None) or None


def not_submitted(answer: Answer, *, for_another: bool) -> SlurmError | None:
    """None when a job was made: whether it is the right one, ``dropped`` says."""
    if made(answer) is not None:
        return None
    if error := failure(answer, for_another=for_another):
        return error
    said = "; ".join(one.text for one in problems(answer, "warnings"))
    if said:  # v0.0.40 and later: 200 without an error, for a value of the wrong type
        return Refused(f"slurmrestd did not take the job: {said}")
    return NoAnswer("slurmrestd answers a submission without a job's id")


def dropped(answer: Answer) -> str | None:
    """What the job that was made is not as it was asked for, in slurmrestd's words."""
    wrong = [
        *(one for one in problems(answer) if one.code not in QUEUED),
        *(one for one in problems(answer, "warnings") if one.source.startswith(OF_THE_BODY)),
    ]
    return "; ".join(f"{one.source} {one.text}".strip() for one in wrong) or None


# ---- cancel and change -------------------------------------------------------------------------------


def not_cancelled(answer: Answer, *, for_another: bool) -> SlurmError | None:
    """What has ended is cancelled."""
    error = failure(answer, for_another=for_another)
    if error is not None:
        return None if error.code == ALREADY_DONE else error
    results = [of_one(row) for row in (answer.body or {}).get("status") or ()]
    bad = [(code, text) for code, text in results if code not in (0, ALREADY_DONE)]
    if not bad or (len(bad) < len(results) and all(code == UNKNOWN_JOB for code, _ in bad)):
        return None  # of an array some tasks are known no longer
    return refusal(*bad[0], for_another=for_another)


def says_nothing(answer: Answer) -> bool:
    """v0.0.40 and v0.0.41 cancel without a word, even a job that it does not know."""
    body = answer.body or {}
    return "warnings" in body and "status" not in body


def of_one(row: Mapping[str, Any]) -> tuple[int, str]:
    error = row.get("error") or {}
    return whole(error.get("code")) or 0, str(error.get("message") or error.get("string") or "")


def not_changed(answer: Answer, *, for_another: bool) -> SlurmError | None:
    """v0.0.40 and later answer for each job of an array: ``results``."""
    if error := failure(answer, for_another=for_another):
        return error
    for row in (answer.body or {}).get("results") or ():
        if code := whole(row.get("error_code")) or 0:
            return refusal(code, str(row.get("why") or row.get("error") or ""), for_another=for_another)
    if wrong := dropped(answer):
        return Refused(f"slurmrestd did not take the change: {wrong}")
    return None


def refusal(code: int, text: str, *, for_another: bool) -> SlurmError:
    entry = {"error_number": code, "description": text or f"error {code}"}
    return failure(Answer.of({"errors": [entry]}), for_another=for_another) or KINDS.get(code, NotKnown)(
        text, code
    )


# ---- listing -----------------------------------------------------------------------------------------


def listing(answer: Answer, before: float | None, since: float | None) -> Listing:
    """``before``: the controller's time when the listing was asked for, where it does not say it itself."""
    if answer.status == 304:
        return Listing(as_of=before or since or 0.0, jobs=None)
    with reading("all jobs"):
        body = answer.body or {}
        as_of = before or moment(body.get("last_update")) or since
        if as_of is None:
            raise ValueError("no last_update")
        found = tuple(rows.job(row) for row in body["jobs"])
        unchanged = since is not None and not found and bool(body.get("warnings"))
        return Listing(as_of=as_of, jobs=None if unchanged else found)
