"""Whom a job runs as: from its owner and the operator's word alone, never from the job.  Pure."""

from __future__ import annotations

import re

from adapters.slurm.options import Users

_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")


def is_slurm_user(name: str) -> bool:
    """A name that can be a user's; root runs no jobs of others."""
    return _USER.fullmatch(name) is not None and name != "root"


def slurm_user(owner: str, users: Users) -> str | None:
    """``None``: the operator has named nobody for this owner, or a name that can be no user."""
    found = _candidate(owner, users)
    return found if found is not None and is_slurm_user(found) else None


def _candidate(owner: str, users: Users) -> str | None:
    if users.service is not None:
        return users.service
    if not users.owner:
        return users.table.get(owner)
    if users.strip_domain is None:
        return owner
    name, at, domain = owner.rpartition("@")
    return name if at and domain.casefold() == users.strip_domain.casefold() else None
