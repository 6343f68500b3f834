"""What an adapter may offer beside the contract: a protocol each, mostly with a ``Capability`` too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from adapters.base import AttemptRef, Finding, LogPage, LogQuery, Observations
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.usage import RunUsage


@runtime_checkable
class ReadsLogs(Protocol):
    def logs(self, ref: AttemptRef, query: LogQuery) -> LogPage:
        """Raises ``BackendError`` with the reason where the log cannot be reached; never an empty page."""


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """The end of what one process wrote: whole lines, in a form of the adapter's own."""

    source: str  # its name at the backend
    index: int | None = None  # its place among those of the attempt
    began_at: float = 0.0
    data: bytes = b""
    cut: bool = False  # it had written more before


@dataclass(frozen=True, kw_only=True)
class LogEnds:
    ends: tuple[LogEnd, ...] = ()
    missed: str | None = None  # what could not be read, and why
    again: bool = False  # some are about to go and may still write: to be asked for once more


@runtime_checkable
class LosesLogs(Protocol):
    """Its logs go with what wrote them, so that the broker keeps their ends."""

    def log_ends(self, ref: AttemptRef, limit_bytes: int, within_s: float) -> LogEnds:
        """The most important first; the broker keeps so many bytes of them all together."""

    def logs_or_kept(self, ref: AttemptRef, query: LogQuery, kept: Callable[[], LogEnds | None]) -> LogPage:
        """As ``logs``, and of what is gone there the page is one of what was kept, with the same cursors."""


@runtime_checkable
class ChecksFiles(Protocol):
    def check_files(self) -> Sequence[Finding]:
        """What of ``check`` depends on the log files that this process sees: a log reader is asked for it."""


@runtime_checkable
class Updates(Protocol):
    def update(self, ref: AttemptRef, spec: JobSpec) -> None:
        """Make ``ref.replicas`` and ``spec`` (of ``ref.revision``) what is wanted; may be repeated."""


@runtime_checkable
class Completes(Protocol):
    def complete(self, ref: AttemptRef) -> None:
        """Make what an interrupted submission has left, for which a pass knows too little of the job."""


@runtime_checkable
class Adjusts(Protocol):
    def adjust(self, ref: AttemptRef, spec: JobSpec) -> None:
        """Make time limit and priority of ``spec`` hold for work that waits or runs; may be repeated."""


@runtime_checkable
class Holds(Protocol):
    def hold(self, ref: AttemptRef) -> None: ...

    def release(self, ref: AttemptRef) -> None: ...


@runtime_checkable
class CancelsTasks(Protocol):
    def cancel_tasks(self, ref: AttemptRef, indices: Collection[int]) -> Collection[int]:
        """Ask for the end of these tasks of an array, and of no other; of an ended or absent one: nothing.

        The caller asks again until it sees them ended, so one call may do a part of it.  The answer: those
        of which the backend has nothing left, and will never say how they ended.
        """


@runtime_checkable
class Explains(Protocol):
    def explain_pending(self, ref: AttemptRef) -> Sequence[Refusal]:
        """Why it has not started, best reason first, with the numbers as evidence."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What the runs of one user in one account were allocated, in units times seconds."""

    account: str
    user: str
    runs: int
    cpu_s: float
    gpu_s: float
    memory_mib_s: float
    energy_j: float  # of runs that ended; 0 where nothing measures it


@runtime_checkable
class ReportsUsage(Protocol):
    def usage(self, since: float, until: float) -> Sequence[Usage]:
        """Of everybody at the backend, not of the broker's jobs alone; ``until``: now or earlier.  Raises
        ``Busy`` where nobody keeps accounts."""


@runtime_checkable
class MeasuresRuns(Protocol):
    """It gives a job what that asks for, and some know what it uses of it while it runs."""

    def measure(self, refs: Collection[AttemptRef]) -> Mapping[str, RunUsage]:
        """What they use now, by marker; those of which nobody knows are left out."""


@runtime_checkable
class AccountsRuns(Protocol):
    """Not with ``LosesLogs``: what follows the end of an attempt is one thing for each backend."""

    def accounted(self, refs: Collection[AttemptRef]) -> Mapping[str, RunUsage]:
        """Of ended attempts, by marker; one that is not in the accounts yet is left out.  One round trip."""


@runtime_checkable
class PlacesOutputs(Protocol):
    def outputs(self, spec: JobSpec, ref: AttemptRef) -> Mapping[str, str]:
        """The URI of each output of a completed attempt, where its observation cannot know.  Pure."""


@runtime_checkable
class StaysBehind(Protocol):
    def leave_when_idle(self) -> None:
        """This machine's only broker stops: what serves this backend here, and outlives the broker, may end
        as soon as no attempt is live.  Asks, does not wait, never raises; a later submit brings it back."""


class Watch(Protocol):
    """What a backend tells by itself, from when it was opened until ``close``.  Raises nothing."""

    @property
    def fault(self) -> str | None:
        """Why changes may go unnoticed for the moment; ``None``: they do not."""

    def changed(self, wait_s: float) -> Collection[str]:
        """Markers of what may have changed, each once; empty after ``wait_s``.  At first all that there are,
        and all of them before ``fault`` is ``None`` for the first time."""

    def again(self, markers: Collection[str], in_s: float) -> None:
        """Let ``changed`` tell these once more, then."""

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        """As they are now, as a pass would show them.  Never complete: only a pass shows what is absent.
        One that is left out will be told again, or is left to a pass."""

    def close(self) -> None: ...


@runtime_checkable
class Watches(Protocol):
    """With ``Capability.WATCH`` only: some backends of a type may not."""

    def watch(self) -> Watch: ...
