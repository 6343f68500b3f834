"""The backend ``local`` as the broker sees it.  Each call reads or writes the ledger, and wakes the agent."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import ClassVar

from adapters import log_files
from adapters.base import (
    Absent,
    AttemptRef,
    BackendConfig,
    Capability,
    Finding,
    Found,
    Handle,
    Inventory,
    Load,
    LogPage,
    LogQuery,
    Observation,
    Observations,
    Ours,
    Unsettled,
)
from adapters.errors import BackendError, BadLogQuery, Busy, LogGone, OutcomeUnknown, Rejected
from adapters.local import (
    attempts,
    checks,
    codec,
    crash,
    daemon,
    explain,
    ledger,
    machine,
    options,
    render,
    single_tasks,
    words,
)
from adapters.local.paths import Home, is_a_safe_name
from adapters.local.refusals import refusals
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason


class LocalAdapter:
    type: ClassVar[str] = "local"
    capabilities = frozenset(
        {
            Capability.LOGS,
            Capability.EXPLAIN,
            Capability.UPDATE,
            Capability.HOLD,
            Capability.ARRAYS,
            Capability.CANCEL_TASKS,
            Capability.SERVICES,
        }
    )

    def __init__(self, config: BackendConfig) -> None:
        """Makes the data directory where there is none.  Raises ``ValueError`` for unknown options."""
        self.name = config.name
        self.options = options.load(config.data_dir, config.options)
        self._prefix = f"wb-{config.instance}-"
        self._home = Home(config.data_dir)
        with suppress(OSError, sqlite3.Error):  # each call says it again, as Busy
            ledger.create(self._home.ledger)

    # ---- pure ----------------------------------------------------------------------------------------

    def refusals(self, spec: JobSpec, inventory: Inventory | None, owner: str = "") -> Sequence[Refusal]:
        return refusals(spec, inventory, self.name)

    def render(self, spec: JobSpec, ref: AttemptRef) -> str:
        return render.render(spec, ref, self._home.root, self.options)

    # ---- attempts ------------------------------------------------------------------------------------

    def submit(self, ref: AttemptRef, spec: JobSpec) -> Handle:
        self._refuse_what_cannot_run(ref, spec)
        with self._ledger() as connection:
            row = attempts.record(connection, ref, spec)
        crash.point("submit.recorded")
        if row["state"] == "FENCED":
            raise Rejected("it was cancelled before it arrived", Reason.CANCELLED)
        if row["state"] == "CLEANED":
            raise Rejected("it ended and was cleaned up; an attempt starts once")
        if row["digest"] != attempts.digest_of(ref, spec):
            raise Rejected(
                f"{ref.marker} was submitted before with another specification", Reason.INVALID_SPEC
            )
        self._wake()
        return words.handle(row)

    def leave_when_idle(self) -> None:
        with suppress(OSError):  # an idle agent that stays does no harm
            daemon.leave_when_idle(self._home.root)

    def _refuse_what_cannot_run(self, ref: AttemptRef, spec: JobSpec) -> None:
        """``refusals`` again, for who did not ask, and what only this machine knows."""
        if not is_a_safe_name(ref.marker):
            raise Rejected(f"{ref.marker!r} cannot be a name", Reason.INVALID_SPEC)
        found = [*self.refusals(spec, self.inventory()), *checks.of_this_machine(spec, self.options)]
        if found:
            raise Rejected("; ".join(one.message for one in found), found[0].code)

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        with self._ledger() as connection:
            row = attempts.known(connection, marker)
        if row is not None:
            return Found(words.handle(row))
        settled = since + self.options.settle_s
        return Absent() if time.time() >= settled else Unsettled(settled)

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        as_of = time.time()
        with self._ledger() as connection:
            records = attempts.of_markers(connection, {ref.marker for ref in refs})
        if any(record.attempt["state"] == "LIVE" for record in records):
            self._wake_if_dead()
        handles = {ref.marker: ref.handle for ref in refs}
        found = {
            record.attempt["marker"]: self._observation(record)
            for record in records
            if _is_the_one(record.attempt, handles[record.attempt["marker"]])
        }
        return Observations(as_of=as_of, complete=True, found=found)

    def _observation(self, record: attempts.Record) -> Observation:
        return words.observation(
            record, self.options.node, self._home.outputs(record.attempt["marker"]), self.options.service_host
        )

    def list_ours(self, since: float) -> Sequence[Ours]:
        with self._ledger() as connection:
            records = attempts.since(connection, since)
        return [
            Ours(
                ref=replace(codec.load_ref(record.attempt["ref"]), handle=words.handle(record.attempt)),
                observation=self._observation(record),
                spec=codec.load_spec(record.attempt["spec"]),
            )
            for record in records
            if record.attempt["marker"].startswith(self._prefix)
        ]

    def cancel(self, ref: AttemptRef) -> None:
        with self._writing(ref) as connection:
            if connection is not None:
                attempts.ask_for_the_end(connection, ref.marker)

    def cancel_tasks(self, ref: AttemptRef, indices: Collection[int]) -> Collection[int]:
        """The ledger has a row of every task that was cancelled, so that there is none without an end."""
        with self._writing(ref) as connection:
            if connection is not None:
                single_tasks.ask_for_the_end(connection, ref.marker, indices)
        return ()

    def cleanup(self, ref: AttemptRef) -> None:
        """Logs and working directory go; outputs stay where there are any, since they are the user's."""
        if not is_a_safe_name(ref.marker):
            return
        with self._ledger() as connection:
            for record in attempts.of_markers(connection, [ref.marker]):
                if not _is_the_one(record.attempt, ref.handle) or not words.is_over(record):
                    return
                attempts.bury(connection, record)
        shutil.rmtree(self._home.attempt(ref.marker), ignore_errors=True)
        with suppress(OSError):  # not empty, or not there
            os.rmdir(self._home.outputs(ref.marker))

    # ---- the machine ---------------------------------------------------------------------------------

    def inventory(self) -> Inventory:
        return machine.inventory(self.options)

    def load(self) -> Load:
        with self._ledger() as connection:
            return machine.load(connection, self.options)

    def check(self) -> Sequence[Finding]:
        return checks.findings(self._home, self.options)

    # ---- optional ------------------------------------------------------------------------------------

    def logs(self, ref: AttemptRef, query: LogQuery) -> LogPage:
        if query.stream not in ("stdout", "stderr"):
            raise BackendError(f"there is no stream {query.stream}; there are stdout and stderr")
        with self._ledger() as connection:
            records = attempts.of_markers(connection, [ref.marker])
        if not records or not _is_the_one(records[0].attempt, ref.handle):
            raise LogGone("the backend does not know this attempt any more; its logs are gone")
        index = _whose_log(records[0], query)
        try:
            steps = ("tasks", str(index), query.stream)
            return log_files.page(self._home.attempt(ref.marker), steps, query, _has_ended(records[0], index))
        except OSError as error:
            raise BackendError(f"the log cannot be read: {error.strerror or error}") from error

    def update(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._refuse_what_cannot_run(ref, spec)
        with self._writing(ref) as connection:
            if connection is not None:
                attempts.change_service(connection, ref, spec)

    def hold(self, ref: AttemptRef) -> None:
        self._set_held(ref, True)

    def release(self, ref: AttemptRef) -> None:
        self._set_held(ref, False)

    def _set_held(self, ref: AttemptRef, held: bool) -> None:
        with self._writing(ref) as connection:
            if connection is not None:
                attempts.set_held(connection, ref.marker, held)

    def explain_pending(self, ref: AttemptRef) -> Sequence[Refusal]:
        with self._ledger() as connection:
            return explain.pending(connection, ref.marker, self.options)

    # ---- how -----------------------------------------------------------------------------------------

    @contextmanager
    def _ledger(self) -> Iterator[sqlite3.Connection]:
        """Foreign errors stop here.  A step is whole or did not happen, unless the disk is broken."""
        try:
            with ledger.opened(self._home.ledger) as connection:
                yield connection
        except sqlite3.Error as error:
            message = f"the ledger of {self.name} cannot be used: {error}"
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
                raise OutcomeUnknown(message) from error
            raise Busy(message, reason=Reason.BACKEND_DOWN) from error

    @contextmanager
    def _writing(self, ref: AttemptRef) -> Iterator[sqlite3.Connection | None]:
        """None where the handle names another object than the one that has the marker now."""
        with self._ledger() as connection:
            mine = _may_write(attempts.known(connection, ref.marker), ref)
            yield connection if mine else None
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):
            daemon.tell_options(self._home, self.options)
            daemon.ensure(self._home, self.options)

    _wake_if_dead = _wake


def _is_the_one(row: sqlite3.Row, handle: Handle | None) -> bool:
    return handle is None or handle.get("id") == row["id"]


def _may_write(row: sqlite3.Row | None, ref: AttemptRef) -> bool:
    return row is None or _is_the_one(row, ref.handle)


def _whose_log(record: attempts.Record, query: LogQuery) -> int:
    """Unasked the first task, and of a service the first replica that runs."""
    if record.attempt["service"]:
        if query.replica is not None:
            return query.replica
        live = [one["idx"] for one in record.tasks if one["state"] != "ENDED"]
        return min(live or [one["idx"] for one in record.tasks], default=0)
    if query.node:
        raise BadLogQuery("this attempt runs on 1 node", "node")
    if not record.attempt["array"]:
        return 0
    indices = attempts.unpack(record.attempt["indices"])
    if query.task_index is None:
        return indices[0]
    if query.task_index not in indices:
        raise BadLogQuery(f"this attempt has no task {query.task_index}", "task")
    return query.task_index


def _has_ended(record: attempts.Record, index: int) -> bool:
    """Nothing more can come into this log."""
    if words.is_over(record):
        return True
    return not record.attempt["service"] and any(
        one["idx"] == index and one["state"] == "ENDED" for one in record.tasks
    )
