"""JSON web tokens for slurmrestd: read from a file, printed by a command, or signed with the cluster's key.

A token is never logged and never part of an error: neither of its text nor of what a debugger prints of it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.slurm.options import Options, TokenSource
from adapters.slurm.transport import NotAuthenticated, Refused

COMMAND_S = 15.0  # scontrol asks the controller, which may be slow
FILE_BYTES = 64 * 1024
MARGIN = 0.2  # of its life: an older token is renewed before it is used
LONGEST_MARGIN_S = 60.0
NAME = re.compile(r"[\w.@$-]+", re.ASCII)  # it stands in a header
KEY_HOLDER = "root"  # who signs with the cluster's key may be anybody; root sees all jobs


@dataclass(frozen=True)
class Token:
    text: str = field(repr=False)
    user: str | None = None  # whom it speaks for
    fresh_until: float = float("inf")


class Source(Protocol):
    """``token``: one that is good for ``user``, where a token can be had for each; maybe a kept one."""

    def token(self, user: str | None) -> Token: ...

    def forget(self, token: Token) -> None:
        """It was refused: the next one is had anew."""


@dataclass(frozen=True)
class Identity:
    """What a request says about who sends it, and for whom."""

    token: Token
    headers: dict[str, str] = field(repr=False)


class Tokens:
    def __init__(self, options: Options, clock: Callable[[], float] = time.time) -> None:
        self.options = options
        self.source = source_of(options.token, clock)

    def identity(self, user: str | None) -> Identity:
        """Headers of a request for ``user``; None: as the broker itself.  Raises ``NotAuthenticated``."""
        token = self.source.token(self._broker() if user is None else user)
        if not token.text:
            return Identity(token, {})
        name = user if user is not None else token.user or self._broker()
        if name is not None and not NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name of a user")
        headers = {"X-SLURM-USER-TOKEN": token.text}
        # 22.05 takes no token without a name; where it is another's, it asks to act for them.
        return Identity(token, headers | ({"X-SLURM-USER-NAME": name} if name else {}))

    def refused(self, identity: Identity) -> None:
        self.source.forget(identity.token)

    def _broker(self) -> str | None:
        given = self.options.token
        return (given.user if given else None) or self.options.users.service


def source_of(given: TokenSource | None, clock: Callable[[], float]) -> Source:
    if given is None:
        return NoToken()
    if given.key_file:
        return SignedTokens(given, clock)
    if given.command:
        return CommandTokens(given, clock)
    return FileTokens(given)


class NoToken:
    """slurmrestd knows who calls by the unix socket (rest_auth/local)."""

    def token(self, user: str | None) -> Token:
        return Token("")

    def forget(self, token: Token) -> None:
        pass


class FileTokens:
    """Read again when the file has changed, or when its token was refused."""

    def __init__(self, given: TokenSource) -> None:
        self.given = given
        self.path = Path(given.file or "")
        self._kept: tuple[object, Token] | None = None

    def token(self, user: str | None) -> Token:
        try:
            stamp = self._stamp()
            kept = self._kept
            if kept is None or kept[0] != stamp:
                kept = self._kept = (stamp, read_token(self.path.read_bytes()[:FILE_BYTES], self.given.user))
        except OSError as error:
            raise NotAuthenticated(f"the token file {self.path} cannot be read: {error.strerror}") from error
        return kept[1]

    def forget(self, token: Token) -> None:
        self._kept = None

    def _stamp(self) -> object:
        found = os.stat(self.path)
        return found.st_mtime_ns, found.st_size, found.st_ino


class CommandTokens:
    """Run again when four fifths of the token's life are over, or when it was refused."""

    def __init__(self, given: TokenSource, clock: Callable[[], float]) -> None:
        self.given, self.clock = given, clock
        self._kept: Token | None = None

    def token(self, user: str | None) -> Token:
        kept = self._kept
        if kept is None or self.clock() >= kept.fresh_until:
            kept = self._kept = self._printed()
        return kept

    def forget(self, token: Token) -> None:
        self._kept = None

    def _printed(self) -> Token:
        program = self.given.command[0]
        try:
            done = subprocess.run(
                self.given.command, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            # Not chained: what the command had printed by then is part of the error.
            why = (
                f"did not end within {COMMAND_S:g} s"
                if isinstance(error, subprocess.TimeoutExpired)
                else str(error)
            )
            raise NotAuthenticated(f"the token command {program}: {why}") from None
        if done.returncode:
            raise NotAuthenticated(f"the token command {program} ended with {done.returncode}")
        return read_token(done.stdout, self.given.user, self.clock(), self.given.lifespan_s)


class SignedTokens:
    """One for each user, or one for ``given.user``, who may act for others."""

    def __init__(self, given: TokenSource, clock: Callable[[], float]) -> None:
        self.given, self.clock = given, clock
        self._kept: dict[str, Token] = {}

    def token(self, user: str | None) -> Token:
        name = self.given.user or user or KEY_HOLDER
        kept = self._kept.get(name)
        if kept is None or self.clock() >= kept.fresh_until:
            kept = self._kept[name] = sign(self._key(), name, self.clock(), self.given.lifespan_s)
        return kept

    def forget(self, token: Token) -> None:
        self._kept.pop(token.user or "", None)

    def _key(self) -> bytes:
        try:
            return Path(self.given.key_file or "").read_bytes()
        except OSError as error:
            raise NotAuthenticated(
                f"the key {self.given.key_file} cannot be read: {error.strerror}"
            ) from error


# ---- the format ----------------------------------------------------------------------------------------


def sign(key: bytes, user: str, now: float, lifespan_s: float) -> Token:
    """HS256 with the three claims that Slurm reads."""
    if not key:
        raise NotAuthenticated("the key of the cluster is empty")
    expires = int(now + lifespan_s)
    claims = {"iat": int(now), "exp": expires, "sun": user}
    parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    signature = encoded(hmac.digest(key, b".".join(parts), hashlib.sha256))
    return Token(b".".join([*parts, signature]).decode(), user, expires - margin(lifespan_s))


def read_token(text: bytes, user: str | None, now: float | None = None, lifespan_s: float = 0) -> Token:
    """``SLURM_JWT=`` in front and blanks around are taken off.  With ``now`` it is kept for a time: to its
    ``exp`` claim, or ``lifespan_s`` long where it has none."""
    try:
        token = text.decode("ascii").strip().removeprefix("SLURM_JWT=").strip()
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise NotAuthenticated("what should hold a token holds none")
    claims = claims_of(token)
    speaks_for = claims.get("sun") or claims.get("username")
    until = float("inf")
    if now is not None:
        expires = claims.get("exp")
        left = (float(expires) if isinstance(expires, (int, float)) else now + lifespan_s) - now
        until = now + left - margin(left)
    return Token(token, user or (speaks_for if isinstance(speaks_for, str) else None), until)


def margin(life_s: float) -> float:
    return min(LONGEST_MARGIN_S, max(life_s, 0) * MARGIN)


def claims_of(token: str) -> dict[str, object]:
    """What the token says of itself, unchecked: Slurm checks it.  Empty for what is no JSON web token."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return {}
    return claims if isinstance(claims, dict) else {}


def encoded(some: bytes) -> bytes:
    return base64.urlsafe_b64encode(some).rstrip(b"=")
