"""A finite job on several nodes as a JobSet, and what a JobSet says, as if it were a Job.  Pure.

One replicated Job has all the pods, so that an index is a node's rank as it is in an Indexed Job.  Written
against jobset.x-k8s.io/v1alpha2, and never run against its controller.
"""

from __future__ import annotations

from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.options import Options
from api_spec.jobs import JobSpec

WORKERS = "workers"
OF_THE_SET = ("suspend", "ttlSecondsAfterFinished")
"""Of a Job: what the JobSet says for it."""
CONDITIONS = {"Completed": "Complete"}
"""Called otherwise than a Job's."""


def wanted(spec: JobSpec, options: Options) -> bool:
    return options.job_sets and spec.resources.nodes > 1 and not spec.is_service


def leader(marker: str) -> str:
    """Host name of its first pod."""
    return f"{marker}-{WORKERS}-0-0"


def marker_of(name: str) -> str:
    """Of what is named after the Job of a JobSet; any other name stays."""
    return name.removesuffix(f"-{WORKERS}-0")


def body(job: Manifest, marker: str) -> Manifest:
    """It starts nothing again: another try is another attempt, and the broker's to make."""
    inner = {name: value for name, value in job.items() if name not in OF_THE_SET}
    return {
        **{name: job[name] for name in OF_THE_SET},
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True, "subdomain": marker},
        "successPolicy": {"operator": "All"},
        "failurePolicy": {"maxRestarts": 0},
        "replicatedJobs": [{"name": WORKERS, "replicas": 1, "template": {"spec": inner}}],
    }


def as_job(found: Manifest) -> Manifest:
    """Its conditions by a Job's names, and how many pods it has."""
    replicated = rows(member(found, "spec", "replicatedJobs"))
    inner = member(replicated[0], "template", "spec") if replicated else None
    counts = {name: member(inner, name) for name in ("completions", "parallelism")}
    status = member(found, "status")
    conditions = [{**one, "type": _renamed(one.get("type"))} for one in rows(member(status, "conditions"))]
    last = member(status, "terminalState")
    if isinstance(last, str) and last and not any(_is(one, _renamed(last)) for one in conditions):
        conditions.append({"type": _renamed(last), "status": "True"})
    spec = {"suspend": member(found, "spec", "suspend"), **counts}
    return {**found, "spec": spec, "status": {"conditions": conditions}}


def _renamed(condition: object) -> str:
    return CONDITIONS.get(str(condition), str(condition))


def _is(condition: Manifest, wanted: str) -> bool:
    return condition["type"] == wanted and condition.get("status") == "True"
