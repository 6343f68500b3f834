"""One slurmrestd: who we are to it, which dialect it speaks, what it means when it says little."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from adapters.slurm.records import Cluster
from adapters.slurm.rest.answers import (
    UNKNOWN_JOB,
    Answer,
    Request,
    failure,
    says_little,
)
from adapters.slurm.rest.client import Client
from adapters.slurm.rest.dialects import DIALECTS, Dialect, Found, choose, described
from adapters.slurm.rest.judging import reading
from adapters.slurm.rest.tokens import Identity, Tokens
from adapters.slurm.transport import NoAccounting, NoAnswer, NotAuthenticated, SlurmError, TryLater

log = logging.getLogger(__name__)

# A controller that refuses a token says so in 0.1 s; one that is down or frozen is given up after 9 or 10 s.
AT_ONCE_S = 3.0


class Check(Protocol):
    def __call__(self, answer: Answer, *, for_another: bool) -> SlurmError | None: ...


class Connection:
    def __init__(self, client: Client, tokens: Tokens, dialects: Sequence[Dialect] = DIALECTS) -> None:
        self.client = client
        self.tokens = tokens
        self.dialects = dialects
        self._found: Found | None = None

    def close(self) -> None:
        self.client.close()

    # ---- what is there -------------------------------------------------------------------------------

    def found(self) -> Found:
        """Asked once, and again after ``forget``."""
        found = self._found
        if found is None:
            found = self._found = self._ask_what_it_is()
        return found

    def forget(self) -> None:
        self._found = None

    def named(self, cluster: str | None) -> None:
        """v0.0.38 names its cluster in the rows of jobs alone; it may be another one than before."""
        found = self._found
        if cluster and found is not None and found.cluster.name != cluster:
            self._found = replace(found, cluster=replace(found.cluster, name=cluster))

    def _ask_what_it_is(self) -> Found:
        document = self.send(Request(method="GET", path="/openapi/v3"), None, failure).body
        if document is None:
            raise NoAnswer("slurmrestd's OpenAPI document is none")
        dialect, accounting, has_states = choose(document, self.dialects)
        # Whatever it says of the controller: the release and the plug-ins are slurmrestd's own.
        ping = Request(method="GET", path=f"/slurm/{dialect.version}/ping")
        identity = self.tokens.identity(None)
        with reading("itself"):
            meta = (self.client.send(ping, identity.headers).body or {})["meta"]
            release, name = described(meta)
            plugins = tuple(
                str(said) for key, said in meta.get("plugin", {}).items() if said and key != "name"
            )
        cluster = Cluster(
            name=name or (self._only_cluster(dialect, identity) if accounting else None),
            version=release or "",
            dialect=dialect.version,
            accounting=accounting,
            has_states=has_states,
            plugins=plugins,
        )
        return Found(dialect=dialect, cluster=cluster)

    def _only_cluster(self, dialect: Dialect, identity: Identity) -> str | None:
        """What v0.0.38 does not say of itself; its database knows, unless it serves several."""
        request = Request(method="GET", path=f"/slurmdb/{dialect.version}/clusters")
        with reading("clusters"):
            known = (self.client.send(request, identity.headers).body or {}).get("clusters") or []
            return str(known[0]["name"]) if len(known) == 1 else None

    # ---- asking --------------------------------------------------------------------------------------

    def ask(
        self,
        request: Request,
        user: str | None = None,
        check: Check = failure,
        *,
        database: bool = False,
    ) -> Answer:
        """``request.path`` is what follows the version.  Raises what ``check`` finds."""
        found = self.found()
        if database and not found.cluster.accounting:
            raise NoAccounting("slurmrestd offers no accounting database")
        path = found.slurmdb(request.path) if database else found.slurm(request.path)
        answer = self.send(replace(request, path=path), user, check)
        self._notice(answer, found)
        return answer

    def send(self, request: Request, user: str | None, check: Check) -> Answer:
        """A token that is refused is renewed once; a refusal did not act, so that this is no second write."""
        identity = self.tokens.identity(user)
        answer, error = self._try(request, identity, user, check)
        if isinstance(error, NotAuthenticated):
            self.tokens.refused(identity)
            renewed = self.tokens.identity(user)
            if renewed.token.text != identity.token.text:
                answer, error = self._try(request, renewed, user, check)
        if error is not None:
            raise error
        return answer

    def _try(
        self, request: Request, identity: Identity, user: str | None, check: Check
    ) -> tuple[Answer, SlurmError | None]:
        answer = self.client.send(request, identity.headers)
        error = check(answer, for_another=user not in (None, identity.token.user))
        if error is not None and answer.status == 404 and error.code != UNKNOWN_JOB:
            self.forget()
            error = TryLater(f"slurmrestd no longer knows {request.path}: it may have been upgraded")
        elif error is not None and says_little(error) and self._token_is_refused(request, answer, identity):
            error = NotAuthenticated("the controller does not take the token", error.code)
        return answer, error

    def _token_is_refused(self, request: Request, answer: Answer, identity: Identity) -> bool:
        """Whether the controller is there and does not listen to us; False where it may be gone."""
        if answer.took_s > AT_ONCE_S:
            return False
        root = "/".join(request.path.split("/")[:3]).replace("/slurmdb/", "/slurm/")
        try:
            ping = self.client.send(Request(method="GET", path=f"{root}/ping"), identity.headers)
        except SlurmError:
            return False
        return failure(ping) is not None and ping.took_s < AT_ONCE_S

    def _notice(self, answer: Answer, found: Found) -> None:
        """An answer of another release or cluster: what was found no longer holds."""
        release, name = (
            described((answer.body or {}).get("meta") or {}) if answer.status == 200 else (None, None)
        )
        was = found.cluster
        if release not in (None, was.version) or name not in (None, was.name):
            log.info("slurmrestd is %s of %s now, it was %s of %s", release, name, was.version, was.name)
            self.forget()
