"""Images through Enroot and Pyxis: the options of ``srun`` that Pyxis adds.  Pure.

They are said to ``srun`` and not to the batch job, because ``srun`` fails loudly where the plug-in is
missing; every other way would run the command on the host.  The list of mounts is in the script to be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.job_environment import local_path_or_uri
from adapters.slurm.environment import carried_into_containers
from adapters.slurm.options import Options
from adapters.slurm.paths import Paths
from api_spec.jobs import JobSpec

# What Enroot's own patterns take, without a user: that is for its file of credentials.
REGISTRY = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?")
REPOSITORY = re.compile(r"[a-z0-9][a-z0-9/._-]*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
NOT_IN_A_MOUNT = re.compile(r"[\s,:\"'\\$#]|[\x00-\x1f\x7f]")
"""Pyxis parts mounts by , and :, and Enroot reads them as lines of an fstab."""


class NoImage(ValueError):
    """The message goes on after "names an image ..."."""


def image_of(text: str) -> str:
    """As Pyxis takes it: ``registry#repository:tag``, or the path of a squashfs file.

    A digest goes where a tag stands, since Enroot reads what is before an @ as a user.
    """
    if text.startswith("/"):
        if NOT_IN_A_MOUNT.search(text):
            raise NoImage("by a path with a space, comma, colon or quote, which Pyxis cannot carry")
        return text
    scheme, separator, rest = text.rpartition("://")
    if separator and scheme != "docker":
        raise NoImage(f"of the kind {scheme[:20]!r}; Pyxis gets docker:// and paths of squashfs files")
    registry, name = _registry_of(rest)
    name, _, digest = name.partition("@")
    repository, colon, tag = name.partition(":")
    well = REPOSITORY.fullmatch(repository) is not None
    well = well and (TAG.fullmatch(tag) is not None if colon else True)
    well = well and (DIGEST.fullmatch(digest) is not None if "@" in rest else True)
    if not well or (registry and REGISTRY.fullmatch(registry) is None):
        raise NoImage("that Enroot cannot read; it takes registry.example/group/name:tag")
    end = f":{digest or tag}" if digest or tag else ""
    return f"{registry}#{repository}{end}" if registry else f"{repository}{end}"


def _registry_of(text: str) -> tuple[str, str]:
    """The first part is a registry if it looks like a host, as Docker has it; Enroot's own form is kept."""
    if "#" in text:
        registry, _, name = text.partition("#")
        return registry, name
    first, slash, rest = text.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return "", text
    return ("" if first in ("docker.io", "index.docker.io") else first), rest


@dataclass(frozen=True)
class Mount:
    source: str
    target: str
    read_only: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.target}{':ro' if self.read_only else ''}"


def mounts(spec: JobSpec, paths: Paths) -> Iterator[Mount]:
    """Volumes, outputs, inputs that are paths of the cluster, and the script; each path once."""
    for volume in spec.volumes:
        yield Mount(volume.source, volume.mount_path, volume.read_only)
    yield Mount(paths.outputs, paths.outputs, False)
    seen = set()
    for given in spec.inputs:
        path = local_path_or_uri(given.uri or "")
        if path.startswith("/") and not within_a_volume(spec, path) and path not in seen:
            seen.add(path)
            yield Mount(path, path, True)
    if spec.script is not None:
        yield Mount(paths.script, paths.script, True)


def within_a_volume(spec: JobSpec, path: str) -> bool:
    return any(f"{path}/".startswith(f"{volume.mount_path.rstrip('/')}/") for volume in spec.volumes)


def arguments(spec: JobSpec, options: Options, paths: Paths, native: Mapping[str, Any]) -> list[str]:
    """For ``srun``, before the command; ``native``: what ``native.chosen`` has found."""
    found = [f"--container-image={image_of(spec.image or '')}"]
    found.append(f"--container-mounts={','.join(map(str, mounts(spec, paths)))}")
    if spec.working_directory is not None:
        found.append(f"--container-workdir={spec.working_directory}")
    found.append(f"--container-env={','.join(carried_into_containers(spec, options))}")
    home, entry = native.get("container_mount_home", False), native.get("container_entrypoint", False)
    found.append("--container-mount-home" if home else "--no-container-mount-home")
    found.append("--container-entrypoint" if entry else "--no-container-entrypoint")
    writable = native.get("container_writable", True)
    found.append("--container-writable" if writable else "--container-readonly")
    return found
