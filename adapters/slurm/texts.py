"""Texts of a job that cannot reach it as they are, each with the field it stands in.  Pure.

Everything else arrives verbatim: by JSON, by quoted words of the script, or within a here-document.
"""

from __future__ import annotations

from collections.abc import Iterator

from adapters.job_environment import as_text, local_path_or_uri, variable_name
from adapters.slurm.environment import NAME, OF_THE_SHELL, RESERVED
from adapters.slurm.native import escaped
from adapters.slurm.script import interpreter
from api_spec.decisions import Refusal
from api_spec.jobs import JobSpec
from api_spec.reasons import Reason

LONGEST_BYTES = 128 * 1024 - 1
"""MAX_ARG_STRLEN of Linux, with the closing NUL: one argument, or one NAME=VALUE."""


def refusals(spec: JobSpec) -> Iterator[Refusal]:
    for pointer, text in _texts(spec):
        yield from _of_any(pointer, text)
    yield from _of_names(spec)
    yield from _of_the_script(spec)
    if spec.working_directory is not None and not spec.working_directory.startswith("/"):
        yield _invalid("is no absolute path", "/working_directory")


def _invalid(message: str, field: str) -> Refusal:
    return Refusal(Reason.INVALID_SPEC, message, field)


def _texts(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """Each with its field; variables as NAME=VALUE, because so they are limited."""
    for field in ("image", "script", "working_directory"):
        if (text := getattr(spec, field)) is not None:
            yield f"/{field}", text
    for field in ("command", "arguments"):
        for index, text in enumerate(getattr(spec, field)):
            yield f"/{field}/{index}", text
    for name, value in spec.environment.items():
        yield f"/environment/{escaped(name)}", f"{name}={value}"
    yield from _of_files(spec)
    for index, task in enumerate(spec.array.parameters if spec.array else ()):
        for name, value in task.items():
            text = f"BROKER_PARAM_{variable_name(name)}={as_text(value)}"
            yield f"/array/parameters/{index}/{escaped(name)}", text


def _of_files(spec: JobSpec) -> Iterator[tuple[str, str]]:
    for index, volume in enumerate(spec.volumes):
        yield f"/volumes/{index}/source", volume.source
        yield f"/volumes/{index}/mount_path", volume.mount_path
    for index, given in enumerate(spec.inputs):
        name = f"BROKER_INPUT_{variable_name(given.name)}"
        yield f"/inputs/{index}/uri", f"{name}={local_path_or_uri(given.uri or '')}"
    for index, output in enumerate(spec.outputs):
        yield f"/outputs/{index}/path", output.path


def _of_any(pointer: str, text: str) -> Iterator[Refusal]:
    if "\0" in text:
        yield _invalid("holds a NUL, which no process can be given", pointer)
        return
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        yield _invalid("holds half of a character, which has no encoding", pointer)
        return
    if size > LONGEST_BYTES and pointer != "/script":
        yield _invalid(f"has {size} bytes; a process can be given {LONGEST_BYTES} in one piece", pointer)


def _of_names(spec: JobSpec) -> Iterator[Refusal]:
    for field in ("environment", "secrets"):
        for name in getattr(spec, field):
            pointer = f"/{field}/{escaped(name)}"
            if NAME.fullmatch(name) is None:
                yield _invalid("cannot be the name of a variable", pointer)
            elif name.startswith(RESERVED):
                prefix = next(prefix for prefix in RESERVED if name.startswith(prefix))
                owner = "the broker" if prefix == "BROKER_" else "Slurm"
                yield Refusal(Reason.UNSUPPORTED, f"{prefix} names are read by {owner} itself", pointer)
            elif name in OF_THE_SHELL:
                yield Refusal(Reason.UNSUPPORTED, "is set by the shell of the batch script itself", pointer)
    for index, task in enumerate(spec.array.parameters if spec.array else ()):
        if len({variable_name(name) for name in task}) < len(task):
            yield _invalid("has two names that are one as variables", f"/array/parameters/{index}")


def _of_the_script(spec: JobSpec) -> Iterator[Refusal]:
    if spec.script is None:
        return
    if "\r\n" in spec.script:
        yield _invalid("has Windows line ends (CR LF); save it with LF", "/script")
    elif not interpreter(spec.script)[0]:
        yield _invalid("begins with #! and names no program that reads it", "/script")
