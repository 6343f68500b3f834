"""What a job finds in its environment, alike on every backend: how names and values are written.  Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote


def variable_name(name: str) -> str:
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())


def local_path_or_uri(uri: str) -> str:
    """A ``file:`` URI of this machine becomes a path; what is elsewhere stays, for the job to fetch."""
    scheme, _, rest = uri.partition(":")
    host = ""
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
    if scheme != "file" or host not in ("", "localhost") or not rest.startswith("/"):
        return uri
    return unquote(re.split("[?#]", rest)[0])


def as_text(value: object) -> str:
    """A parameter of a task, as JSON writes it, but for the quotes of a string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
