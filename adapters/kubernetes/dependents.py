"""What belongs to an attempt beside its root object, and what of it the broker itself would write.  Pure."""

from __future__ import annotations

import json
from typing import Any

from adapters.kubernetes import allowed, names
from adapters.kubernetes.errors import Refused
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.options import Options
from adapters.kubernetes.resources import (
    AUTOSCALERS,
    BUDGETS,
    CLAIM_TEMPLATES,
    SCALED_OBJECTS,
    SERVICES,
    Resource,
)

DEPENDENTS = {one.kind: one for one in (SERVICES, AUTOSCALERS, SCALED_OBJECTS, BUDGETS, CLAIM_TEMPLATES)}


def written_in(marker: str, namespace: str, text: str, options: Options) -> list[Manifest]:
    """What a root object carries may have been edited by whoever may edit it.  Raises ``Refused``."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    wanted: list[Any] = found if isinstance(found, list) else [None]
    if not all(_is_ours(one, marker, namespace, options) for one in wanted):
        raise Refused(f"its annotation {names.UNFINISHED} is not what the broker wrote")
    return wanted


def _is_ours(one: Any, marker: str, namespace: str, options: Options) -> bool:
    """It is one that the broker makes, has nothing that it never sends, and belongs to this attempt."""
    is_one = member(one, "kind") in DEPENDENTS and isinstance(member(one, "spec"), dict)
    return is_one and _has_its_name(one, marker) and not allowed.outside(one, namespace, options)


def _has_its_name(found: Any, marker: str) -> bool:
    """A template of claims has what is in it behind the marker."""
    name = str(member(found, "metadata", "name"))
    is_template = member(found, "kind") == CLAIM_TEMPLATES.kind
    return name == marker or (is_template and name.startswith(f"{marker}-"))


def belong_to(uid: str, found: Manifest) -> bool:
    owners = rows(member(found, "metadata", "ownerReferences"))
    return any(one.get("uid") == uid for one in owners)


def removable(options: Options) -> tuple[Resource, ...]:
    """What a service may have had in another revision.  KEDA's are looked for only where the broker makes
    some, since elsewhere it has no right to."""
    return (AUTOSCALERS, BUDGETS, *([SCALED_OBJECTS] if options.prometheus is not None else []))
