"""What a backend's own object carries of its attempt, so that the broker's state can be rebuilt.  Pure.

Compact JSON in ASCII, such as Slurm's comment of at most 1,024 characters and Kubernetes' annotations hold:

    {"v":1,"job":"01J...","n":2,"project":"vision","owner":"ana","kind":"training","name":"resnet",
     "digest":"...","tasks":"0-9","revision":1}

Too long, it loses first the end of ``name``, then ``tasks``; it is never cut in the middle.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from adapters.base import AttemptRef
from api_spec.quantities import InvalidQuantity, compact_indices, expand_indices

LONGEST = 1024
"""Slurm refuses a longer comment."""
VERSION = 1


class TooLong(ValueError):
    """Even without name and tasks; the owner's name is the only part that can be."""


def text(ref: AttemptRef, longest: int = LONGEST) -> str:
    """Of at most ``longest`` characters.  Raises ``TooLong``."""
    tasks = compact_indices(ref.task_indices)
    found: dict[str, Any] = {
        "v": VERSION,
        "job": ref.job_id,
        "n": ref.number,
        "project": ref.project,
        "owner": ref.owner,
        "kind": ref.kind,
        "name": ref.name[:longest],
        "digest": ref.digest,
        "tasks": tasks if len(tasks) <= longest else "",
        "revision": ref.revision,
    }
    while len(written := _text(found)) > longest:
        if found["name"]:
            found["name"] = found["name"][:-1]
        elif found["tasks"]:
            found |= {"tasks": "", "name": ref.name[:longest]}
        else:
            raise TooLong(f"the owner's name has {len(ref.owner)} characters, too many to be carried")
    return written


def _text(found: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in found.items() if value != ""}, separators=(",", ":"))


def read(marker: str, written: str | None) -> AttemptRef | None:
    """``None``: not a text of ours, or one that cannot be read."""
    try:
        found = json.loads(written or "")
        if not isinstance(found, dict) or not isinstance(found.get("v"), int):
            return None
        ref = AttemptRef(
            marker=marker,
            job_id=str(found.get("job", "")),
            number=int(found.get("n", 1)),
            project=str(found.get("project", "")),
            owner=str(found.get("owner", "")),
            kind=str(found.get("kind", "")),
            name=str(found.get("name", "")),
            digest=str(found.get("digest", "")),
            revision=int(found.get("revision", 1)),
        )
        return replace(ref, task_indices=expand_indices(found["tasks"])) if found.get("tasks") else ref
    except (ValueError, TypeError, InvalidQuantity, RecursionError):
        return None
