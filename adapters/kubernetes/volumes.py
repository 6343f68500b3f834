"""What a pod mounts: claims, ConfigMaps and Secrets by name, and what the broker itself puts in.  Pure.

source            pvc:NAME   configmap:NAME   secret:NAME   emptydir   emptydir:SIZE
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from adapters.base import AttemptRef
from adapters.kubernetes.environment import OUTPUTS, counts_from_zero
from adapters.kubernetes.names import SCRIPT, TASKS, Manifest
from adapters.kubernetes.options import Options
from api_spec.jobs import JobSpec, Volume
from api_spec.quantities import InvalidQuantity, parse_memory

NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
OWN = ("/broker", "/dev/shm")  # noqa: S108 - of the pod, which has it for itself
SHM, OUT, FILES = "shared-memory", "outputs", "job"
SOURCES = ("pvc", "configmap", "secret", "emptydir")


@dataclass(frozen=True, kw_only=True)
class Source:
    kind: str
    name: str = ""
    size_mib: int | None = None


class CannotMount(ValueError):
    """The message says what is wrong with a source."""


def source_of(volume: Volume) -> Source:
    """Raises ``CannotMount``."""
    kind, _, rest = volume.source.partition(":")
    if kind not in SOURCES:
        known = ", ".join(f"{one}:NAME" for one in SOURCES[:3])
        raise CannotMount(f"mounts {volume.source}; pods mount {known} and emptydir:SIZE")
    if kind == "emptydir":
        try:
            return Source(kind=kind, size_mib=parse_memory(rest) if rest else None)
        except InvalidQuantity as error:
            raise CannotMount(f"mounts {volume.source}: {error}") from error
    if not NAME.fullmatch(rest):
        raise CannotMount(f"mounts {volume.source}; {rest!r} cannot be the name of a {kind}")
    return Source(kind=kind, name=rest)


def of_pod(spec: JobSpec, ref: AttemptRef, options: Options, shared_memory_mib: int) -> list[Manifest]:
    shm = {"medium": "Memory", "sizeLimit": f"{shared_memory_mib}Mi"}
    found: list[Manifest] = [{"name": SHM, "emptyDir": shm}, {"name": OUT, **_outputs(options)}]
    if files := list(_files(spec, ref)):
        found.append({"name": FILES, "downwardAPI": {"defaultMode": 0o555, "items": files}})
    for number, volume in enumerate(spec.volumes):
        found.append({"name": f"volume-{number}", **_mounted(source_of(volume), volume)})
    return found


def _outputs(options: Options) -> Manifest:
    if options.outputs_claim is None:
        return {"emptyDir": {}}
    return {"persistentVolumeClaim": {"claimName": options.outputs_claim}}


def _files(spec: JobSpec, ref: AttemptRef) -> Iterator[Manifest]:
    """The object itself carries them, so that there is no second one to create, to own and to lose."""
    if spec.script is not None:
        yield {"path": "script", "fieldRef": {"fieldPath": f"metadata.annotations['{SCRIPT}']"}}
    if spec.array is not None and not counts_from_zero(spec, ref):
        yield {"path": "tasks", "fieldRef": {"fieldPath": f"metadata.annotations['{TASKS}']"}}


def _mounted(source: Source, volume: Volume) -> Manifest:
    if source.kind == "pvc":
        return {"persistentVolumeClaim": {"claimName": source.name, "readOnly": volume.read_only}}
    if source.kind == "configmap":
        return {"configMap": {"name": source.name}}
    if source.kind == "secret":
        return {"secret": {"secretName": source.name}}
    return {"emptyDir": {"sizeLimit": f"{source.size_mib}Mi"} if source.size_mib is not None else {}}


def mounts(spec: JobSpec, ref: AttemptRef, options: Options) -> list[Manifest]:
    out: Manifest = {"name": OUT, "mountPath": OUTPUTS}
    if options.outputs_claim is not None:
        out["subPath"] = folder(ref)
    found: list[Manifest] = [{"name": SHM, "mountPath": "/dev/shm"}, out]  # noqa: S108
    if list(_files(spec, ref)):
        found.append({"name": FILES, "mountPath": "/broker/job", "readOnly": True})
    for number, volume in enumerate(spec.volumes):
        one: Manifest = {"name": f"volume-{number}", "mountPath": volume.mount_path}
        found.append({**one, "readOnly": True} if volume.read_only else one)
    return found


def folder(ref: AttemptRef) -> str:
    """Of an attempt's outputs, in the claim."""
    return f"{ref.job_id}/{ref.number}"
