"""A spec in its one canonical form, out and back.  Plain code: the store runs it on every read.

What is left at its default is left out, units are written as people write them, and what comes out can be
posted again.  ``build_spec`` trusts its input: it reads what ``dump_spec`` wrote (ours, or a server's), skips
members it does not know, and checks nothing.  What users send goes through ``load_spec``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from api_spec.jobs import (
    Array,
    Dependency,
    Fabric,
    Health,
    Input,
    JobSpec,
    Kind,
    Measured,
    Metrics,
    Model,
    Output,
    OutputOf,
    Placement,
    Preset,
    Priority,
    Replicas,
    Resources,
    Retry,
    ScaleOn,
    SecretRef,
    Service,
    Volume,
    When,
)
from api_spec.quantities import format_duration, format_memory, parse_duration, parse_memory

Document = dict[str, Any]


# ---- out ---------------------------------------------------------------------------------------------


def dump_spec(spec: JobSpec) -> Document:
    """In the order in which people write it."""
    members: Document = {
        "kind": spec.kind.value,
        "name": spec.name,
        "project": spec.project,
        "image": spec.image,
        "command": list(spec.command),
        "script": spec.script,
        "arguments": list(spec.arguments),
        "environment": dict(spec.environment),
        "secrets": {name: {"name": ref.name, "key": ref.key} for name, ref in spec.secrets.items()},
        "working_directory": spec.working_directory,
        "resources": _resources(spec.resources),
        "time_limit": spec.time_limit_s and format_duration(spec.time_limit_s),
        "priority": spec.priority.value if spec.priority is not Priority.NORMAL else None,
        "preemptible": spec.preemptible,
        "array": spec.array and _array(spec.array),
        "depends_on": [_dependency(dependency) for dependency in spec.depends_on],
        "retry": _retry(spec.retry),
        "volumes": [_volume(volume) for volume in spec.volumes],
        "inputs": [_input(item) for item in spec.inputs],
        "outputs": [{"name": output.name, "path": output.path} for output in spec.outputs],
        "labels": dict(spec.labels),
        "placement": _placement(spec.placement),
        "hold": spec.hold,
        "service": spec.service and _service(spec.service),
    }
    return _without_defaults(members)


def _without_defaults(members: Document) -> Document:
    """Every default of a spec is empty, false or none; the few that are not are left out where they stand."""
    return {name: value for name, value in members.items() if value}


def _resources(resources: Resources) -> Document:
    changed: Document = {
        "nodes": resources.nodes,
        "tasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
    }
    members = {name: value for name, value in changed.items() if value != 1}
    if resources.memory_per_node_mib is not None:
        members["memory_per_node"] = format_memory(resources.memory_per_node_mib)
    for name in ("gpus_per_node", "gpu_type", "mig_profile"):
        if value := getattr(resources, name):
            members[name] = value
    if resources.fabric is not Fabric.NONE:
        members["fabric"] = resources.fabric.value
    return members


def _array(array: Array) -> Document:
    return _without_defaults(
        {
            "indices": array.indices,
            "parameters": [dict(parameters) for parameters in array.parameters],
            "max_running": array.max_running,
        }
    )


def _dependency(dependency: Dependency) -> Document:
    return _without_defaults({"job": dependency.job, "name": dependency.name, "when": dependency.when.value})


def _retry(retry: Retry) -> Document:
    return {"max_attempts": retry.max_attempts, "on": list(retry.on)} if retry != Retry() else {}


def _volume(volume: Volume) -> Document:
    return _without_defaults(
        {"source": volume.source, "mount_path": volume.mount_path, "read_only": volume.read_only}
    )


def _input(item: Input) -> Document:
    origin = item.from_output
    if origin is None:
        return {"name": item.name, "uri": item.uri}
    return {"name": item.name, "from": {"job": origin.job, "output": origin.output}}


def _placement(placement: Placement) -> Document:
    return _without_defaults(
        {
            "backends": list(placement.backends),
            "slurm": dict(placement.slurm),
            "kubernetes": dict(placement.kubernetes),
            "local": dict(placement.local),
            "options": {name: dict(options) for name, options in placement.options.items()},
        }
    )


def _service(service: Service) -> Document:
    members: Document = {"preset": service.preset.value} if service.preset is not None else {}
    members |= {
        "port": service.port,
        "replicas": {"min": service.replicas.min, "max": service.replicas.max},
    }
    if service.scale_on is not None:
        members["scale_on"] = _scale_on(service.scale_on)
    health = {"path": service.health.path, "live_path": service.health.live_path}
    members["health"] = _without_defaults(health)
    if service.metrics is not None:
        members["metrics"] = {"port": service.metrics.port, "path": service.metrics.path}
    if service.model is not None:
        members["model"] = {"uri": service.model.uri}
    return members


def _scale_on(scale_on: ScaleOn) -> Document:
    whole = scale_on.target if scale_on.target % 1 else int(scale_on.target)
    members: Document = {"metric": scale_on.metric, "target": whole}
    if scale_on.measured is not Measured.REPLICAS:
        members["measured"] = scale_on.measured.value
    if scale_on.selector:
        members["selector"] = dict(scale_on.selector)
    return members


# ---- back --------------------------------------------------------------------------------------------


def build_spec(document: Mapping[str, Any]) -> JobSpec:
    """From what ``dump_spec`` wrote; checks nothing."""
    members = {name: document[name] for name in _AS_THEY_ARE if name in document}
    members.update((name, build(document[name])) for name, build in _BUILDERS.items() if name in document)
    if "time_limit" in document:
        members["time_limit_s"] = parse_duration(document["time_limit"])
    return JobSpec(**members)


def _build_resources(document: Document) -> Resources:
    members = _known(document, "nodes tasks_per_node cpus_per_task gpus_per_node gpu_type mig_profile")
    if "memory_per_node" in document:
        members["memory_per_node_mib"] = parse_memory(document["memory_per_node"])
    if "fabric" in document:
        members["fabric"] = Fabric(document["fabric"])
    return Resources(**members)


def _build_array(document: Document) -> Array:
    return Array(
        indices=document.get("indices"),
        parameters=tuple(document.get("parameters", ())),
        max_running=document.get("max_running"),
    )


def _build_dependency(document: Document) -> Dependency:
    return Dependency(job=document.get("job"), name=document.get("name"), when=When(document["when"]))


def _build_retry(document: Document) -> Retry:
    return Retry(max_attempts=document["max_attempts"], on=tuple(document["on"]))


def _build_input(document: Document) -> Input:
    origin = document.get("from")
    return Input(
        name=document["name"],
        uri=document.get("uri"),
        from_output=origin and OutputOf(job=origin["job"], output=origin["output"]),
    )


def _build_placement(document: Document) -> Placement:
    members = _known(document, "slurm kubernetes local options")
    return Placement(backends=tuple(document.get("backends", ())), **members)


def _build_service(document: Document) -> Service:
    preset, model, metrics = (document.get(name) for name in ("preset", "model", "metrics"))
    return Service(
        port=document["port"],
        replicas=Replicas(**_known(document["replicas"], "min max")),
        scale_on=_build_scale_on(document.get("scale_on")),
        health=Health(**_known(document["health"], "path live_path")),
        model=model and Model(uri=model["uri"]),
        preset=preset and Preset(preset),
        metrics=metrics and Metrics(**_known(metrics, "port path")),
    )


def _build_scale_on(document: Document | None) -> ScaleOn | None:
    if document is None:
        return None
    return ScaleOn(
        metric=document["metric"],
        target=float(document["target"]),
        measured=Measured(document.get("measured", Measured.REPLICAS)),
        selector=tuple(sorted(document.get("selector", {}).items())),
    )


def _known(document: Mapping[str, Any], names: str) -> Document:
    return {name: document[name] for name in names.split() if name in document}


_AS_THEY_ARE = (
    "name", "project", "image", "script", "environment", "working_directory", "preemptible", "labels", "hold",
)  # fmt: skip
_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "kind": Kind,
    "command": tuple,
    "arguments": tuple,
    "secrets": lambda refs: {name: SecretRef(**_known(ref, "name key")) for name, ref in refs.items()},
    "resources": _build_resources,
    "priority": Priority,
    "array": _build_array,
    "depends_on": lambda items: tuple(map(_build_dependency, items)),
    "retry": _build_retry,
    "volumes": lambda items: tuple(Volume(**_known(item, "source mount_path read_only")) for item in items),
    "inputs": lambda items: tuple(map(_build_input, items)),
    "outputs": lambda items: tuple(Output(**_known(item, "name path")) for item in items),
    "placement": _build_placement,
    "service": _build_service,
}
