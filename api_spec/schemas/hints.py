"""What to say about a field that does not exist: did you mean, and where it belongs.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

KINDS = ("training", "batch", "inference")

# What people write at the top who come from sbatch, Kubernetes or another launcher, and where it belongs.
# fmt: off
ELSEWHERE = {
    "type":       "kind",
    "job_name":   "name",
    "container":  "image",
    "cmd":        "command",
    "args":       "arguments",
    "env":        "environment",
    "chdir":      "working_directory",
    "cwd":        "working_directory",
    "workdir":    "working_directory",
    "walltime":   "time_limit",
    "timeout":    "time_limit",
    "time":       "time_limit",
    "mounts":     "volumes",
    "dependency": "depends_on",
    "dependencies": "depends_on",
    "after":      "depends_on",
    "retries":    "retry.max_attempts",
    "tags":       "labels",
    "cpus":       "resources.cpus_per_task",
    "cores":      "resources.cpus_per_task",
    "gpus":       "resources.gpus_per_node",
    "gpu":        "resources.gpus_per_node",
    "memory":     "resources.memory_per_node",
    "mem":        "resources.memory_per_node",
    "ntasks":     "resources.tasks_per_node",
    "replicas":   "service.replicas",
    "port":       "service.port",
    "model":      "service.model",
    "backend":    "placement.backends",
    "partition":  "placement.slurm.partition",
    "account":    "placement.slurm.account",
    "qos":        "placement.slurm.qos",
    "namespace":  "placement.kubernetes.namespace",
    "queue":      "placement.kubernetes.queue",
}
# fmt: on
_RESOURCES = ("nodes", "tasks_per_node", "cpus_per_task", "memory_per_node", "gpus_per_node", "gpu_type")
ELSEWHERE.update({name: f"resources.{name}" for name in (*_RESOURCES, "mig_profile", "fabric")})


def of_an_unknown_field(name: str, known: Collection[str]) -> str:
    if name == "service":
        return "only inference jobs have a service; leave it out, or set kind to inference"
    if name == "array":
        return "an inference job cannot be an array; use service.replicas for several copies"
    place = _place(name, known)
    if place is not None:
        return f'there is no such field; did you mean "{place}"?'
    return f"there is no such field; there are {', '.join(sorted(known))}"


def of_an_unknown_kind(value: object) -> str:
    close = get_close_matches(value.lower()[:40], KINDS, n=1) if isinstance(value, str) else []
    hint = f'; did you mean "{close[0]}"?' if close else ""
    return f"must be one of {', '.join(KINDS)}{hint}"


def _place(name: str, known: Collection[str]) -> str | None:
    folded = name.lower().replace("-", "_")
    if "kind" in known and folded in ELSEWHERE:  # at the top of a spec; below it the names are too few
        return ELSEWHERE[folded]
    close = get_close_matches(folded[:60], known, n=1, cutoff=0.6)
    return close[0] if close else None
