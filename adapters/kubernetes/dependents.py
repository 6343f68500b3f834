"""What belongs to an attempt beside its root object, and what of it the broker could have written.  Pure."""

from __future__ import annotations

import json
from typing import Any

from adapters.kubernetes import names
from adapters.kubernetes.errors import Refused
from adapters.kubernetes.names import Manifest, member, rows
from adapters.kubernetes.resources import AUTOSCALERS, BUDGETS, CLAIM_TEMPLATES, SERVICES

DEPENDENTS = {one.kind: one for one in (SERVICES, AUTOSCALERS, BUDGETS, CLAIM_TEMPLATES)}
KNOWN_MEMBERS = {
    SERVICES.kind: {"clusterIP", "publishNotReadyAddresses", "selector", "ports"},
    AUTOSCALERS.kind: {"scaleTargetRef", "minReplicas", "maxReplicas", "metrics"},
    BUDGETS.kind: {"maxUnavailable", "selector"},
    CLAIM_TEMPLATES.kind: {"spec"},
}
"""Of their specs: what ``render`` writes, and no ``type`` or ``externalIPs``."""


def written_in(marker: str, written: str) -> list[Manifest]:
    """What a root object carries may have been edited by whoever may edit it.  Raises ``Refused``."""
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        found = None
    wanted: list[Any] = found if isinstance(found, list) else [None]
    for one in wanted:
        named = _has_its_name(one, marker) and isinstance(member(one, "spec"), dict)
        known = KNOWN_MEMBERS.get(str(member(one, "kind")))
        if not named or known is None or set(one["spec"]) - known:
            raise Refused(f"its annotation {names.UNFINISHED} is not what the broker wrote")
    return wanted


def _has_its_name(found: Any, marker: str) -> bool:
    """A template of claims has what is in it behind the marker."""
    name = str(member(found, "metadata", "name"))
    is_template = member(found, "kind") == CLAIM_TEMPLATES.kind
    return name == marker or (is_template and name.startswith(f"{marker}-"))


def belong_to(uid: str, found: Manifest) -> bool:
    owners = rows(member(found, "metadata", "ownerReferences"))
    return any(one.get("uid") == uid for one in owners)
