"""What a program asks of the broker, one method a verb.  Specs go in and views come out as the API has them.

A call that fails raises ``Refused`` (with the problem document) or ``NotReachable``; see ``errors``.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from broker.client import contexts, logs, waiting
from broker.client.contexts import Connection
from broker.client.exchange import Answer, Call, Wire, send
from broker.client.logs import Told

if TYPE_CHECKING:
    from api_spec.jobs import JobSpec

Json = dict[str, Any]
Jsons = list[Json]
PAGE = 100
BUNDLE = "/v1/jobs:batch"


class Client:
    """``with Client.from_environment() as client: client.submit([spec])``.

    ``wire`` replaces the network; ``url``, ``token``, ``timeout`` and ``owner`` are then the wire's own.
    """

    def __init__(
        self,
        url: str = contexts.DEFAULT_URL,
        token: str | None = None,
        timeout: float = 30.0,
        *,
        owner: str | None = None,
        wire: Wire | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.sleep = sleep
        self.wire = wire or httpx_wire(Connection(url.rstrip("/"), token, owner), timeout)

    @classmethod
    def from_environment(
        cls, context: str | None = None, *, environ: Mapping[str, str] = os.environ, timeout: float = 30.0
    ) -> Self:
        """``BROKER_URL`` and ``BROKER_TOKEN``, or the files that ``contexts`` describes."""
        known = contexts.resolve(context=context, environ=environ)
        return cls(known.url, known.token, timeout, owner=known.owner)

    def close(self) -> None:
        self.wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- submitting ----------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec | Mapping[str, Any]], *, key: str | None = None) -> Jsons:
        """``{"job", "decision"}`` for each; several are taken whole or not at all.

        ``key`` is the Idempotency-Key: the same key and specs give the same jobs.  Without one a new key is
        made, so that a lost answer can be asked for again.
        """
        bodies = [as_wire(spec) for spec in specs]
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        if len(bodies) == 1:
            call = Call(method="POST", path="/v1/jobs", json=bodies[0], headers=headers, repeatable=True)
            return [self._json(call)]
        call = Call(method="POST", path=BUNDLE, json={"jobs": bodies}, headers=headers, repeatable=True)
        return list(self._json(call)["jobs"])

    def preview(self, spec: JobSpec | Mapping[str, Any]) -> Json:
        """The decision that a submission would get now; nothing is stored."""
        return self._post("/v1/jobs", as_wire(spec), params={"dry_run": "true"})

    def preview_all(self, specs: Sequence[JobSpec | Mapping[str, Any]]) -> Jsons:
        """The decisions that a submission of all of them would get now, after the checks of a bundle."""
        bundle = {"jobs": [as_wire(spec) for spec in specs]}
        return list(self._post(BUNDLE, bundle, params={"dry_run": "true"})["decisions"])

    def render(self, spec: JobSpec | Mapping[str, Any], backend: str) -> str:
        """The exact script or manifest that the backend would be sent."""
        path, headers = f"/v1/backends/{backend}/render", {"Accept": "text/plain, application/problem+json"}
        call = Call(method="POST", path=path, json=as_wire(spec), headers=headers, repeatable=True)
        return self.call(call).content.decode()

    # ---- reading -------------------------------------------------------------------------------------

    def get(self, job_id: str) -> Json:
        return self._get(f"/v1/jobs/{job_id}")

    def changed(self, job: Mapping[str, Any], within_s: float) -> Json:
        """The job once it is another version than ``job``, or as it is after that time (whole seconds)."""
        headers = {"If-None-Match": f'"{job["version"]}"', "Prefer": f"wait={int(within_s)}"}
        call = Call(method="GET", path=f"/v1/jobs/{job['id']}", headers=headers, repeatable=True)
        return self.call(call).json or dict(job)

    def list(self, **filters: Any) -> Iterator[Json]:
        """Summaries, newest first, page after page: ``state kind backend owner name label created_after``
        ``created_before``; ``state`` and ``label`` may be lists."""
        return self._pages("/v1/jobs", filters)

    def attempts(self, job_id: str) -> Jsons:
        return list(self._get(f"/v1/jobs/{job_id}/attempts")["items"])

    def usage(self, job_id: str) -> Jsons:
        """What each attempt was given and has used; ``None`` is what nobody has measured."""
        return list(self._get(f"/v1/jobs/{job_id}/usage")["items"])

    def tasks(self, job_id: str) -> Iterator[Json]:
        """The elements of an array job."""
        return self._pages(f"/v1/jobs/{job_id}/tasks", {})

    def explain(self, job_id: str) -> Json:
        """The decision in force: every backend, and why it won or lost."""
        return self._get(f"/v1/jobs/{job_id}/decision")

    def decisions(self, job_id: str) -> Jsons:
        """All of them, oldest first."""
        return list(self._get(f"/v1/jobs/{job_id}/decision", all="true")["items"])

    def pending(self, job_id: str) -> Jsons:
        """Why it has not started, best reason first."""
        return list(self._get(f"/v1/jobs/{job_id}/pending")["items"])

    def logs(
        self, job_id: str, *, follow: bool = False, told: Told | None = None, **where: Any
    ) -> Iterator[bytes]:
        """Pieces of one log as they come; ``stream attempt task replica node tail_bytes`` say which.

        ``follow`` waits for the start and goes on until there is no more.  ``told`` hears notes on the log.
        """
        return (piece for _, piece in logs.read(self, job_id, follow, [where], told))

    def output(
        self, job_id: str, *, follow: bool = False, told: Told | None = None, **where: Any
    ) -> Iterator[tuple[str, bytes]]:
        """As ``logs``, of both streams: pieces with ``stdout`` or ``stderr``, each stream in its order."""
        both = [{**where, "stream": stream} for stream in logs.STREAMS]
        return ((logs.STREAMS[at], piece) for at, piece in logs.read(self, job_id, follow, both, told))

    def events(
        self, *, after: str | None = None, follow: bool = False, operator: bool = False
    ) -> Iterator[Json]:
        """Those of the project in order, or with ``operator`` those of the backends.

        ``after``: an event's id, ``oldest`` or ``latest``.  ``follow`` begins with what happens next unless
        told otherwise, and goes on for ever, over broken connections too; without it, all that are kept.
        """
        path = "/v1/operator/events" if operator else "/v1/events"
        return logs.follow_events(self, path, after) if follow else self._pages_of_events(path, after)

    def job_events(self, job_id: str) -> Jsons:
        return list(self._get(f"/v1/jobs/{job_id}/events")["items"])

    def wait(
        self,
        ids: Collection[str],
        timeout: float | None = None,
        progress: Callable[[Json], None] | None = None,
        until: str = "ended",
    ) -> Jsons:
        """The jobs, once each has ``started``, ``succeeded``, ``failed``, ``ended`` or is ``ready``, or never
        can be; ``progress`` gets each job whose state has changed.  Raises ``WaitTimeout``."""
        return waiting.wait(self, ids, timeout, progress, until)

    # ---- acting --------------------------------------------------------------------------------------

    # With ``version`` only while the job has it: ``Refused`` with the code ``precondition_failed`` otherwise.

    def cancel(
        self, job_id: str, *, tasks: str | Iterable[int] | None = None, version: int | None = None
    ) -> Json:
        """``tasks``: single ones of an array, ``"3,5-9"`` or numbers; ``task_cancel`` says what was done."""
        if tasks is None:
            return self._act(job_id, "cancel", version)
        named = tasks if isinstance(tasks, str) else ",".join(map(str, tasks))
        return self._act(job_id, "cancel", version, {"tasks": named})

    def hold(self, job_id: str, *, version: int | None = None) -> Json:
        return self._act(job_id, "hold", version)

    def release(self, job_id: str, *, version: int | None = None) -> Json:
        return self._act(job_id, "release", version)

    def resubmit(self, job_id: str, *, key: str | None = None, version: int | None = None) -> Json:
        """``{"job", "decision"}`` of a new job with the same spec; ``key`` as in ``submit``."""
        headers = {"Idempotency-Key": key or uuid.uuid4().hex} | if_match(version)
        path = f"/v1/jobs/{job_id}/resubmit"
        return self._json(Call(method="POST", path=path, headers=headers, repeatable=True))

    def scale(self, job_id: str, replicas: int) -> Json:
        return self._patch(job_id, {"replicas": replicas})

    def update(self, job_id: str, changes: Mapping[str, Any], *, version: int | None = None) -> Json:
        """A new revision: ``changes`` is a merge patch of the spec."""
        return self._patch(job_id, {"spec": dict(changes)}, version)

    # ---- backends ------------------------------------------------------------------------------------

    def backends(self) -> Jsons:
        return list(self._get("/v1/backends")["items"])

    def backend(self, name: str) -> Json:
        return self._get(f"/v1/backends/{name}")

    def check(self, name: str) -> Jsons:
        """What its server finds when it asks the backend: ``{"subject", "well", "message"}``."""
        return list(self._post(f"/v1/backends/{name}/check")["items"])

    def drain(self, name: str) -> Json:
        """No new placements; what is there goes on."""
        return self._post(f"/v1/backends/{name}/drain")

    def pause(self, name: str) -> Json:
        """No submissions; cancelling works."""
        return self._post(f"/v1/backends/{name}/pause")

    def resume(self, name: str) -> Json:
        return self._post(f"/v1/backends/{name}/resume")

    # ---- how -----------------------------------------------------------------------------------------

    def call(self, call: Call) -> Answer:
        """Any call of the API, with the retries of all others."""
        return send(self.wire, call, self.sleep)

    def _json(self, call: Call) -> Json:
        return self.call(call).json or {}

    def _get(self, path: str, **params: Any) -> Json:
        return self._json(Call(method="GET", path=path, params=params, repeatable=True))

    def _post(self, path: str, body: Any = None, params: Mapping[str, Any] | None = None) -> Json:
        """For what is the same when it is done twice."""
        return self._json(Call(method="POST", path=path, json=body, params=params or {}, repeatable=True))

    def _act(self, job_id: str, verb: str, version: int | None, body: Json | None = None) -> Json:
        """Repeatable but with a version: the first one may have made another of it."""
        path, headers = f"/v1/jobs/{job_id}/{verb}", if_match(version)
        return self._json(
            Call(method="POST", path=path, json=body, headers=headers, repeatable=version is None)
        )

    def _patch(self, job_id: str, body: Json, version: int | None = None) -> Json:
        headers = if_match(version) | {"Content-Type": "application/merge-patch+json"}
        call = Call(
            method="PATCH", path=f"/v1/jobs/{job_id}", json=body, headers=headers, repeatable=version is None
        )
        return self._json(call)

    def _pages(self, path: str, filters: Mapping[str, Any]) -> Iterator[Json]:
        params = {"limit": PAGE, **{name: value for name, value in filters.items() if value is not None}}
        while True:
            page = self._get(path, **params)
            yield from page["items"]
            if not page.get("next"):
                return
            params["cursor"] = page["next"]

    def _pages_of_events(self, path: str, after: str | None) -> Iterator[Json]:
        """The cursor of this list is the last event's id, which there always is: an empty page is the end."""
        while True:
            params = {"limit": PAGE} | ({"after": after} if after else {})
            items: Iterable[Json] = self._get(path, **params)["items"]
            for event in items:
                after = event["id"]
                yield event
            if not items:
                return


def as_wire(spec: JobSpec | Mapping[str, Any]) -> Json:
    """Raises ``TypeError`` for what is no specification: the key of one that was given for a list of them."""
    if isinstance(spec, Mapping):
        return dict(spec)
    from api_spec.jobs import JobSpec
    from api_spec.schemas import dump_spec

    if not isinstance(spec, JobSpec):
        raise TypeError(f"{spec!r} is no job specification; submit() takes a list of them, even for one job")
    return dump_spec(spec)


def if_match(version: int | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


def httpx_wire(known: Connection, timeout: float) -> Wire:
    from broker.client.transport import HttpTransport

    return HttpTransport(known, timeout)
