"""Dependencies natively: a job that waits in Slurm's queue for another one there.

Slurm knows a predecessor by its id alone.  So what is behind each id is looked at before the job is sent, and
once more when Slurm has it: an id that was the predecessor's before and after was its when Slurm read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapters.base import AttemptRef, Predecessor
from adapters.errors import CannotWait, OutcomeUnknown
from adapters.slurm import observations
from adapters.slurm.attempts import Attempts
from adapters.slurm.past import id_of
from adapters.slurm.records import Submission
from adapters.slurm.transport import Refused, SlurmError, Transport
from api_spec.jobs import When

PROBLEM = 2038
"""ESLURM_DEPENDENCY: what it names is not there, says 24.11; 22.05 takes the job and starts it at once."""

# Not ``after`` and ``afternotok``: Slurm takes a predecessor that was cancelled for one that has started, and
# for one that has failed, which it has not for the broker.
WORDS: Mapping[When, str] = {When.SUCCEEDED: "afterok", When.ENDED: "afterany"}


def dependency(after: Sequence[Predecessor]) -> str | None:
    """As sbatch has it.  Raises ``CannotWait`` for one without an id, or for something else."""
    return ",".join(f"{_word(one.when)}:{_id(one.ref)}" for one in after) or None


def _word(when: When) -> str:
    if when not in WORDS:
        raise CannotWait(f"Slurm cannot wait for a job to have {when} as the broker means it")
    return WORDS[when]


def _id(ref: AttemptRef) -> int:
    found = id_of(ref)
    if found is None:
        raise CannotWait(f"{ref.marker} has no id to be waited for")
    return found


def expect_live(after: Sequence[Predecessor], attempts: Attempts, cluster: str | None) -> None:
    """Raises ``CannotWait`` unless each is at this cluster, under its own id, and not over."""
    for one in after:
        rows = attempts.under_its_id(one.ref)
        if observations.elsewhere(one.ref, cluster) or not rows or any(map(observations.is_over, rows)):
            raise CannotWait(f"{one.ref.marker} is over or gone, and cannot be waited for")


def was_taken_away(after: Sequence[Predecessor], attempts: Attempts) -> bool:
    """Whether an id was not its predecessor's any more; what does not answer now was there a moment ago."""
    try:
        return not all(attempts.under_its_id(one.ref) for one in after)
    except SlurmError:
        return False


def submit(
    job: Submission, after: Sequence[Predecessor], transport: Transport, attempts: Attempts, name: str
) -> int:
    """Its id.  One that waits for what has just been taken away is withdrawn before anybody hears of it, with
    ``CannotWait``."""
    try:
        job_id = transport.submit(job)
    except Refused as error:
        if after and error.code == PROBLEM:
            raise CannotWait(f"{name} cannot wait for another job: {error}") from error
        raise
    if was_taken_away(after, attempts):
        try:
            transport.cancel(str(job_id), job.user)
        except SlurmError as error:
            raise OutcomeUnknown(f"{name} has a job that waits for a job that is gone") from error
        raise CannotWait(f"{name} has forgotten a job that this one was to wait for")
    return job_id
