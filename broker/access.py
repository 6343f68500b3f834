"""Who asks, and what that allows.  Pure: tokens are looked up in ``broker.auth``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from api_spec.errors import Forbidden, NotFound


class Scope(StrEnum):
    JOBS_READ = "jobs:read"
    JOBS_WRITE = "jobs:write"  # act on one's own jobs
    JOBS_ADMIN = "jobs:admin"  # act on all jobs of the project
    JOBS_ACT_AS = "jobs:act-as"  # submit and act for the person in the header Broker-Owner
    BACKENDS_ADMIN = "backends:admin"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A checked token: ``subject`` is whom it belongs to, ``owner`` the person it acts for now."""

    token_id: str
    subject: str
    owner: str
    project: str
    groups: frozenset[str] = frozenset()
    scopes: frozenset[Scope] = frozenset()

    def need(self, scope: Scope) -> None:
        if scope not in self.scopes:
            raise Forbidden(f"the token lacks the scope {scope}")

    def acting_for(self, owner: str) -> Principal:
        """The same token for another person; needs ``jobs:act-as`` unless it is its own owner."""
        if owner != self.owner:
            self.need(Scope.JOBS_ACT_AS)
        return replace(self, owner=owner)


def must_see(who: Principal, job_id: str, project: str) -> None:
    """Another project's job does not exist for this token."""
    who.need(Scope.JOBS_READ)
    if project != who.project:
        raise NotFound(f"there is no job {job_id}")


def must_act_on(who: Principal, job_id: str, project: str, owner: str) -> None:
    must_see(who, job_id, project)
    if Scope.JOBS_ADMIN in who.scopes:
        return
    who.need(Scope.JOBS_WRITE)
    if owner != who.owner:
        raise Forbidden(f"job {job_id} belongs to {owner}; the token acts for {who.owner}")
