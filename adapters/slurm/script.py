"""The batch script of an attempt.  Pure.

Nothing of a user's stands in it but quoted words, and whole scripts within a here-document, after the first
command: no line of a user's can be a directive.  What only a node knows is set here; all other variables
travel beside the script.

The guard comes first.  Of all jobs that carry the marker, one may run: the one whose id a link holds, which
is made in one step.  Another one ends with 231 and says nothing, since its log is the first one's.  A
requeue comes back with the same id and goes on.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.base import AttemptRef
from adapters.slurm import containers, environment, log_links
from adapters.slurm.options import Options
from adapters.slurm.paths import TASK, Paths
from api_spec.jobs import JobSpec

SECOND_COPY = 231  # a copy that is not the first
NOT_STARTED = 232  # one that can claim nothing, or whose files cannot be written

LARGEST_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""MaxScriptSize of Slurm, with a margin."""

OURS = 'ours() { PATH=/usr/local/bin:/usr/bin:/bin "$@"; }'
"""For the tools that the script itself needs: the job's own PATH is for the job."""


def script(
    spec: JobSpec, ref: AttemptRef, paths: Paths, options: Options, native: Mapping[str, Any] | None = None
) -> str:
    lines = [
        # -p: no functions from the environment, no BASH_ENV, nothing of a user's before the guard
        "#!/bin/bash -p",
        f"# {paths.marker}: one attempt of a job of the broker",
        OURS,
        *(_guard(paths) if options.guard else ()),
        *_variables(spec, ref, paths),
        *_files(spec, paths),
        *_place(spec, paths),
        *_links(spec, paths, native or {}),
        *(_has_pyxis() if spec.image is not None else ()),
        _start(spec, paths, options, native or {}),
    ]
    return "\n".join(lines) + "\n"


def _guard(paths: Paths) -> Iterator[str]:
    claim = paths.claim_in_shell
    # -T: where the link's text is the name of a directory, ln would make another link within it
    yield f'if ! ours ln -sT -- "$SLURM_JOB_ID" {claim} 2>/dev/null; then'
    yield f"  if ! BROKER_CLAIM=$(ours readlink -- {claim}); then"
    yield f"    {_complaint('it cannot be claimed in its directory, which is not there or not writable')}"
    yield "  fi"
    yield f'  [ "$BROKER_CLAIM" = "$SLURM_JOB_ID" ] || exit {SECOND_COPY}'
    yield "  unset BROKER_CLAIM"
    yield "fi"


def _complaint(why: str) -> str:
    return f"echo {shlex.quote(f'broker: the job was not started: {why}')} >&2; exit {NOT_STARTED}"


def _variables(spec: JobSpec, ref: AttemptRef, paths: Paths) -> Iterator[str]:
    if "HOME" not in spec.environment:
        yield '[ -n "${HOME+set}" ] || HOME=~; export HOME SHELL'  # slurmd sets neither
    if spec.array is None:
        return
    yield f"export BROKER_TASK_INDEX={TASK} BROKER_OUTPUT_DIR={paths.output_in_shell}"
    if spec.array.parameters:
        yield 'case "$SLURM_ARRAY_TASK_ID" in'
        for index in ref.task_indices or spec.array.task_indices:
            values = environment.parameters(spec.array.parameters[index])
            words = " ".join(f"{name}={shlex.quote(value)}" for name, value in sorted(values.items()))
            yield f"  {index}) {f'export {words}' if words else ':'} ;;"
        yield f"  *) {_complaint('it is a task that the broker has not asked for')} ;;"
        yield "esac"


def _files(spec: JobSpec, paths: Paths) -> Iterator[str]:
    yield f"ours mkdir -p -- {paths.output_in_shell} || {{"
    yield f"  {_complaint('its output directory cannot be made')}; }}"
    if spec.script is not None:
        yield from _file(paths.script, spec.script, "SCRIPT", paths)
    if needs_a_step_file(spec):
        words = shlex.join(argv(spec, paths))
        body = f'export BROKER_NODE_RANK="$SLURM_NODEID"\nexec {words}\n'
        yield from _file(paths.step, body, "STEP", paths)


def _file(path: str, text: str, word: str, paths: Paths) -> Iterator[str]:
    """Written aside and renamed, because the tasks of an array write the same file at once."""
    lines = set(text.split("\n"))
    end = f"{word}-OF-{paths.marker}"
    while end in lines:
        end += "-"
    draft = f'{shlex.quote(path)}."$SLURM_JOB_ID"'
    yield f"ours cat >{draft} <<'{end}' && ours mv -fT -- {draft} {shlex.quote(path)} || {{"
    yield text.removesuffix("\n")
    yield end
    yield f"  {_complaint('its script cannot be written')}; }}"


def _place(spec: JobSpec, paths: Paths) -> Iterator[str]:
    """In a container the working directory is one of the container's."""
    wanted = None if spec.image is not None else spec.working_directory
    yield f"cd -- {paths.output_in_shell if wanted is None else shlex.quote(wanted)} || {{"
    yield f"  {_complaint('its working directory cannot be entered')}; }}"


def _links(spec: JobSpec, paths: Paths, native: Mapping[str, Any]) -> Iterator[str]:
    """After the working directory: what is no whole path counts from there."""
    for link, log in log_links.in_shell(spec, paths, native):
        # -T: where a directory has that name, ln would make the link within it
        yield f"ours ln -sfT -- {log} {link} || {{"
        yield f"  {_complaint('the link to its log, which output or error asks for, cannot be made')}; }}"
    if log_links.are_one(native):
        yield "exec 2>&1"


def _has_pyxis() -> Iterator[str]:
    """No API of Slurm tells which plug-ins there are; of an option that it does not know srun tells the log
    alone."""
    yield 'case "$(srun --help 2>/dev/null)" in'
    yield "  *--container-image*) ;;"
    yield f"  *) {_complaint('there is no Pyxis on this node, and so no images')} ;;"
    yield "esac"


def _start(spec: JobSpec, paths: Paths, options: Options, native: Mapping[str, Any]) -> str:
    """``exec``, so that signals and the exit code are the job's own."""
    if not needs_srun(spec):
        return f"exec -- {shlex.join(argv(spec, paths))}"
    wanted = spec.resources
    words = [
        "srun",
        f"--nodes={wanted.nodes}",
        f"--ntasks={wanted.nodes * wanted.tasks_per_node}",
        f"--ntasks-per-node={wanted.tasks_per_node}",
        "--kill-on-bad-exit=1",
    ]
    if not native.get("cpus_per_gpu"):  # srun does not take it from the job (22.05 and later)
        words.append(f"--cpus-per-task={wanted.cpus_per_task}")
    if spec.image is not None:
        words += containers.arguments(spec, options, paths, native)
        if needs_a_step_file(spec):
            words = [_with_mount(word, paths) for word in words]
    shell = "/bin/sh" if spec.image is not None else "/bin/bash"
    command = [shell, paths.step] if needs_a_step_file(spec) else argv(spec, paths)
    return f"exec {shlex.join([*words, '--', *command])}"


def _with_mount(word: str, paths: Paths) -> str:
    if not word.startswith("--container-mounts="):
        return word
    return f"{word},{containers.Mount(paths.step, paths.step, True)}"


# ---- what is run -------------------------------------------------------------------------------------


def needs_srun(spec: JobSpec) -> bool:
    """A ``script`` without an image is one process on the first node, as sbatch has it."""
    return spec.image is not None or (spec.script is None and _processes(spec) > 1)


def needs_a_step_file(spec: JobSpec) -> bool:
    """Where processes have to learn their node's rank, or an argument is what srun parts commands by."""
    if not needs_srun(spec):
        return False
    return _processes(spec) > 1 or ":" in (*spec.command, *spec.arguments)


def _processes(spec: JobSpec) -> int:
    return spec.resources.nodes * spec.resources.tasks_per_node


def argv(spec: JobSpec, paths: Paths) -> list[str]:
    """Of the user's own program."""
    if spec.script is None:
        return [*spec.command, *spec.arguments]
    return [*interpreter(spec.script), paths.script, *spec.arguments]


def interpreter(text: str) -> list[str]:
    """Of a script, as the kernel reads its first line: a program and at most one argument."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return ["/bin/sh"]
    return re.split(r"[ \t]+", first[2:].strip(" \t"), maxsplit=1)
