"""The fake as a backend.  Tests only: its jobs are virtual, its marker is not unique and its ids are reused.

Options: ``socket`` (path of the server's socket), ``settle_s`` (0.3: a request may still be on its way so
long), ``timeout_s`` (2), ``refuses`` (fields of a spec that this one does not know), ``native_dependencies``
(false: the broker holds what waits for another job).
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

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
    Observations,
    Ours,
    Unsettled,
)
from adapters.errors import BackendError, BadLogQuery, Busy, CannotWait, OutcomeUnknown
from adapters.fake import observe, refusals, render
from adapters.fake.client import Answer, Client, readable
from adapters.fake.words import WAITS_FOR
from api_spec.decisions import Refusal
from api_spec.errors import InvalidConfiguration
from api_spec.jobs import JobSpec
from api_spec.reasons import SENTENCES, Reason


class FakeAdapter:
    type: ClassVar[str] = "fake"
    capabilities: frozenset[Capability] = frozenset(
        {
            Capability.LOGS,
            Capability.EXPLAIN,
            Capability.UPDATE,
            Capability.ADJUST,
            Capability.HOLD,
            Capability.ARRAYS,
            Capability.CANCEL_TASKS,
            Capability.SERVICES,
        }
    )

    def __init__(self, config: BackendConfig, clock: Callable[[], float] = time.time) -> None:
        self.name = config.name
        self._clock = clock
        self._prefix = f"wb-{config.instance}-".lower()
        try:
            self._settle_s = float(config.options.get("settle_s", 0.3))
            self._refused = tuple(config.options.get("refuses", ()))
            if config.options.get("native_dependencies", False):
                self.capabilities = self.capabilities | {Capability.NATIVE_DEPENDENCY}
            self._client = Client(str(config.options["socket"]), float(config.options.get("timeout_s", 2.0)))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidConfiguration(f"backend {config.name}: bad or missing option: {error}") from error

    # ---- pure

    def refusals(self, spec: JobSpec, inventory: Inventory | None, owner: str = "") -> Sequence[Refusal]:
        return tuple(refusals.refusals(spec, inventory, self._refused))

    def render(self, spec: JobSpec, ref: AttemptRef) -> str:
        return render.render(spec, ref)

    # ---- one attempt from hand-over to end

    def submit(self, ref: AttemptRef, spec: JobSpec) -> Handle:
        """Not idempotent: a second call makes a second job."""
        self._refuse_to_wait_in_vain(ref)
        answer = self._client.tell("submit", script=self.render(spec, ref)) or {}
        with readable(OutcomeUnknown):
            return observe.handle_of(answer)

    def _refuse_to_wait_in_vain(self, ref: AttemptRef) -> None:
        """The server takes any id to wait for, also one that it does not know or that is somebody else's."""
        for one in ref.after:
            answer = self._client.ask("find", marker=one.ref.marker)
            with readable():
                live = [int(row["id"]) for row in answer["jobs"] if row["ended_at"] is None]
            if (one.ref.handle or {}).get("id") not in live:
                raise CannotWait(f"{one.ref.marker} is not there to be waited for")

    def find(self, marker: str, since: float) -> Found | Absent | Unsettled:
        asked_at = self._clock()  # before the look-up: what arrives while it runs was not settled either
        answer = self._client.ask("find", marker=marker)
        with readable():
            rows, complete = answer["jobs"], answer["complete"] is True
            if rows:
                return Found(observe.handle_of(min(rows, key=lambda row: int(row["id"]))))
        if not complete or asked_at < since + self._settle_s:
            return Unsettled(
                max(since, asked_at) + self._settle_s if not complete else since + self._settle_s
            )
        return Absent()

    def observe(self, refs: Collection[AttemptRef]) -> Observations:
        answer = self._client.ask("list", markers=[ref.marker for ref in refs])
        with readable():
            by_marker: dict[str, list[Answer]] = {}
            for row in answer["jobs"]:
                by_marker.setdefault(row["marker"], []).append(row)
            found = {}
            for ref in refs:
                rows = by_marker.get(ref.marker, [])
                row = observe.row_of(ref, rows)
                if row is not None:
                    found[ref.marker] = observe.observation(row, len(rows))
            complete = answer["complete"] is True
            return Observations(as_of=float(answer["as_of"]), complete=complete, found=found)

    def list_ours(self, since: float) -> Sequence[Ours]:
        answer = self._client.ask("all", prefix=self._prefix, since=since)
        with readable():
            if answer["complete"] is not True:
                raise Busy("the fake's listing is not complete", reason=Reason.BACKEND_DOWN)
            ids = [row["id"] for row in answer["jobs"]]
            scripts = self._client.ask("scripts", ids=ids)["scripts"]
            return [observe.ours(row, scripts[str(row["id"])]) for row in answer["jobs"]]

    def cancel(self, ref: AttemptRef) -> None:
        self._tell_all("cancel", ref)

    def cancel_tasks(self, ref: AttemptRef, indices: Collection[int]) -> Collection[int]:
        """It keeps a row of every task, so that there is none of which nothing is left."""
        self._tell_all("cancel_tasks", ref, indices=list(indices))
        return ()

    def cleanup(self, ref: AttemptRef) -> None:
        self._tell_all("purge", ref)

    def hold(self, ref: AttemptRef) -> None:
        self._tell_all("hold", ref)

    def release(self, ref: AttemptRef) -> None:
        self._tell_all("release", ref)

    def update(self, ref: AttemptRef, spec: JobSpec) -> None:
        replicas = render.replicas_wanted(spec, ref)
        self._tell_all("update", ref, replicas=replicas, revision=ref.revision)

    def adjust(self, ref: AttemptRef, spec: JobSpec) -> None:
        self._tell_all("adjust", ref, time_limit_s=spec.time_limit_s)

    def _tell_all(self, op: str, ref: AttemptRef, **fields: Any) -> None:
        """Ids are reused, so the marker is looked up again and the handle is not trusted.

        All copies are told: there should be one, but the marker is not unique here.
        """
        for id in self._ids(ref.marker):
            self._client.tell(op, id=id, **fields)

    def _ids(self, marker: str) -> list[int]:
        """Raises ``Busy`` when the listing is not complete: an unseen job must not be taken for absent."""
        answer = self._client.ask("find", marker=marker)
        with readable():
            ids = [int(row["id"]) for row in answer["jobs"] if row["marker"] == marker]
            if not ids and answer["complete"] is not True:
                raise Busy("the fake's listing is not complete", reason=Reason.BACKEND_DOWN)
            return ids

    def _id(self, ref: AttemptRef) -> int:
        ids = self._ids(ref.marker)
        if not ids:
            raise BackendError(f"the fake does not know {ref.marker}")
        handle_id = (ref.handle or {}).get("id")
        return int(handle_id) if handle_id in ids else min(ids)

    # ---- what it says besides

    def logs(self, ref: AttemptRef, query: LogQuery) -> LogPage:
        id = self._id(ref)
        if query.cursor is not None and not re.fullmatch("[0-9]{1,18}", query.cursor):
            raise BadLogQuery("the log cursor is not one that this backend gave")
        if query.node:
            raise BadLogQuery("all nodes of a job at the fake write into one log", "node")
        offset = None if query.cursor is None else int(query.cursor)
        answer = self._client.ask(
            "logs",
            id=id,
            stream=query.stream,
            task=query.task_index,
            offset=offset,
            tail=query.tail_bytes,
            limit=query.limit_bytes,
        )
        with readable():
            data = base64.b64decode(answer["data"])
            after = int(answer.get("start", 0)) + len(data)
            at_end = after >= int(answer["size"])
            return LogPage(
                data=data, cursor=str(after), at_end=at_end, complete=at_end and bool(answer["ended"])
            )

    def explain_pending(self, ref: AttemptRef) -> Sequence[Refusal]:
        answer = self._client.ask("explain", id=self._id(ref))
        with readable():
            why = answer["why"]
            if why is None:
                return ()
            reason = WAITS_FOR.get(why, Reason.UNKNOWN)
            sentence = f"{SENTENCES[reason]} (The fake says {why}; {answer['running']} jobs run.)"
            return (Refusal(reason, sentence),)

    def inventory(self) -> Inventory:
        answer = self._client.ask("shapes")
        with readable():
            return observe.inventory(answer)

    def load(self) -> Load:
        shapes = self.inventory().shapes
        answer = self._client.ask("load")
        with readable():
            return observe.load(answer, shapes)

    def check(self) -> Sequence[Finding]:
        """Never raises: that it cannot be reached is a finding."""
        try:
            with readable():
                float(self._client.ask("ping")["as_of"])
        except BackendError as error:
            return (Finding(subject="server", well=False, message=str(error)),)
        return (Finding(subject="server", well=True, message="The server answers."),)
