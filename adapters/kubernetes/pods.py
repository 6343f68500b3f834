"""The pod of an attempt, from an allow-list: nothing of a job gets into it but what is named here.  Pure.

It passes Pod Security "restricted", unless the operator's fabric needs IPC_LOCK.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from adapters.base import AttemptRef
from adapters.errors import Rejected
from adapters.kubernetes import devices, environment, probes, topology, volumes
from adapters.kubernetes.names import LABELS, MAIN, SCRIPT, TASKS, Manifest
from adapters.kubernetes.native import Native
from adapters.kubernetes.options import Options, Toleration
from api_spec.jobs import JobSpec

GPU_TAINT = Toleration(key="nvidia.com/gpu", effect="NoSchedule")
NETWORKS = "k8s.v1.cni.cncf.io/networks"
SLICE = "nvidia.com/mig-"
PRODUCT = "nvidia.com/gpu.product"
FILES = "/broker/job"
LABEL = "label.workload-broker"
"""Prefix of annotations that carry the job's own labels: not every value could be one of Kubernetes'."""


def template(spec: JobSpec, ref: AttemptRef, options: Options, native: Native, labels: Manifest) -> Manifest:
    found: Manifest = {"metadata": {"labels": labels}, "spec": _pod(spec, ref, options, native)}
    if notes := _annotations(spec, ref, options):
        found["metadata"]["annotations"] = notes
    return found


def _annotations(spec: JobSpec, ref: AttemptRef, options: Options) -> dict[str, str]:
    found = {}
    if spec.script is not None:
        found[SCRIPT] = spec.script
    if spec.array is not None and needs_a_shell(spec, ref):
        found[TASKS] = environment.of_tasks(spec.array, environment.indices_of(spec, ref))
    found |= {f"{LABEL}/{name}": value for name, value in spec.labels.items() if "/" not in name}
    if others := {name: value for name, value in spec.labels.items() if "/" in name}:
        found[LABELS] = json.dumps(others, sort_keys=True)
    if network := environment.fabric_of(spec, options).network:
        found[NETWORKS] = network
    return found | probes.scraped(spec.service)


def needs_a_shell(spec: JobSpec, ref: AttemptRef) -> bool:
    """A table of tasks is looked up by whoever starts the command."""
    return spec.array is not None and not environment.counts_from_zero(spec, ref)


def _pod(spec: JobSpec, ref: AttemptRef, options: Options, native: Native) -> Manifest:
    found: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": options.run_as_user,
            "runAsGroup": options.run_as_group,
            "fsGroup": options.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # Kubernetes counts from the moment in which it is told to go.
        "terminationGracePeriodSeconds": native.grace_s + (options.drain_s if spec.is_service else 0),
        "containers": [_container(spec, ref, options, native)],
        "volumes": volumes.of_pod(spec, ref, options, native.shared_memory_mib),
        "tolerations": list(_tolerations(spec, options)),
        **devices.of_pod(spec, ref.marker, options),
    }
    if not spec.is_service:
        found["restartPolicy"] = "Never"
        if spec.time_limit_s is not None:
            found["activeDeadlineSeconds"] = spec.time_limit_s
    if spec.resources.nodes > 1:
        found["subdomain"] = ref.marker
    found |= topology.members(spec, native, options, ref.marker)
    if selector := _node_labels(spec, options, native):
        found["nodeSelector"] = selector
    if spec.resources.gpus_per_node and options.runtime_class and not devices.are_claimed(spec, options):
        found["runtimeClassName"] = options.runtime_class
    if options.service_account:
        found["serviceAccountName"] = options.service_account
    if options.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    if (priority := _priority_class(spec, options)) is not None:
        found["priorityClassName"] = priority
    return found


def _priority_class(spec: JobSpec, options: Options) -> str | None:
    if spec.preemptible and options.preemptible:
        return options.preemptible
    return options.priorities.get(spec.priority.value)


def _node_labels(spec: JobSpec, options: Options, native: Native) -> dict[str, str]:
    found = {**native.node_labels, **environment.fabric_of(spec, options).node_labels}
    if spec.resources.gpu_type is not None and not devices.are_claimed(spec, options):
        found[PRODUCT] = options.gpu_types.get(spec.resources.gpu_type, spec.resources.gpu_type)
    return found


def _tolerations(spec: JobSpec, options: Options) -> Iterator[dict[str, str]]:
    """Nodes with GPUs are kept for pods that want one."""
    of_gpus = [GPU_TAINT] if spec.resources.gpus_per_node else []
    for one in [*of_gpus, *options.tolerations]:
        members = {"key": one.key, "operator": one.operator, "value": one.value, "effect": one.effect}
        yield {name: value for name, value in members.items() if value is not None}


# ---- the container -----------------------------------------------------------------------------------


def _container(spec: JobSpec, ref: AttemptRef, options: Options, native: Native) -> Manifest:
    capabilities: Manifest = {"drop": ["ALL"]}
    if environment.fabric_of(spec, options).ipc_lock:
        capabilities["add"] = ["IPC_LOCK"]
    found: Manifest = {
        "name": MAIN,
        "image": spec.image,
        "env": environment.of_pod(spec, ref, options, ref.marker),
        "resources": _resources(spec, options),
        "volumeMounts": volumes.mounts(spec, ref, options),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": capabilities},
        # The end of the log stays with the object when the log is gone.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    command, arguments = words(spec, ref)
    if command:
        found["command"] = [environment.literal(word) for word in command]
    if arguments:
        found["args"] = [environment.literal(word) for word in arguments]
    if spec.working_directory is not None:
        found["workingDir"] = spec.working_directory
    if spec.service is not None:
        found |= probes.served(spec.service)
        if options.drain_s:
            found["lifecycle"] = {"preStop": {"sleep": {"seconds": options.drain_s}}}
    return found


def words(spec: JobSpec, ref: AttemptRef) -> tuple[list[str], list[str]]:
    """Command and arguments; of an image alone only the latter.  Raises ``Rejected`` for what cannot run."""
    command = list(spec.command)
    if spec.script is not None:
        file = f"{FILES}/script"
        command = [file] if spec.script.startswith("#!") else ["/bin/sh", file]
    if needs_a_shell(spec, ref):
        if not command:
            why = "some of its tasks are left out, cancelled or done before"
            raise Rejected(f"{why}; the others are looked up by a shell, which must know the command")
        command = ["/bin/sh", "-c", f'. {FILES}/tasks && exec "$@"', "sh", *command]
    return command, list(spec.arguments)


def _resources(spec: JobSpec, options: Options) -> Manifest:
    """Whole numbers as text, which is what quantities are.  CPUs are no limit: a pod may use what is idle."""
    wanted = spec.resources
    requests = {"cpu": str(wanted.cpus_per_node)}
    limits = {name: str(count) for name, count in extended(spec, options).items()}
    if wanted.memory_per_node_mib is not None:
        limits["memory"] = requests["memory"] = f"{wanted.memory_per_node_mib}Mi"
    found: Manifest = {"requests": requests, **({"limits": limits} if limits else {})}
    return {**found, **devices.of_container(spec, options)}


def slice_of(profile: str) -> str:
    """As the device plug-in calls it: 1g.10gb+me would be no name of a resource."""
    return f"{SLICE}{profile.replace('+', '.')}"


def profile_of(name: str) -> str:
    """Of a slice, as people write it."""
    size, unit, more = name.removeprefix(SLICE).partition("gb")
    return f"{size}{unit}{'+' + more[1:] if more else ''}"


def extended(spec: JobSpec, options: Options) -> dict[str, int]:
    """Of each pod: GPUs or slices of them, and what the fabric takes."""
    wanted, found = spec.resources, {}
    if wanted.gpus_per_node and not devices.are_claimed(spec, options):
        name = options.gpu_resource
        if wanted.mig_profile is not None:
            name = options.mig_profiles.get(wanted.mig_profile, slice_of(wanted.mig_profile))
        found[name] = wanted.gpus_per_node
    if resource := environment.fabric_of(spec, options).resource:
        found[resource] = 1
    return found
