"""What one row tells of its job beside the state: why it waits, and how it ended.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.slurm import words
from adapters.slurm.records import Job
from adapters.slurm.script import NOT_STARTED
from adapters.slurm.words import Word
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState

A = AttemptState

NO_OUTPUT_FILE = 53  # slurmd's "signal" when it cannot open the output files: nothing was started
OUT_OF_MEMORY = 125  # slurmstepd's "signal" when a cgroup has killed a process; there is none of that number
NEVER = "DependencyNeverSatisfied"
DEPENDENCY = ("Dependency", NEVER)
NEARLY = 0.98  # of its memory: the sampling misses the last moment before the kernel kills


@dataclass(frozen=True, kw_only=True)
class Told:
    outcome: JobState | None = None  # of an array; of one row its word says it
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, row: Job, word: Word | None) -> Told:
        if word is None:
            return cls()
        if word.state is A.QUEUED:
            return cls(reason=word.reason or words.pending_reason(row.reason), message=_waits(row))
        if word.state is A.RUNNING:
            return cls(reason=word.reason)
        if word.outcome is JobState.COMPLETED:
            return cls(reason=word.reason, exit_code=0)
        if word.outcome is JobState.CANCELLED:
            return _cancelled(row)
        return _failed(row, word)


def _waits(row: Job) -> str | None:
    if row.message:
        return row.message
    if row.restarts and row.reason == "BeginTime":
        return "Slurm has requeued it and lets it wait a while before it starts again"
    return None


def _cancelled(row: Job) -> Told:
    """By somebody, or by Slurm itself, because what it waited for can no longer happen."""
    if _was_given_up(row):
        message = "Slurm cancelled it: a dependency can never be met"
        return Told(reason=Reason.DEPENDENCY_FAILED, message=message)
    who = f"cancelled at Slurm by {row.cancelled_by}" if row.cancelled_by else None
    return Told(reason=Reason.CANCELLED, message=who)


def _was_given_up(row: Job) -> bool:
    """The database keeps of the reason as much as the job waited for, or nothing, but nobody's name: whom it
    names has cancelled a job that could still have started."""
    if row.accounted:
        return row.reason in (None, "None", *DEPENDENCY) and row.cancelled_by is None and not row.nodes
    return row.reason == NEVER and not row.nodes


def _failed(row: Job, word: Word) -> Told:
    if word.reason is not None:  # the state says more than the code, which is 0 or the signal that ended it
        signal = row.signal if row.signal not in (0, OUT_OF_MEMORY) else None
        return Told(reason=word.reason, message=_failure(row, word.reason), signal=signal)
    if row.signal == NO_OUTPUT_FILE:
        message = (
            "Slurm could not open its output files: does the directory exist, and may the user write to it?"
        )
        return Told(reason=Reason.LAUNCH_FAILED, message=message)
    if row.exit_code == NOT_STARTED:
        message = "the node could not prepare it, so that it did not start; its stderr says why"
        return Told(reason=Reason.LAUNCH_FAILED, message=message, exit_code=row.exit_code)
    if row.signal:
        return _signalled(row, row.signal)
    if row.exit_code:
        return Told(reason=Reason.NON_ZERO_EXIT, exit_code=row.exit_code)
    if row.exit_code is None and row.accounted and row.reason not in words.ENDINGS:
        return Told(reason=Reason.UNKNOWN, message="Slurm's accounts do not tell with what it failed")
    reason = words.ENDINGS.get(row.reason or "", Reason.LAUNCH_FAILED)
    return Told(reason=reason, message=f"Slurm says {row.reason or 'nothing'} and no exit code")


def _signalled(row: Job, signal: int) -> Told:
    """Without cgroups Slurm kills what takes too much memory and calls that FAILED by signal 9."""
    limit, peak = row.tres.get("mem"), row.peak_memory_mib
    if signal == 9 and limit and peak and peak >= NEARLY * limit:
        message = f"it was killed when it used {peak:.0f} MiB of its {limit:.0f} MiB"
        return Told(reason=Reason.OUT_OF_MEMORY, message=message, signal=signal)
    return Told(reason=Reason.SIGNALLED, signal=signal)


def _failure(row: Job, reason: Reason) -> str | None:
    if reason is Reason.NODE_LOST:
        return _lost_node(row)
    if reason is Reason.OUT_OF_MEMORY:
        limit = row.tres.get("mem") if len(row.nodes) == 1 else None  # it counts all nodes together
        more = f"its {limit:.0f} MiB" if limit else "it had asked for"
        return f"the kernel killed a process of it, which took more memory than {more}"
    if reason is Reason.LOST:
        return "Slurm revoked it: another cluster of the federation has it"
    return None


def _lost_node(row: Job) -> str | None:
    """v0.0.38 does not say which of them."""
    node = row.failed_node or (row.nodes[0] if len(row.nodes) == 1 else None)
    if node is not None:
        return f"the node {node} failed"
    return f"one of the nodes {', '.join(row.nodes)} failed" if row.nodes else None
