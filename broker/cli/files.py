"""Job files: YAML with several documents, JSON, or sbatch scripts, as specifications with their position.

What belongs to this machine is settled here, because the broker cannot: a ``working_directory`` that begins
with a dot is taken from the directory of the file, and an sbatch script runs, as under sbatch, where it is
submitted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_spec.errors import InvalidSpec
from broker.cli.sbatch import looks_like_sbatch, read_sbatch
from broker.yaml_files import Document, read_documents


@dataclass(frozen=True)
class JobFile:
    """One specification.  ``document`` knows the lines of what was YAML or JSON."""

    spec: dict[str, Any]
    source: str
    document: Document | None = None

    def place(self, pointer: str) -> str:
        """``file:line:column`` of a JSON pointer into the spec; the file alone where there are no lines."""
        if self.document is None:
            return self.source
        path: list[str | int] = []
        at: Any = self.document.data
        for part in (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]):
            path.append(int(part) if isinstance(at, list) and part.isdecimal() else part)
            at = inside(at, path[-1])
        line, column = self.document.locate(tuple(path))
        return f"{self.source}:{line}:{column}"


def inside(value: Any, step: str | int) -> Any:
    try:
        return value[step]
    except (KeyError, IndexError, TypeError):
        return None


def read_specs(names: Sequence[str], ignore: Collection[str] = ()) -> list[JobFile]:
    """All specifications of all files, in order; ``-`` is standard input."""
    return [job for name in names for job in read_file(name, ignore)]


def source_of(name: str) -> str:
    return "<stdin>" if name == "-" else name


def read_text(name: str) -> str:
    """Raises ``InvalidSpec`` for what is no text, or is not there."""
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text()
    except OSError as error:
        raise InvalidSpec(f"{source_of(name)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        message = f"{source_of(name)} is not UTF-8: byte {error.start} cannot be read"
        raise InvalidSpec(message) from error


def read_file(name: str, ignore: Collection[str] = ()) -> Iterator[JobFile]:
    source, text = source_of(name), read_text(name)
    if looks_like_sbatch(text):
        yield JobFile(sbatch_spec(text, source, ignore), source)
        return
    documents = read_documents(text, source, InvalidSpec)
    if not documents:
        raise InvalidSpec(f"{source}: there is no job in it")
    base = Path.cwd() if name == "-" else Path(name).resolve().parent
    for document in documents:
        yield from jobs_of(document, base)


def jobs_of(document: Document, base: Path) -> Iterator[JobFile]:
    if not isinstance(document.data, dict):
        line, column = document.locate(())
        raise InvalidSpec(f"{document.source}:{line}:{column}: a job is a mapping (kind: training ...)")
    spec = dict(document.data)
    directory = spec.get("working_directory")
    if isinstance(directory, str) and directory.split("/")[0] in (".", ".."):
        spec["working_directory"] = os.path.normpath(base / directory)
    yield JobFile(spec, document.source, document)


def sbatch_spec(text: str, source: str, ignore: Collection[str]) -> dict[str, Any]:
    name = "stdin" if source == "<stdin>" else source
    spec = read_sbatch(text, name, environ=os.environ, ignore=ignore)
    spec["working_directory"] = os.path.normpath(Path.cwd() / spec.get("working_directory", "."))
    return spec
