"""What a Slurm backend cannot honour of a specification, each with its code, sentence and field.  Pure.

What depends on the nodes, accounts and limits of the cluster is ``fits``'s, and needs an inventory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters import carried
from adapters.base import AttemptRef, Inventory
from adapters.job_environment import local_path_or_uri
from adapters.slurm import containers, fits, native, texts
from adapters.slurm.identity import slurm_user
from adapters.slurm.native_values import minutes
from adapters.slurm.options import Options
from adapters.slurm.paths import Paths
from adapters.slurm.render import ENDS_BY_ITSELF
from adapters.slurm.script import LARGEST_BYTES, script
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec, Priority
from api_spec.reasons import Reason


def refusals(
    spec: JobSpec, inventory: Inventory | None, options: Options, backend: str, owner: str = ""
) -> Sequence[Refusal]:
    """Without an owner, what holds for any."""
    of_the_job = [
        *_program(spec, options),
        *texts.refusals(spec),
        *native.refusals(spec, options, backend),
        *_resources(spec, options, backend),
        *_paths(spec),
        *_secrets(spec, options, backend),
    ]
    found = [*_owner(owner, options, backend), *of_the_job]
    if of_the_job:  # what cannot be read cannot be compared either
        return found
    found += [*_together(spec, options, backend), *_size(spec, options, backend)]
    if inventory is not None:
        user = slurm_user(owner, options.users) if owner else None
        found += fits.refusals(spec, inventory, options, backend, user)
    return found


def _unsupported(message: str, field: str) -> Refusal:
    return Refusal(Reason.UNSUPPORTED, message, field)


def _invalid(message: str, field: str) -> Refusal:
    return Refusal(Reason.INVALID_SPEC, message, field)


def _owner(owner: str, options: Options, backend: str) -> Iterator[Refusal]:
    if not owner:
        return
    if slurm_user(owner, options.users) is None:
        yield Refusal(Reason.NOT_ALLOWED, f"is for {owner}, who is no user of {backend}")
    try:
        carried.text(AttemptRef(marker="", owner=owner, project="p" * 63, digest="d" * 64, job_id="j" * 26))
    except carried.TooLong as error:
        yield Refusal(Reason.NOT_ALLOWED, f"cannot be carried by Slurm: {error}")


def _program(spec: JobSpec, options: Options) -> Iterator[Refusal]:
    if spec.is_service:
        yield _unsupported("keeps serving; a job of Slurm ends", "/service")
    if spec.image is None:
        if not spec.command and spec.script is None:
            yield _invalid("has neither a command nor a script", "/command")
        return
    if options.containers == "none":
        yield _unsupported("names a container image; this backend runs plain processes", "/image")
    try:
        containers.image_of(spec.image)
    except containers.NoImage as error:
        yield _unsupported(f"names an image {error}", "/image")
    if not spec.command and spec.script is None:
        yield _unsupported("has an image and no command; Pyxis has to be told what to run", "/command")
    elif spec.command[:1] and spec.command[0].startswith("-"):
        yield _invalid("begins with a dash; it has to be a program of the image", "/command/0")


def _resources(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    wanted = spec.resources
    if wanted.mig_profile is not None:
        row = options.mig_profiles.get(wanted.mig_profile)
        if row is None:
            has = ", ".join(sorted(options.mig_profiles)) or "none"
            yield _unsupported(
                f"asks for the slice {wanted.mig_profile}; {backend} has {has}", "/resources/mig_profile"
            )
        elif (
            wanted.gpu_type is not None and options.gpu_types.get(wanted.gpu_type, wanted.gpu_type) not in row
        ):
            yield _unsupported(
                f"asks for a slice of {wanted.gpu_type}; {wanted.mig_profile} is {row}", "/resources/gpu_type"
            )
    if spec.priority is not Priority.NORMAL and spec.priority not in options.priorities:
        yield _unsupported(f"asks for the priority {spec.priority}; {backend} has no such thing", "/priority")


def _paths(spec: JobSpec) -> Iterator[Refusal]:
    for number, volume in enumerate(spec.volumes):
        field = f"/volumes/{number}"
        if not volume.source.startswith("/"):
            yield _unsupported(
                f"mounts {volume.source[:60]}; this backend has the paths of its nodes only",
                f"{field}/source",
            )
        elif spec.image is None:
            yield from _on_the_host(volume.source, volume.mount_path, volume.read_only, field)
        else:
            for word in ("source", "mount_path"):
                if containers.NOT_IN_A_MOUNT.search(getattr(volume, word)):
                    yield _unsupported(f"has a path that Pyxis cannot carry: {SIGNS}", f"{field}/{word}")
    if spec.image is not None:
        yield from _in_a_container(spec)


SIGNS = "no space, comma, colon, quote, backslash, $ or #"


def _on_the_host(source: str, target: str, read_only: bool, field: str) -> Iterator[Refusal]:
    if source.rstrip("/") != target.rstrip("/"):
        yield _unsupported(
            f"mounts {source[:60]} as {target[:60]}; without an image a job sees a path where it is",
            f"{field}/mount_path",
        )
    if read_only:
        yield _unsupported(
            "mounts a volume read-only; without an image nothing keeps a job from writing",
            f"{field}/read_only",
        )


def _in_a_container(spec: JobSpec) -> Iterator[Refusal]:
    for number, given in enumerate(spec.inputs):
        path = local_path_or_uri(given.uri or "")
        mounted = path.startswith("/") and not containers.within_a_volume(spec, path)
        if mounted and containers.NOT_IN_A_MOUNT.search(path):
            yield _unsupported(f"has a path that Pyxis cannot carry: {SIGNS}", f"/inputs/{number}/uri")
    for number, output in enumerate(spec.outputs):
        if output.path.startswith("/") and not containers.within_a_volume(spec, output.path):
            yield _unsupported(
                "lies in no volume, so that it would end with the container; a relative path is kept",
                f"/outputs/{number}/path",
            )


def _secrets(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    if spec.secrets and options.secrets_directory is None:
        yield _unsupported(f"refers to secrets; {backend} has no secrets_directory", "/secrets")


# ---- what has to agree; every option can be read by now ----------------------------------------------


def _together(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    said = {
        name: one.pointer
        for name, one in native.said(spec, options, backend).items()
        if one.pointer is not None
    }
    values = native.chosen(spec, options, backend)
    wanted = spec.resources
    if "mem_per_cpu" in said and wanted.memory_per_node_mib is not None:
        yield _invalid("is said beside memory_per_node; leave one of them out", said["mem_per_cpu"])
    if "cpus_per_gpu" in said and (not wanted.gpus_per_node or wanted.cpus_per_task != 1):
        yield _invalid("needs gpus_per_node, and cpus_per_task left out", said["cpus_per_gpu"])
    if "requeue" in said and values.get("requeue") and ENDS_BY_ITSELF.intersection(spec.retry.on):
        yield _invalid(
            "lets Slurm start the job again, and so does retry.on with NodeLost or Preempted; choose one",
            said["requeue"],
        )
    if spec.image is None:
        for name in sorted(name for name in said if name.startswith("container_")):
            yield _invalid("is about an image, and there is none", said[name])
    yield from _times(spec, values, said)


def _times(spec: JobSpec, values: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[Refusal]:
    least, most = values.get("time_min_min"), spec.time_limit_s and minutes(spec.time_limit_s)
    if "time_min" in said and least is not None and most is not None and least > most:
        yield _invalid(f"is {least} minutes, longer than the time limit of {most}", said["time_min"])
    begin, deadline = values.get("begin_at"), values.get("deadline_at")
    if "deadline" in said and begin is not None and deadline is not None and deadline <= begin:
        yield _invalid("is over before the job may begin", said["deadline"])


def _size(spec: JobSpec, options: Options, backend: str) -> Iterator[Refusal]:
    """Quotes in quotes make five letters of one, so that the text itself says little."""
    paths = Paths(directory=options.directory, marker="m" * 40, array=spec.array is not None)
    chosen = native.chosen(spec, options, backend)
    size = len(script(spec, AttemptRef(marker=paths.marker), paths, options, chosen).encode())
    if size > LARGEST_BYTES:
        field = "/script" if spec.script else "/array" if spec.array else "/arguments"
        yield _unsupported(f"makes a batch script of {size} bytes; Slurm takes {LARGEST_BYTES}", field)
