"""The names that rules may use, their types and where their values come from.

A value that nobody knows (a time limit that the user did not set, the load of a backend that was never
seen) is absent: an expression that needs it has no value, so its rule does not match.  What a user did say
is listed in ``job.given``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

from api_spec.jobs import JobSpec
from policies.expressions import Language, declare
from policies.facts import BackendFacts, Facts

Values = dict[str, Any]

_LONGEST_S = 100 * 365 * 86400  # a century; more than CEL's own durations can hold is not worth an error

# fmt: off
VARIABLES: Mapping[str, str] = {
    "job.kind":                            "string",                # training, batch or inference
    "job.name":                            "string",
    "job.project":                         "string",
    "job.image":                           "string",                # "": none
    "job.script":                          "bool",                  # it brings a whole batch script
    "job.priority":                        "string",                # low, normal or high
    "job.preemptible":                     "bool",
    "job.labels":                          "map<string, string>",
    "job.given":                           "list<string>",          # what was said: time_limit, image ...
    "job.time_limit":                      "duration",              # absent if not given
    "job.volumes":                         "list<string>",          # their sources
    "job.secrets":                         "int",                   # how many it needs
    "job.array_tasks":                     "int",                   # 0: not an array
    "job.max_attempts":                    "int",
    "job.replicas_min":                    "int",                   # 0: not a service
    "job.replicas_max":                    "int",
    "job.options":                         "map<string, string>",   # its own options for this backend
    "job.resources.nodes":                 "int",
    "job.resources.tasks_per_node":        "int",
    "job.resources.cpus_per_task":         "int",
    "job.resources.cpus_per_node":         "int",
    "job.resources.memory_per_node_mib":   "int",                   # absent if not given
    "job.resources.gpus_per_node":         "int",
    "job.resources.gpus":                  "int",                   # of all nodes together
    "job.resources.gpu_type":              "string",                # "": any
    "job.resources.mig_profile":           "string",                # "": none
    "job.resources.fabric":                "string",                # none, rdma or gpudirect
    "user.owner":                          "string",
    "user.groups":                         "list<string>",
    "backend.name":                        "string",
    "backend.type":                        "string",                # slurm, kubernetes, local ...
    "backend.capabilities":                "list<string>",
    "backend.nodes":                       "int",                   # from here on: absent if never seen
    "backend.cpus":                        "int",
    "backend.memory_mib":                  "int",
    "backend.gpus":                        "int",
    "backend.largest_node_cpus":           "int",
    "backend.largest_node_memory_mib":     "int",
    "backend.largest_node_gpus":           "int",
    "backend.gpu_types":                   "list<string>",
    "backend.features":                    "list<string>",
    "backend.limits":                      "map<string, double>",
    "backend.holds":                       "int",                   # jobs like this one at once, when empty
    "backend.reachable":                   "bool",
    "backend.snapshot_age":                "duration",
    "backend.assigned":                    "int",                   # placed here since the snapshot
    "backend.live_jobs":                   "int",
    "backend.queued":                      "int",
    "backend.running":                     "int",
    "backend.free_nodes":                  "int",
    "backend.free_cpus":                   "int",
    "backend.free_memory_mib":             "int",
    "backend.free_gpus":                   "int",
    "backend.room":                        "int",                   # jobs like this one that can start now
    "backend.ahead":                       "int",                   # jobs that would start before this one
    "backend.backlog":                     "double",                # backend.ahead / backend.holds
}

# What only an inventory tells: a refusal that rests on it is no proof while there is none.
OF_THE_INVENTORY = frozenset({
    "backend.nodes", "backend.cpus", "backend.memory_mib", "backend.gpus", "backend.largest_node_cpus",
    "backend.largest_node_memory_mib", "backend.largest_node_gpus", "backend.gpu_types", "backend.features",
    "backend.limits", "backend.holds",
})
# What can be otherwise in a minute: a refusal that rests on it is never a proof.
OF_THE_MOMENT = frozenset({
    "backend.reachable", "backend.snapshot_age", "backend.assigned", "backend.live_jobs", "backend.queued",
    "backend.running", "backend.free_nodes", "backend.free_cpus", "backend.free_memory_mib",
    "backend.free_gpus", "backend.room", "backend.ahead", "backend.backlog",
})
# fmt: on


def job_values(spec: JobSpec, facts: Facts) -> Values:
    """What is the same for every backend."""
    array, service = spec.array, spec.service
    values: Values = {
        "job.kind": spec.kind.value,
        "job.name": spec.name,
        "job.project": spec.project or facts.project,
        "job.image": spec.image or "",
        "job.script": spec.script is not None,
        "job.priority": spec.priority.value,
        "job.preemptible": spec.preemptible,
        "job.labels": dict(spec.labels),
        "job.given": _given(spec),
        "job.volumes": [volume.source for volume in spec.volumes],
        "job.secrets": len(spec.secrets),
        "job.array_tasks": len(array.task_indices) if array else 0,
        "job.max_attempts": spec.retry.max_attempts,
        "job.replicas_min": service.replicas.min if service else 0,
        "job.replicas_max": service.replicas.max if service else 0,
        "user.owner": facts.owner,
        "user.groups": sorted(facts.groups),
        **_resource_values(spec),
    }
    if spec.time_limit_s is not None:
        values["job.time_limit"] = timedelta(seconds=min(spec.time_limit_s, _LONGEST_S))
    return values


def _resource_values(spec: JobSpec) -> Values:
    wanted = spec.resources
    values: Values = {
        "job.resources.nodes": wanted.nodes,
        "job.resources.tasks_per_node": wanted.tasks_per_node,
        "job.resources.cpus_per_task": wanted.cpus_per_task,
        "job.resources.cpus_per_node": wanted.cpus_per_node,
        "job.resources.gpus_per_node": wanted.gpus_per_node,
        "job.resources.gpus": wanted.nodes * wanted.gpus_per_node,
        "job.resources.gpu_type": wanted.gpu_type or "",
        "job.resources.mig_profile": wanted.mig_profile or "",
        "job.resources.fabric": wanted.fabric.value,
    }
    if wanted.memory_per_node_mib is not None:
        values["job.resources.memory_per_node_mib"] = wanted.memory_per_node_mib
    return values


def _given(spec: JobSpec) -> list[str]:
    said = {
        "array": spec.array,
        "image": spec.image,
        "memory": spec.resources.memory_per_node_mib,
        "gpu_type": spec.resources.gpu_type,
        "mig_profile": spec.resources.mig_profile,
        "project": spec.project,
        "script": spec.script,
        "service": spec.service,
        "time_limit": spec.time_limit_s,
        "working_directory": spec.working_directory,
    }
    return [name for name, value in said.items() if value is not None]


def backend_values(backend: BackendFacts, spec: JobSpec) -> Values:
    values: Values = {
        "job.options": {
            name: str(value) for name, value in own_options(spec, backend.type, backend.name).items()
        },
        "backend.name": backend.name,
        "backend.type": backend.type,
        "backend.capabilities": sorted(backend.capabilities),
        "backend.reachable": backend.reachable is True,
        "backend.assigned": backend.assigned_since_snapshot,
        "backend.live_jobs": backend.live_jobs,
    }
    if backend.snapshot_age_s is not None:
        values["backend.snapshot_age"] = timedelta(seconds=min(backend.snapshot_age_s, _LONGEST_S))
    if backend.shapes is not None:
        values |= _inventory_values(backend, spec)
        if backend.queued_count is not None:
            values |= _load_values(backend, spec, holds=values["backend.holds"])
    return values


def own_options(spec: JobSpec, backend_type: str, backend: str) -> dict[str, Any]:
    """What the user set for a backend: by its type, then by its name."""
    by_type = {
        "slurm": spec.placement.slurm,
        "kubernetes": spec.placement.kubernetes,
        "local": spec.placement.local,
    }
    return {**by_type.get(backend_type, {}), **spec.placement.options.get(backend, {})}


def _inventory_values(backend: BackendFacts, spec: JobSpec) -> Values:
    shapes = backend.shapes or ()
    return {
        "backend.nodes": sum(shape.count for shape in shapes),
        "backend.cpus": sum(shape.count * shape.cpus for shape in shapes),
        "backend.memory_mib": sum(shape.count * shape.memory_mib for shape in shapes),
        "backend.gpus": sum(shape.count * shape.gpus for shape in shapes),
        "backend.largest_node_cpus": max((shape.cpus for shape in shapes), default=0),
        "backend.largest_node_memory_mib": max((shape.memory_mib for shape in shapes), default=0),
        "backend.largest_node_gpus": max((shape.gpus for shape in shapes), default=0),
        "backend.gpu_types": sorted({shape.gpu_type for shape in shapes if shape.gpu_type}),
        "backend.features": sorted(backend.features.union(*(shape.features for shape in shapes))),
        "backend.limits": {name: float(limit) for name, limit in backend.limits.items()},
        "backend.holds": backend.holds_at_once(spec.resources),
    }


def _load_values(backend: BackendFacts, spec: JobSpec, holds: int) -> Values:
    """The jobs assigned since the snapshot are taken for jobs like this one: nobody knows better here."""
    shapes = backend.shapes or ()
    queued, assigned = backend.queued_count or 0, backend.assigned_since_snapshot
    room = backend.could_start_now(spec.resources)
    ahead = queued + max(0, assigned - room)
    return {
        "backend.queued": queued,
        "backend.running": backend.running_count or 0,
        "backend.free_nodes": sum(shape.free_nodes for shape in shapes),
        "backend.free_cpus": sum(shape.free_cpus for shape in shapes),
        "backend.free_memory_mib": sum(shape.free_memory_mib for shape in shapes),
        "backend.free_gpus": sum(shape.free_gpus for shape in shapes),
        "backend.room": max(0, room - assigned),
        "backend.ahead": ahead,
        "backend.backlog": ahead / max(1, holds),
    }


@cache
def language(without: frozenset[str] = frozenset()) -> Language:
    """The expressions that rules are written in; ``without``: less these names."""
    return declare({name: kind for name, kind in VARIABLES.items() if name not in without})
