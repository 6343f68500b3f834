"""Bearer tokens: made, checked, listed and revoked.  The only module that sees a token's secret.

A secret is 256 random bits behind the prefix ``wb_``, which scanners can look for; the store keeps its
SHA-256 (a slow hash is for passwords, not for random keys) with whom the token belongs to and what it may
do.  A good token is remembered for ``REMEMBERED_S``: that long may a revoked one still work in a process.
A bad one is not remembered, so that a new token works at once.

| member of the record | holds |
|---|---|
| id, subject, owner, project | who: the token, whom it belongs to, the person and the tenant it acts for |
| groups, scopes | words with a blank between them |
| created_at, expires_at | seconds since the epoch |
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from api_spec.errors import Conflict, Fault, InvalidRequest, Unauthenticated
from broker.access import Principal, Scope
from broker.store.connection import errors_in_our_words

PREFIX = "wb_"
REMEMBERED_S = 5.0
REMEMBERED_COUNT = 10_000  # arbitrary; some megabytes at the most
LIFETIME_S = 90 * 86400.0
SECRET = re.compile(r"wb_[A-Za-z0-9_-]{43}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")

Record = Mapping[str, str]


class TokenStore(Protocol):
    def put_token(self, digest: str, record: Record) -> None: ...

    def get_token(self, digest: str) -> Record | None: ...

    def list_tokens(self) -> list[Record]: ...

    def delete_token(self, token_id: str) -> bool:
        """Whether there was one."""


@dataclass(frozen=True, kw_only=True)
class NewToken:
    """What a token is made from.  ``owner`` None: the subject itself."""

    subject: str
    project: str
    owner: str | None = None
    groups: frozenset[str] = frozenset()
    scopes: frozenset[Scope] = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})
    lifetime_s: float = LIFETIME_S


LONGEST_S = 1000 * 365 * 86400.0  # of a token; beyond the years of a calendar its end cannot be written


class Tokens:
    """``for_one_owner``: the name of a backend that isolates nobody from nobody, so that all tokens have to
    be of one person; None: any number of people."""

    def __init__(
        self, store: TokenStore, now: Callable[[], float] = time.time, for_one_owner: str | None = None
    ) -> None:
        self.store = store
        self.now = now
        self.for_one_owner = for_one_owner
        self.remembered: dict[str, tuple[Principal, float]] = {}  # digest -> who, until when

    def create(self, wanted: NewToken) -> tuple[str, Record]:
        """The secret, which nobody can read again, and the record."""
        owner = wanted.owner or wanted.subject
        for member, value in (("subject", wanted.subject), ("owner", owner), ("project", wanted.project)):
            check_name(value, f"/{member}")
        for group in wanted.groups:
            check_name(group, "/groups")
        if not 0 < wanted.lifetime_s <= LONGEST_S:
            message = f"must be more than 0 and at most {LONGEST_S / 86400:g} days"
            raise InvalidRequest(f"the lifetime of a token {message}", faults=[Fault("/lifetime_s", message)])
        if self.for_one_owner:
            self._refuse_a_second_owner(owner, wanted.scopes)
        secret = PREFIX + secrets.token_urlsafe(32)
        created_at = self.now()
        record = {
            "id": f"tok-{secrets.token_hex(6)}",
            "subject": wanted.subject,
            "owner": owner,
            "project": wanted.project,
            "groups": " ".join(sorted(wanted.groups)),
            "scopes": " ".join(sorted(wanted.scopes)),
            "created_at": repr(created_at),
            "expires_at": repr(created_at + wanted.lifetime_s),
        }
        self.store.put_token(digest_of(secret), record)
        return secret, record

    def _refuse_a_second_owner(self, owner: str, scopes: frozenset[Scope]) -> None:
        others = {record["owner"] for record in self.store.list_tokens()} - {owner}
        if others or Scope.JOBS_ACT_AS in scopes:
            whom = f"{', '.join(sorted(others))} and {owner}" if others else "whoever the token acts for"
            raise Conflict(
                f"the backend {self.for_one_owner} runs all jobs as one user: {whom} could read and stop "
                "each other's; --owner names the one, allow_shared_local (broker dev --allow-shared-local) "
                "overrides this"
            )

    def check(self, bearer: str) -> Principal:
        """Raises ``Unauthenticated``, with the same words for every way in which a token is not good."""
        now = self.now()
        digest = digest_of(bearer)
        known = self.remembered.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        self.remembered.pop(digest, None)
        with errors_in_our_words():
            record = self.store.get_token(digest) if SECRET.fullmatch(bearer) else None
        if record is None or float(record["expires_at"]) <= now:
            raise Unauthenticated("the token is unknown, revoked or expired")
        return self._remember(digest, record, now)

    def _remember(self, digest: str, record: Record, now: float) -> Principal:
        who = principal_of(record)
        if len(self.remembered) >= REMEMBERED_COUNT:
            self.remembered.clear()
        self.remembered[digest] = (who, min(now + REMEMBERED_S, float(record["expires_at"])))
        return who

    def list(self) -> Sequence[Record]:
        return sorted(self.store.list_tokens(), key=lambda record: float(record["created_at"]))

    def revoke(self, token_id: str) -> bool:
        """Whether there was one; other processes may take it for ``REMEMBERED_S`` longer."""
        self.remembered.clear()
        return self.store.delete_token(token_id)


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def principal_of(record: Record) -> Principal:
    """A scope that this release does not know gives nothing."""
    known = {scope.value: scope for scope in Scope}
    return Principal(
        token_id=record["id"],
        subject=record["subject"],
        owner=record["owner"],
        project=record["project"],
        groups=frozenset(record["groups"].split()),
        scopes=frozenset(known[word] for word in record["scopes"].split() if word in known),
    )


def scopes_from(words: Iterable[str]) -> frozenset[Scope]:
    try:
        return frozenset(Scope(word) for word in words)
    except ValueError as error:
        known = ", ".join(scope.value for scope in Scope)
        raise InvalidRequest(f"{error}; the scopes are {known}") from error


def check_name(value: str, pointer: str) -> str:
    """People, projects and groups become labels and log fields: no blank, no control character."""
    if not NAME.fullmatch(value):
        message = "must start with a letter or digit and hold at most 128 of A-Z a-z 0-9 . _ @ + -"
        raise InvalidRequest(f"{pointer.removeprefix('/')} {message}", faults=[Fault(pointer, message)])
    return value
