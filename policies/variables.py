"""The names that rules may use, their types and where their values come from.

A value that nobody knows (a time limit that the user did not set, the load of a backend that was never
seen) is absent: an expression that needs it has no value, so its rule does not match.  What a user did say
is listed in ``job.given``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache, cached_property
from typing import Any

from api_spec.jobs import JobSpec
from policies.expressions import Language, declare
from policies.facts import BackendFacts, Facts, ShapeFacts

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
    "job.replicas_min":                    "int",                   # 0: not a service, or one that may sleep
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


class JobValues(dict[str, Any]):
    """What rules see of the job and its owner, each value made when it is first asked for."""

    def __init__(self, spec: JobSpec, facts: Facts) -> None:
        self.spec = spec
        self._facts = facts

    def __missing__(self, name: str) -> Any:
        value = self[name] = _OF_THE_JOB[name](self.spec, self._facts)
        return value


class Values(dict[str, Any]):
    """What rules see of one backend, and of the job; ``job`` is shared by all backends of a decision.

    None is a value that nobody knows.
    """

    def __init__(self, job: JobValues, backend: BackendFacts) -> None:
        self.backend = backend
        self.spec = job.spec
        self._job = job

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._make(name)
        return value

    def _make(self, name: str) -> Any:
        backend = self.backend
        if name in _OF_ITS_LOAD:
            unseen = backend.shapes is None or backend.queued_count is None
            return None if unseen else _OF_ITS_LOAD[name](self)
        if name in _OF_ITS_INVENTORY:
            return None if backend.shapes is None else _OF_ITS_INVENTORY[name](self)
        return _OF_THE_BACKEND[name](self) if name in _OF_THE_BACKEND else self._job[name]

    @property
    def shapes(self) -> tuple[ShapeFacts, ...]:
        return self.backend.shapes or ()

    @cached_property
    def fit_now(self) -> int:
        """Jobs like this one that fitted when the load was last looked at."""
        return self.backend.could_start_now(self.spec.resources)


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=min(seconds, _LONGEST_S))


def _whole(seconds: float | None) -> timedelta | None:
    """An age to the second: with less, no two decisions would ever ask the same."""
    return None if seconds is None else _duration(float(int(seconds)))


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


def own_options(spec: JobSpec, backend_type: str, backend: str) -> dict[str, Any]:
    """What the user set for a backend: by its type, then by its name."""
    by_type = {
        "slurm": spec.placement.slurm,
        "kubernetes": spec.placement.kubernetes,
        "local": spec.placement.local,
    }
    return {**by_type.get(backend_type, {}), **spec.placement.options.get(backend, {})}


def _options(of: Values) -> dict[str, str]:
    own = own_options(of.spec, of.backend.type, of.backend.name)
    return {name: str(value) for name, value in own.items()}


def _features(of: Values) -> list[str]:
    return sorted(of.backend.features.union(*(shape.features for shape in of.shapes)))


def _gpu_types(of: Values) -> list[str]:
    """By every name that a job may use."""
    own = {shape.gpu_type for shape in of.shapes if shape.gpu_type}
    return sorted(own.union(*(shape.gpus_by_type for shape in of.shapes)))


def _ahead(of: Values) -> int:
    """The jobs assigned since the snapshot are taken for jobs like this one: nobody knows better here."""
    return (of.backend.queued_count or 0) + max(0, of.backend.assigned_since_snapshot - of.fit_now)


# fmt: off
_OF_THE_JOB: Mapping[str, Callable[[JobSpec, Facts], Any]] = {
    "job.kind":                          lambda spec, _: spec.kind.value,
    "job.name":                          lambda spec, _: spec.name,
    "job.project":                       lambda spec, facts: spec.project or facts.project,
    "job.image":                         lambda spec, _: spec.image or "",
    "job.script":                        lambda spec, _: spec.script is not None,
    "job.priority":                      lambda spec, _: spec.priority.value,
    "job.preemptible":                   lambda spec, _: spec.preemptible,
    "job.labels":                        lambda spec, _: dict(spec.labels),
    "job.given":                         lambda spec, _: _given(spec),
    "job.time_limit":                    lambda spec, _: _duration(spec.time_limit_s),
    "job.volumes":                       lambda spec, _: [volume.source for volume in spec.volumes],
    "job.secrets":                       lambda spec, _: len(spec.secrets),
    "job.array_tasks":                   lambda spec, _: len(spec.array.task_indices) if spec.array else 0,
    "job.max_attempts":                  lambda spec, _: spec.retry.max_attempts,
    "job.replicas_min":                  lambda spec, _: spec.service.replicas.min if spec.service else 0,
    "job.replicas_max":                  lambda spec, _: spec.service.replicas.max if spec.service else 0,
    "job.resources.nodes":               lambda spec, _: spec.resources.nodes,
    "job.resources.tasks_per_node":      lambda spec, _: spec.resources.tasks_per_node,
    "job.resources.cpus_per_task":       lambda spec, _: spec.resources.cpus_per_task,
    "job.resources.cpus_per_node":       lambda spec, _: spec.resources.cpus_per_node,
    "job.resources.memory_per_node_mib": lambda spec, _: spec.resources.memory_per_node_mib,
    "job.resources.gpus_per_node":       lambda spec, _: spec.resources.gpus_per_node,
    "job.resources.gpus":                lambda spec, _: spec.resources.nodes * spec.resources.gpus_per_node,
    "job.resources.gpu_type":            lambda spec, _: spec.resources.gpu_type or "",
    "job.resources.mig_profile":         lambda spec, _: spec.resources.mig_profile or "",
    "job.resources.fabric":              lambda spec, _: spec.resources.fabric.value,
    "user.owner":                        lambda _, facts: facts.owner,
    "user.groups":                       lambda _, facts: sorted(facts.groups),
}
_OF_THE_BACKEND: Mapping[str, Callable[[Values], Any]] = {
    "job.options":                     _options,
    "backend.name":                    lambda of: of.backend.name,
    "backend.type":                    lambda of: of.backend.type,
    "backend.capabilities":            lambda of: sorted(of.backend.capabilities),
    "backend.reachable":               lambda of: of.backend.reachable is True,
    "backend.snapshot_age":            lambda of: _whole(of.backend.snapshot_age_s),
    "backend.assigned":                lambda of: of.backend.assigned_since_snapshot,
    "backend.live_jobs":               lambda of: of.backend.live_jobs,
}
_OF_ITS_INVENTORY: Mapping[str, Callable[[Values], Any]] = {
    "backend.nodes":                   lambda of: sum(shape.count for shape in of.shapes),
    "backend.cpus":                    lambda of: sum(shape.count * shape.cpus for shape in of.shapes),
    "backend.memory_mib":              lambda of: sum(shape.count * shape.memory_mib for shape in of.shapes),
    "backend.gpus":                    lambda of: sum(shape.count * shape.gpus for shape in of.shapes),
    "backend.largest_node_cpus":       lambda of: max((shape.cpus for shape in of.shapes), default=0),
    "backend.largest_node_memory_mib": lambda of: max((shape.memory_mib for shape in of.shapes), default=0),
    "backend.largest_node_gpus":       lambda of: max((shape.gpus for shape in of.shapes), default=0),
    "backend.gpu_types":               _gpu_types,
    "backend.features":                _features,
    "backend.limits":                  lambda of: {n: float(limit) for n, limit in of.backend.limits.items()},
    "backend.holds":                   lambda of: of.backend.holds_at_once(of.spec.resources),
}
_OF_ITS_LOAD: Mapping[str, Callable[[Values], Any]] = {
    "backend.queued":                  lambda of: of.backend.queued_count,
    "backend.running":                 lambda of: of.backend.running_count or 0,
    "backend.free_nodes":              lambda of: sum(shape.free_nodes for shape in of.shapes),
    "backend.free_cpus":               lambda of: sum(shape.free_cpus for shape in of.shapes),
    "backend.free_memory_mib":         lambda of: sum(shape.free_memory_mib for shape in of.shapes),
    "backend.free_gpus":               lambda of: sum(shape.free_gpus for shape in of.shapes),
    "backend.room":                    lambda of: max(0, of.fit_now - of.backend.assigned_since_snapshot),
    "backend.ahead":                   _ahead,
    "backend.backlog":                 lambda of: of["backend.ahead"] / max(1, of["backend.holds"]),
}
# fmt: on


@cache
def language(without: frozenset[str] = frozenset()) -> Language:
    """The expressions that rules are written in; ``without``: less these names."""
    return declare({name: kind for name, kind in VARIABLES.items() if name not in without})
