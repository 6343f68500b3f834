"""Waiting for many jobs at a pace that the broker's rate limit bears.  Asks; changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from api_spec.states import FINAL
from broker.client.errors import WaitTimeout

if TYPE_CHECKING:
    from broker.client.client import Client

Json = dict[str, Any]
CONDITIONS = ("started", "succeeded", "failed", "ended", "ready")
SHORTEST_ROUND_S = 0.3
LONGEST_ROUND_S = 2.0
LONGEST_SILENCE_S = 10.0  # well below the time-out of a call
REQUESTS_PER_S = 10  # half of what the broker allows one token by default


def ended(job: Mapping[str, Any]) -> bool:
    return job["state"] in FINAL


def holds(job: Mapping[str, Any], condition: str) -> bool:
    """Whether what is waited for has come."""
    if condition == "ended":
        return ended(job)
    if condition == "started":
        return job["state"] == "RUNNING" or bool(job.get("started_at"))
    if condition == "ready":
        return job["state"] == "RUNNING" and bool((job.get("service") or {}).get("ready"))
    return bool(job["state"] == {"succeeded": "COMPLETED", "failed": "FAILED"}[condition])


def wait(
    client: Client,
    ids: Collection[str],
    timeout: float | None,
    progress: Callable[[Json], None] | None,
    until: str,
) -> list[Json]:
    deadline = None if timeout is None else time.monotonic() + timeout
    seen: dict[str, Json] = {}
    pending = list(dict.fromkeys(ids))
    pause = SHORTEST_ROUND_S
    while pending:
        for job_id in pending:
            before = seen.get(job_id)
            seen[job_id] = look(client, job_id, before if len(pending) == 1 else None, deadline)
            if progress and (before is None or before["state"] != seen[job_id]["state"]):
                progress(seen[job_id])
        pending = [job_id for job_id in pending if not (holds(seen[job_id], until) or ended(seen[job_id]))]
        pause = min(pause * 1.3, LONGEST_ROUND_S) if len(pending) > 1 else SHORTEST_ROUND_S
        if pending:
            check_deadline(deadline, pause, pending, seen)
            client.sleep(max(pause, len(pending) / REQUESTS_PER_S))
    return [seen[job_id] for job_id in dict.fromkeys(ids)]


def check_deadline(deadline: float | None, pause: float, pending: list[str], seen: dict[str, Json]) -> None:
    """Raises ``WaitTimeout`` when the next look would come too late."""
    if deadline is None or time.monotonic() + pause <= deadline:
        return
    first = ", ".join(f"{job_id} is {seen[job_id]['state']}" for job_id in pending[:3])
    message = f"the time is over and {len(pending)} of {len(seen)} jobs are not there yet: {first}"
    raise WaitTimeout(message, list(seen.values()))


def look(client: Client, job_id: str, before: Json | None, deadline: float | None) -> Json:
    """The job now; the last one that is waited for is asked for its next change instead."""
    if before is None:
        return client.get(job_id)
    left_s = LONGEST_SILENCE_S if deadline is None else deadline - time.monotonic()
    return client.changed(before, within_s=max(0.0, min(LONGEST_SILENCE_S, left_s)))
