"""From a change that a watch sees to a GET that shows it, while thousands of pods run.

A watch of the bench's own says when each Job was seen to be complete; the broker's stamp of its write, which
GET shows, says when that was written.  Both clocks are this machine's.  Passes are too rare to help.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from adapters.kubernetes.names import MARKER
from adapters.kubernetes.resources import PODS
from api_spec.ids import parse_marker
from api_spec.states import JobState
from tests.bench.figures import Figure, Size, percentile
from tests.bench.kubernetes_grounds import KubernetesGrounds, kubernetes_grounds, rounds
from tests.helpers import wait_until

GOAL_S = 1.0
CHANGES_A_SECOND = 10.0
NO_PASSES_S = 3600.0
WATCH_S = 1800
ENDED = {"exitCode": 0, "reason": "Completed", "startedAt": "2026-01-01T00:00:00Z", "finishedAt": ""}


def figures(size: Size) -> Iterator[Figure]:
    late: list[float] = []
    medians: list[float] = []
    spent: list[float] = []
    with kubernetes_grounds(size.kubernetes_pods, watched_poll_s=NO_PASSES_S) as grounds:
        fill(grounds, size.kubernetes_pods)
        seen = Seen(grounds)
        for _ in range(rounds(size)):
            before = grounds.cpu_s("worker")
            delays = changes(grounds, seen, size.kubernetes_changes)
            spent.append(1000 * (grounds.cpu_s("worker") - before) / len(delays))
            late.append(percentile(delays, 0.99))
            medians.append(percentile(delays, 0.5))
            size.note("kubernetes watch", delays=sorted(delays), worker_ms=spent[-1])
    label = f"Kubernetes, {size.kubernetes_pods} pods: change seen to written, p99"
    yield Figure(name=label, samples=late, unit="s", goal=GOAL_S, at_least=False)
    yield Figure(name="  median", samples=medians, unit="s")
    yield Figure(name="  CPU of the worker for each Job that ends", samples=spent, unit="ms")


def fill(grounds: KubernetesGrounds, count: int) -> None:
    """So many jobs that run, each of one pod; the last pass there is has seen them."""
    grounds.start_broker()
    grounds.watched()
    grounds.accept(count - 1)
    wait_until(lambda: state_count(grounds, JobState.RUNNING) >= count, 1800.0, "all run")


def state_count(grounds: KubernetesGrounds, state: JobState) -> int:
    return grounds.broker.store.index.count("vision", f"s={state}")


class Seen:
    """When each Job of ours was seen to be complete, by id of the job."""

    def __init__(self, grounds: KubernetesGrounds) -> None:
        self.at: dict[str, float] = {}
        self._api = grounds.cluster.api
        self._path = grounds.jobs_path
        self._version = self._api.get(f"{self._path}?limit=1")["metadata"]["resourceVersion"]
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        query = f"?watch=true&resourceVersion={self._version}&timeoutSeconds={WATCH_S}"
        for line in self._api.lines(f"{self._path}{query}", WATCH_S):
            now, event = time.time(), json.loads(line)
            conditions = event["object"].get("status", {}).get("conditions", [])
            marker = parse_marker(event["object"]["metadata"].get("labels", {}).get(MARKER, ""))
            if marker and any(one["type"] == "Complete" for one in conditions):
                self.at.setdefault(marker.job_id, now)


def changes(grounds: KubernetesGrounds, seen: Seen, count: int) -> list[float]:
    """So many pods succeed, one after the other; seconds from Job seen to job written."""
    pods = running_pods(grounds)[:count]
    pause, due = threading.Event(), time.monotonic()
    for pod in pods:
        succeed(grounds, pod)
        due += 1 / CHANGES_A_SECOND
        pause.wait(max(0.0, due - time.monotonic()))
    markers = [parse_marker(pod["metadata"]["labels"][MARKER]) for pod in pods]
    ids = [one.job_id for one in markers if one is not None]
    get = grounds.broker.store.jobs.read_many

    def all_ended() -> bool:
        return all(record.state is JobState.COMPLETED for record in get(ids))

    wait_until(all_ended, 120.0, "all have ended")
    wait_until(lambda: set(ids) <= set(seen.at), 10.0, "and were seen to")
    return [(record.ended or 0) / 1000 - seen.at[record.id] for record in get(ids)]


def running_pods(grounds: KubernetesGrounds) -> list[dict[str, Any]]:
    found = grounds.cluster.api.items(PODS.path(grounds.tenant.namespace))
    return [one for one in found if one["status"].get("phase") == "Running"]


def succeed(grounds: KubernetesGrounds, pod: dict[str, Any]) -> None:
    """As a kubelet says it."""
    path = PODS.path(grounds.tenant.namespace, pod["metadata"]["name"], "status")
    ended = {**ENDED, "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    containers = [
        {**one, "state": {"terminated": ended}, "ready": False} for one in pod["status"]["containerStatuses"]
    ]
    grounds.cluster.api.patch(path, {"status": {"phase": "Succeeded", "containerStatuses": containers}})
