"""What an object of ours is called and carries, so that it is found, known and told from a stranger's.  Pure.

Of the root object, which is the attempt, and of its pods:

    name                                     the marker: unique in its namespace, which makes a second copy of
                                             an attempt impossible
    label app.kubernetes.io/managed-by       workload-broker
    label workload-broker/instance           of the broker: whose objects these are
    label workload-broker/marker             of the attempt; on the pods too
    annotation workload-broker/attempt       ``adapters.carried``
    annotation workload-broker/manifest      digest of what was sent: whether a namesake is the same
    annotation workload-broker/revision      of a service
    annotation workload-broker/cancelled     when it was told to end; it stays as a record until cleanup
    annotation workload-broker/held          when it was told to wait, where Kueue starts it; until release
    annotation workload-broker/user          as whom it was made, where that is its owner and not the broker
    annotation workload-broker/withdrawn     why the broker itself told it to end, beside the one before
    annotation workload-broker/unfinished    what belongs to it and may not have been made yet
    annotation label.workload-broker/NAME    of a pod: a label of the job
    annotation workload-broker/labels        of a pod: those with a "/" in their names, as JSON
    annotation workload-broker/script, tasks of a pod: a batch script and a table, which it sees as files
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapters import carried
from adapters.base import AttemptRef
from adapters.kubernetes.options import Options

Manifest = dict[str, Any]
"""An object as the API server takes and gives it, in JSON's types."""

MANAGED_BY = "app.kubernetes.io/managed-by"
BROKER = "workload-broker"
INSTANCE = f"{BROKER}/instance"
MARKER = f"{BROKER}/marker"
ATTEMPT = f"{BROKER}/attempt"
DIGEST = f"{BROKER}/manifest"
REVISION = f"{BROKER}/revision"
CANCELLED = f"{BROKER}/cancelled"
HELD = f"{BROKER}/held"
WITHDRAWN = f"{BROKER}/withdrawn"
UNFINISHED = f"{BROKER}/unfinished"
USER = f"{BROKER}/user"
SCRIPT = f"{BROKER}/script"
TASKS = f"{BROKER}/tasks"
LABELS = f"{BROKER}/labels"

MAIN = "main"
"""The container of the job."""
LONGEST_CARRIED = 64 * 1024
"""All annotations of an object together may have 256 KiB."""

DIGITS = re.compile(r"[0-9]{1,9}")
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def is_namespace(name: str) -> bool:
    return LABEL.fullmatch(name) is not None


def instance_of(marker: str) -> str:
    """The broker that the marker names: ``wb-INSTANCE-JOB-ATTEMPT``."""
    return marker.removeprefix("wb-").rsplit("-", 2)[0]


def namespace_of(project: str, options: Options) -> str | None:
    return options.namespaces.get(project, options.namespace)


def all_namespaces(options: Options) -> list[str]:
    found = {*options.namespaces.values(), *([options.namespace] if options.namespace else [])}
    return sorted(found)


def labels(marker: str, instance: str) -> dict[str, str]:
    return {MANAGED_BY: BROKER, INSTANCE: instance, MARKER: marker}


def notes(ref: AttemptRef) -> dict[str, str]:
    return {ATTEMPT: carried.text(ref, LONGEST_CARRIED)}


def digest_of(manifest: Manifest) -> str:
    """Of what we say, before the API server adds its defaults."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def ref_of(manifest: Manifest) -> AttemptRef | None:
    """What an object carries; ``None``: nothing that could be ours."""
    marker = member(manifest, "metadata", "labels", MARKER)
    if not isinstance(marker, str):
        return None
    written = member(manifest, "metadata", "annotations", ATTEMPT)
    return carried.read(marker, written) or AttemptRef(marker=marker)


def is_cancelled(root: Manifest) -> bool:
    return member(root, "metadata", "annotations", CANCELLED) is not None


def why_withdrawn(root: Manifest) -> str | None:
    """``None``: it was not the broker's own rule that ended it."""
    written = member(root, "metadata", "annotations", WITHDRAWN)
    return written if isinstance(written, str) and is_cancelled(root) else None


def selector(instance: str, marker: str | None = None) -> str:
    parts = {INSTANCE: instance, **({MARKER: marker} if marker else {})}
    return ",".join(f"{key}={value}" for key, value in parts.items())


def revision_of(manifest: Manifest) -> int:
    """Of a service; 1 where nobody says."""
    found = member(manifest, "metadata", "annotations", REVISION)
    return int(found) if isinstance(found, str) and DIGITS.fullmatch(found) else 1


# ---- reading what may be anything ---------------------------------------------------------------------


def member(value: Any, *path: str) -> Any:
    """What stands there, or ``None``: a list that the server leaves out, an object that is null."""
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; nothing else passes."""
    found: Iterable[Any] = value if isinstance(value, list) else ()
    return [one for one in found if isinstance(one, Mapping)]
