"""Secrets as files ``NAME/KEY`` below one directory.  The only module that reads them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from api_spec.jobs import SecretRef

LIMIT_BYTES = 128 * 1024
"""The kernel takes no longer string in an environment."""


class Missing(Exception):
    """The message names the secret, never its value."""


def values(wanted: Mapping[str, SecretRef], directory: str) -> dict[str, str]:
    """By the name of the variable.  Raises ``Missing``."""
    return {variable: _read(one, directory) for variable, one in wanted.items()}


def _read(secret: SecretRef, directory: str) -> str:
    title = f"the secret {secret.name}/{secret.key}"
    for part in (secret.name, secret.key):
        if part in ("", ".", "..") or "/" in part or "\0" in part:
            raise Missing(f"{title} has a name that cannot be a file")
    path = os.path.join(directory, secret.name, secret.key)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise Missing(f"{title} is not on this machine") from error
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Missing(f"{title} is not a file")
        if stat.S_IMODE(mode) & 0o077:
            raise Missing(f"{title} is open to other users; its file needs the mode 0600")
        value = file.read(LIMIT_BYTES + 1)
    if len(value) > LIMIT_BYTES or b"\0" in value:
        raise Missing(f"{title} cannot be the value of an environment variable")
    return value.rstrip(b"\n").decode("utf-8", "surrogateescape")
