"""As whom the broker writes for an owner: by the operator's word alone, never by anything in the job.  Pure.

Names that begin with ``system:`` are Kubernetes' own, and nobody's jobs are made as one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from adapters.kubernetes.options import Impersonate, Options
from api_spec.decisions import Refusal
from api_spec.reasons import Reason

RESERVED = "system:"
NAME = re.compile(r"[!-~]([ -~]{0,251}[!-~])?")
"""What a header can carry as it is."""
BLANKS = re.compile(r"\{(owner|project)\}")


@dataclass(frozen=True, kw_only=True)
class Identity:
    user: str
    groups: tuple[str, ...] = ()


def is_allowed(name: str) -> bool:
    return NAME.fullmatch(name) is not None and not name.startswith(RESERVED)


def identity_of(owner: str, project: str, options: Options) -> Identity | None:
    """``None``: the operator has named nobody for this owner, or a name that nobody may have."""
    known = options.impersonate
    if known is None or not owner:
        return None
    user = known.table.get(owner) if known.user is None else filled(known.user, owner, project)
    groups = tuple(filled(one, owner, project) for one in known.groups)
    if user is None or not all(map(is_allowed, (user, *groups))):
        return None
    return Identity(user=user, groups=groups)


def filled(text: str, owner: str, project: str) -> str:
    """At once, so that a brace in one name is not taken for the other's place."""
    return BLANKS.sub(lambda found: {"owner": owner, "project": project}[found[1]], text)


def is_the_same_for_all(text: str) -> bool:
    return BLANKS.search(text) is None


def named(known: Impersonate) -> list[Identity]:
    """Those that are known before any job comes, each once."""
    groups = tuple(one for one in known.groups if is_the_same_for_all(one))
    users = set(known.table.values())
    if known.user is not None and is_the_same_for_all(known.user):
        users.add(known.user)
    return [Identity(user=user, groups=groups) for user in sorted(users)]


def refusals(owner: str, project: str, options: Options, backend: str) -> Iterator[Refusal]:
    if options.impersonate is not None and owner and identity_of(owner, project, options) is None:
        yield Refusal(Reason.NOT_ALLOWED, f"is for {owner}, who is nobody on {backend}")
