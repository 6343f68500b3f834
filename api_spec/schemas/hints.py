"""What to say about a field that does not exist (did you mean, and where it belongs) or that is written as
one writes it elsewhere.  Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection
from difflib import get_close_matches

UNKNOWN = "there is no such field"
LONGEST_COMMAND_LINE = 200  # more is not repeated to the one who wrote it
FOR_A_SHELL = frozenset("|&;<>()$`*?~#\n")
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
    if "spec" in known:
        return f'{UNKNOWN}; what a job is goes below spec: {{"spec": {{{json.dumps(name[:60])}: ...}}}}'
    if name == "service" and "kind" in known:
        return "only inference jobs have a service; leave it out, or set kind to inference"
    if name == "array" and "kind" in known:
        return "an inference job cannot be an array; use service.replicas for several copies"
    place = _place(name, known)
    if place is not None:
        return f'{UNKNOWN}; did you mean "{place}"?'
    return f"{UNKNOWN}; there are {', '.join(sorted(known))}"


def of_a_command_line(text: str, *, starts_a_program: bool) -> str:
    """For one string where a list is wanted; what only a shell would understand is left to one."""
    if len(text) > LONGEST_COMMAND_LINE:
        return 'must be a list, such as ["python3", "train.py"]'
    try:
        words = shlex.split(text)
    except ValueError:  # a quote without its second
        words = []
    if not words or (starts_a_program and FOR_A_SHELL.intersection(text)):
        words = ["sh", "-c", text] if starts_a_program else [text]
    return f"must be a list: {json.dumps(words, ensure_ascii=False)}"


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
