"""The whole store as lines of JSON: a backup, and the way from one machine to many.

Line 1 is a header, ``{"workload_broker": 1, ...}``.  Each further line is one record with its ``type``:
``job`` (all parts of one job, as in ``archive``), ``token``, ``idempotency`` (what a key was answered),
``backend`` (what operators said of it) and ``project`` (how many events it has had, so that whoever follows
them hears that an import has none of them).
A dump of any release can be read by each later one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from api_spec.errors import InvalidRequest
from api_spec.jobs import Kind
from api_spec.states import FINAL, JobState
from api_spec.views import JobQuery
from broker.store.archive import Parts
from broker.store.changes import Live
from broker.store.records import AttemptRecord, JobRecord, dump_attempt, read_attempt
from broker.store.store import Store

DUMP_VERSION = 1
CHUNK = 500


# ---- out ---------------------------------------------------------------------------------------------


def export_lines(store: Store) -> Iterator[str]:
    """Each job as it stands when it is read; what is accepted meanwhile may be missing."""
    meta = store.meta()
    first = {
        "instance": meta["instance"],
        "at": store.now(),
        "first_incarnation": store.events.first_incarnation(),
    }
    yield _line({"workload_broker": DUMP_VERSION, **first})
    for name in store.backends.names():
        record = store.backends.read(name)
        flags = {"drained": record.drained, "paused": record.paused}
        yield _line({"type": "backend", "name": name, "kind": record.type, **flags})
    for token in store.tokens.list_tokens():
        yield _line({"type": "token", "digest": store.tokens.digest_of(token["id"]), "record": dict(token)})
    for project in store.projects():
        yield _line({"type": "project", "name": project, "events": store.events.counted(project)})
        for job_id in job_ids(store, project):
            parts = store.jobs.parts(job_id)
            if parts is not None:
                yield _line({"type": "job", "id": job_id, **job_document(parts)})
    for document in store.idempotency.documents():
        yield _line({"type": "idempotency", **document})


def job_ids(store: Store, project: str) -> Iterator[str]:
    """Of one project, newest first within each kind."""
    for kind in Kind:
        query = JobQuery(project=project, kind=kind, limit=CHUNK)
        while True:
            page = store.index.list_jobs(query)
            yield from (record.id for record in page.items)
            if page.next is None:
                break
            query = replace(query, cursor=page.next)


def job_document(parts: Parts) -> dict[str, Any]:
    return {
        "job": dict(parts.raw),
        "spec": _b64(parts.spec),
        "attempts": {str(number): text for number, text in parts.attempts_json.items()},
        "decisions": {str(number): _b64(blob) for number, blob in parts.decisions.items()},
        "history": list(parts.history),
        "tasks": _b64(parts.tasks) if parts.tasks else None,
    }


# ---- in ----------------------------------------------------------------------------------------------


def load_lines(store: Store, lines: Iterable[str]) -> Iterator[str]:
    """Each step once it is done: "incarnation", then "exists", or the type of each record.

    A job that the store has already is left as it is, so an import may be repeated.  A new incarnation
    begins: attempts are looked up by their marker before they are sent.  Raises ``InvalidRequest`` at the
    first line that cannot be read; what came before it is there.
    """
    numbered = enumerate(lines, start=1)
    header = _check_header(next(numbered, (1, "")))
    first = header.get("first_incarnation", 1)
    if not isinstance(first, int):
        _refuse(1, f"first_incarnation is a number, not {first!r}")
    store.begin_incarnation()
    store.events.take_over(first)
    yield "incarnation"
    for number, line in numbered:
        if not line.strip():
            continue
        record = _read(number, line)
        try:
            done = _load(store, record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            _refuse(number, f"a {record.get('type')} that cannot be read: {error!r}")
        yield done


def _load(store: Store, record: Mapping[str, Any]) -> str:
    kind: str = record["type"]
    if kind == "job":
        return "job" if restore(store, _parts(record)) else "exists"
    if kind == "token":
        store.tokens.put_token(record["digest"], record["record"])
    elif kind == "backend":
        store.backends.declare(record["name"], record["kind"])
        store.backends.set_flags(record["name"], drained=record["drained"], paused=record["paused"])
    elif kind == "project":
        store.events.count_on(record["name"], int(record["events"]))
    elif kind == "idempotency":
        store.idempotency.restore(record)
    else:
        raise ValueError(f"a record of the type {kind} is not known")
    return kind


def _parts(document: Mapping[str, Any]) -> Parts:
    return Parts(
        job_id=document["id"],
        raw=document["job"],
        spec=base64.b64decode(document["spec"]),
        attempts_json={int(number): text for number, text in document["attempts"].items()},
        decisions={int(number): base64.b64decode(text) for number, text in document["decisions"].items()},
        history=tuple(document["history"]),
        tasks=base64.b64decode(document["tasks"]) if document["tasks"] else None,
    )


def restore(store: Store, parts: Parts) -> bool:
    """False: it was there, and stays as it is.  Leases and queues are made anew from the state."""
    record = parts.record
    left_out = {"lease", "queue", "tries"}
    attempt = parts.attempts_json.get(record.attempt)
    live = _live_entry(record, read_attempt(record.id, record.attempt, attempt)) if attempt else None
    request: dict[str, Any] = {
        "id": parts.job_id,
        "set": {name: text for name, text in parts.raw.items() if name not in left_out},
        "deps": [list(edge) for edge in record.deps],
        "attempts": {str(number): text for number, text in parts.attempts_json.items()},
        "decisions": [str(number) for number in parts.decisions],
        "history": list(parts.history),
        "has_tasks": parts.tasks is not None,
    }
    if live is not None:
        request["live"] = [record.backend, live.dump()]
    if due := _due_queue(record):
        request["due"] = due
    answer: bytes = store.scripts.run(
        "restore", request, parts.spec, parts.tasks or b"", *parts.decisions.values()
    )
    return answer == b"ok"


def _live_entry(record: JobRecord, attempt: AttemptRecord) -> Live | None:
    if record.state in FINAL or record.state is JobState.ACCEPTED or record.backend is None:
        return None
    return Live(attempt=attempt.number, handle=attempt.handle)


def _due_queue(record: JobRecord) -> str | None:
    if record.state is JobState.SUBMITTING:
        return f"submit:{record.backend}"
    if record.state is JobState.ACCEPTED and not record.held and not record.waits:
        return record.next_queue or "submit:-"
    if record.state in (JobState.QUEUED, JobState.RUNNING) and (record.cancel or record.act):
        return f"act:{record.backend}"
    return None


def attempts_json(attempts: Iterable[AttemptRecord]) -> dict[int, str]:
    return {attempt.number: dump_attempt(attempt) for attempt in attempts}


def _check_header(first: tuple[int, str]) -> Mapping[str, Any]:
    number, line = first
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    version = header.get("workload_broker") if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(version, int):
        _refuse(number, "this is not the export of a workload broker")
    if version > DUMP_VERSION:
        _refuse(1, f"the export has version {version}; this release reads up to {DUMP_VERSION}")
    return header


def _read(number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        _refuse(number, str(error))
    if not isinstance(record, dict):
        _refuse(number, "not a JSON object")
    return record


def _refuse(number: int, why: str) -> NoReturn:
    raise InvalidRequest(f"line {number}: {why}")


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n"


def _b64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
