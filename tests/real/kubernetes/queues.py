"""Kueue and JobSet without their controllers: their kinds, and a test that says what they would say.

with installed(cluster):
    kueue = Kueue(cluster.api, namespace)
    kueue.make_queue("research")
    workload = kueue.accept(job)      # as Kueue does when it sees a Job in a queue
    kueue.admit(job)                  # and starts it

The kinds have the schemas that their projects publish, so that the API server takes what they allow and drops
what they do not know; Jobs are the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.helpers import wait_until
from tests.published import definition, published
from tests.real.kubernetes.api import Api, ApiError, Object

KUEUE, VERSION = "kueue.x-k8s.io", "v1beta2"
JOBSET, JOBSET_VERSION = "jobset.x-k8s.io", "v1alpha2"
KINDS = ("workloads", "localqueues", "clusterqueues", "jobsets")
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PATIENCE_S = 30.0


@contextmanager
def installed(cluster: Any) -> Iterator[None]:
    """Gone afterwards, with all objects of these kinds."""
    kinds = {plural: published(plural) for plural in KINDS}
    definitions = {plural: f"{DEFINITIONS}/{plural}.{one['group']}" for plural, one in kinds.items()}
    for plural in kinds:
        cluster.api.create(definition(plural))
    try:
        for plural, one in kinds.items():
            served = f"/apis/{one['group']}/{one['version']}/{plural}"
            wait_until(lambda at=served: answers(cluster.api, at), PATIENCE_S, f"{plural} are served")
        yield
    finally:
        for path in definitions.values():
            cluster.api.delete(path)
        for plural, path in definitions.items():
            wait_until(lambda at=path: not cluster.api.exists(at), PATIENCE_S, f"{plural} are gone")


def answers(api: Api, path: str) -> bool:
    try:
        return api.get(path)["kind"] != ""
    except ApiError:
        return False


def condition(kind: str, reason: str, message: str = "", *, holds: bool = True) -> Object:
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    found = {"type": kind, "status": "True" if holds else "False", "reason": reason, "message": message}
    return {**found, "lastTransitionTime": now}


class Kueue:
    """What it does to Workloads and Jobs of a namespace, one step at a time."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self._path = f"/apis/{KUEUE}/{VERSION}/namespaces/{namespace}"

    def make_queue(self, name: str) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        spec = {"clusterQueue": "all"}
        group = f"{KUEUE}/{VERSION}"
        self.api.create({"apiVersion": group, "kind": "LocalQueue", "metadata": metadata, "spec": spec})

    def accept(self, job: Object) -> Object:
        """The Workload that it makes of a Job, named as nobody could guess."""
        metadata = job["metadata"]
        owner = {key: job[key] for key in ("apiVersion", "kind")}
        owner |= {"name": metadata["name"], "uid": metadata["uid"], "controller": True}
        return self.api.create(
            {
                "apiVersion": f"{KUEUE}/{VERSION}",
                "kind": "Workload",
                "metadata": {
                    "name": f"{job['kind'].lower()}-{metadata['name']}-{metadata['uid'][:5]}",
                    "namespace": self.namespace,
                    "labels": {f"{KUEUE}/job-uid": metadata["uid"]},
                    "ownerReferences": [owner],
                },
                "spec": {"active": True, "queueName": metadata["labels"][f"{KUEUE}/queue-name"]},
            }
        )

    def workload(self, job: Object) -> Object:
        uid = job["metadata"]["uid"]
        found = self.api.items(f"{self._path}/workloads?labelSelector={KUEUE}/job-uid={uid}")
        return found[0]

    def says(self, job: Object, *conditions: Object, **status: Any) -> None:
        name = self.workload(job)["metadata"]["name"]
        body = {"status": {"conditions": list(conditions), **status}}
        self.api.patch(f"{self._path}/workloads/{name}/status", body)

    def admit(self, job: Object, *conditions: Object, **status: Any) -> None:
        reserved = condition("QuotaReserved", "QuotaReserved", "Quota reserved in ClusterQueue all")
        admitted = condition("Admitted", "Admitted", "The workload is admitted")
        self.says(job, reserved, admitted, *conditions, **status)
        self.start(job, True)

    def evict(self, job: Object, reason: str, message: str, count: int = 1) -> None:
        """And stops the Job, as it does when it needs the quota for another one."""
        evictions = [{"reason": reason, "underlyingCause": "", "count": count}]
        self.says(
            job,
            condition("QuotaReserved", "Pending", message, holds=False),
            condition("Evicted", reason, message),
            condition("Admitted", "NoReservation", message, holds=False),
            schedulingStats={"evictions": evictions},
        )
        self.start(job, False)

    def start(self, job: Object, runs: bool) -> None:
        metadata = job["metadata"]
        place = "jobs" if job["kind"] == "Job" else "jobsets"
        path = f"/apis/{job['apiVersion']}/namespaces/{self.namespace}/{place}/{metadata['name']}"
        self.api.patch(path, {"spec": {"suspend": not runs}})


class JobSets:
    """What the controller of JobSets does, one step at a time."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api = api
        self._path = f"/apis/{JOBSET}/{JOBSET_VERSION}/namespaces/{namespace}/jobsets"

    def of(self, marker: str) -> Object:
        return self.api.get(f"{self._path}/{marker}")

    def make_its_job(self, marker: str) -> Object:
        """A real one, from the template; it runs unless the JobSet is suspended."""
        there = self.of(marker)
        [replicated] = there["spec"]["replicatedJobs"]
        owner = {key: there[key] for key in ("apiVersion", "kind")}
        owner |= {"name": marker, "uid": there["metadata"]["uid"], "controller": True}
        spec = {**replicated["template"]["spec"], "suspend": there["spec"].get("suspend", False)}
        metadata = {
            "name": f"{marker}-{replicated['name']}-0",
            "namespace": there["metadata"]["namespace"],
            "ownerReferences": [owner],
        }
        return self.api.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})

    def suspend_its_job(self, marker: str) -> None:
        namespace = self.of(marker)["metadata"]["namespace"]
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{marker}-workers-0"
        if self.api.exists(path):
            self.api.patch(path, {"spec": {"suspend": True}})
        self.says(marker, condition("Suspended", "SuspendedJobs", "jobset is suspended"))

    def says(self, marker: str, *conditions: Object, **status: Any) -> None:
        self.api.patch(
            f"{self._path}/{marker}/status", {"status": {"conditions": list(conditions), **status}}
        )
