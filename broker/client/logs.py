"""Logs and events as they come: pages by cursor, so that a broken connection loses and repeats nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from broker.client.errors import NotReachable
from broker.client.exchange import Answer, Call
from broker.client.waiting import ended

if TYPE_CHECKING:
    from broker.client.client import Client

NOT_STARTED = frozenset({"ACCEPTED", "SUBMITTING", "QUEUED"})
PAUSE_S = 0.5
RAW = "text/plain, application/problem+json"  # bytes as they are: text would lose what is not UTF-8
STREAMS = ("stdout", "stderr")
RECONNECTS = 20  # in a row, without one event between them: some minutes

Where = Mapping[str, Any]
Told = Callable[[str], object]


def read(
    client: Client, job_id: str, follow: bool, wheres: Sequence[Where], told: Told | None = None
) -> Iterator[tuple[int, bytes]]:
    """Pieces of several logs of one job in turn, each with the place of its log among ``wheres``.  ``told``
    hears what a reader of the first of them should know, before the piece that it is about.

    Over when each of them is: with ``follow`` when no more will come, otherwise at what is its end now.
    """
    if follow and not wait_for_start(client, job_id):
        return
    note = ""
    left = {
        at: {name: value for name, value in where.items() if value is not None}
        for at, where in enumerate(wheres)
    }
    while left:
        behind = False
        for at, params in list(left.items()):
            page = client.call(log_call(job_id, params))
            said = page.headers.get("Broker-Log-Note", "")
            if at == 0 and told is not None and said not in ("", note):
                told(said)
                note = said
            if page.content:
                yield at, page.content
            params.pop("tail_bytes", None)
            params["cursor"] = page.headers["Broker-Log-Cursor"]
            if not says(page, "At-End"):
                behind = True
            elif says(page, "Complete") or not follow:
                del left[at]
        if left and not behind:
            client.sleep(PAUSE_S)


def wait_for_start(client: Client, job_id: str) -> bool:
    """False: it ended before anything was started, so there is no log."""
    job = client.get(job_id)
    while job["state"] in NOT_STARTED and not job["attempt"] > 1:
        client.sleep(PAUSE_S)
        job = client.get(job_id)
    return not (ended(job) and job["attempt"] == 0)


def log_call(job_id: str, params: Mapping[str, Any]) -> Call:
    path = f"/v1/jobs/{job_id}/logs"
    return Call(method="GET", path=path, params=dict(params), headers={"Accept": RAW}, repeatable=True)


def says(page: Answer, name: str) -> bool:
    return page.headers.get(f"Broker-Log-{name}", "").lower() in ("true", "1")


def follow_events(client: Client, path: str, after: str | None) -> Iterator[dict[str, Any]]:
    """After a broken connection it goes on behind the last event that was seen.

    The broker tells the place where a stream begins before the first event.
    """
    failures = 0
    seen: str | None = None
    params = {"after": after} if after else {}
    while True:
        headers = {"Last-Event-ID": seen} if seen else {}
        try:
            for _, event_id, data in client.wire.events(
                Call(method="GET", path=path, params=params, headers=headers)
            ):
                seen = event_id or seen
                if data:
                    failures = 0
                    yield json.loads(data)
        except NotReachable:
            failures += 1
            if failures > RECONNECTS or (failures == 1 and seen is None):
                raise
            client.sleep(min(0.5 * failures, 15.0))
