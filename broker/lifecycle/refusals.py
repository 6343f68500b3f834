"""What becomes of a wish that a backend refuses: it is taken back, so that the job says what is so.  Pure.

While an update is to be carried out, the job keeps what its backend has in ``before``.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker.store.records import HOLD, JobRecord

UPDATED = ("replicas", "revision", "digest")


@dataclass(frozen=True, kw_only=True)
class TakenBack:
    """``still_wanted``: something newer was asked for meanwhile, and is to be carried out."""

    fields: Mapping[str, Any]
    spec: bytes | None = None
    still_wanted: bool = False


def in_force(record: JobRecord, spec: bytes) -> str:
    """As it is kept in ``before``."""
    fields = {name: getattr(record, name) for name in UPDATED}
    return json.dumps({**fields, "spec": base64.b64encode(spec).decode()}, separators=(",", ":"))


def taken_back(what: str, refused: JobRecord, now: JobRecord) -> TakenBack:
    """``refused``: the record from which the backend was asked; ``now``: as it is when it has answered."""
    if what == HOLD:
        if now.held is not refused.held:
            return TakenBack(fields={}, still_wanted=True)
        return TakenBack(fields={"held": None if refused.held else True})
    if now.before is None or now.revision != refused.revision:
        return TakenBack(fields={}, still_wanted=now.revision != refused.revision)
    fields = json.loads(now.before)
    spec = base64.b64decode(fields.pop("spec"))
    if now.replicas == refused.replicas:
        return TakenBack(fields=fields, spec=spec)
    return TakenBack(fields={**fields, "replicas": now.replicas}, spec=spec, still_wanted=True)
