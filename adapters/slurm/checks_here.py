"""What only this machine can tell of a Slurm backend: its token, its users, and the files that it sees."""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapters.base import Finding
from adapters.slurm import folders, logs
from adapters.slurm.options import Options
from adapters.slurm.paths import directory
from adapters.slurm.rest.tokens import claims_of
from api_spec.times import to_rfc3339

AT_MOST = 20  # users whose directories are looked at


def findings(options: Options) -> Sequence[Finding]:
    return [*_identity(options), *about_files(options), *_secrets(options)]


def about_files(options: Options) -> Sequence[Finding]:
    """What a log reader is asked for where the logs are mounted there and not here."""
    return [*_logs(options), *_directories(options)]


def named_users(options: Options) -> set[str]:
    """Those that the map names; the owners' own names are not known before they come."""
    return {name for name in (options.users.service, *options.users.table.values()) if name}


def about_the_token(options: Options) -> str:
    """The end of a sentence: what may be wrong with one that the controller refuses."""
    given = options.token
    if given is None:
        return ""
    if given.key_file:
        return f"; is {given.key_file} the jwt_key of slurm.conf, and do the clocks agree?"
    if given.command:
        return f"; has what {given.command[0]} prints expired, and is it this cluster's?"
    claims = _claims(given.file or "")
    if claims is None:
        return ""  # the error has said so
    if not claims:
        return f"; {given.file} holds no JSON web token"
    expires = claims.get("exp")
    if isinstance(expires, int | float) and expires < time.time():
        return f"; it expired at {to_rfc3339(expires)}"
    user = _user_of(claims)
    return f"; it speaks for {user} and has not expired: is it this cluster's, and may {user} act for others?"


def who_we_are(options: Options) -> str:
    """The end of a sentence: whom the calls are made as, and how that is shown."""
    given = options.token
    if given is None:
        return f"us for {pwd.getpwuid(os.geteuid()).pw_name}"
    if given.key_file:
        return f"the tokens that are signed with {given.key_file} for {given.user or 'each user'}"
    if given.command:
        return f"the token that {given.command[0]} prints"
    return f"the token, which speaks for {_user_of(_claims(given.file or '') or {})}"


def _claims(file: str) -> Mapping[str, Any] | None:
    """None where the file cannot be read; empty where it holds no token."""
    try:
        return claims_of(Path(file).read_text(errors="replace").strip())
    except OSError:
        return None


def _user_of(claims: Mapping[str, Any]) -> str:
    return str(claims.get("sun") or claims.get("username") or "nobody")


def _identity(options: Options) -> Iterator[Finding]:
    users = options.users
    if users.service is not None:
        message = f"all jobs run as {users.service}"
    elif users.table:
        message = f"jobs run as the user that a table gives for their owner ({len(users.table)} owners)"
    else:
        message = "jobs run as the user who is called as their owner"
    yield Finding(subject="users", well=True, message=message)


def _logs(options: Options) -> Iterator[Finding]:
    if not options.logs:
        yield Finding(subject="logs", well=True, message="are not read here (option logs)")
        return
    for root in logs.roots(options):
        well = os.path.isdir(root) and os.access(root, os.R_OK | os.X_OK)
        message = f"are read below {root}" if well else f"{root} is not mounted here, or may not be read"
        yield Finding(subject="logs", well=well, message=message)


def _directories(options: Options) -> Iterator[Finding]:
    """Of the users that the map names, where this machine can see them; the nodes' view may be another."""
    if not options.logs or "{project}" in options.directory:
        return
    for user in sorted(named_users(options))[:AT_MOST]:
        path = folders.here(directory(options.directory, user, ""), options)
        if fault := _fault_of(path, user):
            message = f"{path} {fault}: jobs of {user} end before their first line"
            yield Finding(subject="directory", well=False, message=message)


def _fault_of(path: str, user: str) -> str | None:
    """None also where nobody here can tell."""
    try:
        found = os.stat(path)
    except PermissionError:
        return None
    except OSError:
        if user == pwd.getpwuid(os.geteuid()).pw_name and os.access(_nearest(path), os.W_OK):
            return None  # it is made with the first job
        return "is not there"
    if not stat.S_ISDIR(found.st_mode):
        return "is no directory"
    try:
        own = found.st_uid == pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
    if not own and not found.st_mode & 0o022:
        return f"cannot be written by {user}"
    return None


def _nearest(path: str) -> Path:
    """What is there of it."""
    return next(one for one in Path(path).parents if one.exists())


def _secrets(options: Options) -> Iterator[Finding]:
    if options.secrets_directory is None:
        return
    where = options.secrets_directory
    try:
        mode = stat.S_IMODE(os.stat(where).st_mode)
    except OSError as error:
        message = f"{where} cannot be read: {error.strerror}"
        yield Finding(subject="secrets", well=False, message=message)
        return
    well = not mode & 0o077
    message = f"come from {where}" if well else f"{where} has mode {mode:o} and needs 0700"
    yield Finding(subject="secrets", well=well, message=message)
