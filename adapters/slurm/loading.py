"""Reads what an operator has set for a ``slurm`` backend; each fault is a sentence with its key.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from adapters import option_readers as read
from adapters.option_readers import Reader
from adapters.slurm import native
from adapters.slurm.identity import is_slurm_user
from adapters.slurm.options import FabricOptions, Options, TokenSource, Users

LONGEST_DIRECTORY = 3500
"""What is put below it has to fit into PATH_MAX, 4096, as well."""
PLACEHOLDERS = ("{user}", "{project}")


def load(given: Mapping[str, Any], name: str) -> Options:
    """Raises ``ValueError`` for what is not known, is missing, contradicts itself or has the wrong type."""
    values = read.table(name, "", given, Options, READERS)
    for key in ("directory", "users"):
        if key not in values:
            raise ValueError(f"{name}: {key} is missing; {MISSING[key]}")
    options = Options(**values)
    for check in (_check_transport, _check_token, _check_containers):
        if fault := check(options):
            raise ValueError(f"{name}: {fault}")
    return options


MISSING = {
    "directory": "it holds logs and outputs of jobs, on a file system that the nodes share",
    "users": 'say how an owner becomes a Slurm user, such as users = {service = "broker"}',
}


# ---- values ------------------------------------------------------------------------------------------


def _directory(key: str, value: Any) -> str:
    text = read.path(key, value)
    for placeholder in PLACEHOLDERS:
        text = text.replace(placeholder, "")
    if found := re.search(r"[{}%\\]", text):
        raise ValueError(
            f"{key} holds {found[0]!r}; it knows {' and '.join(PLACEHOLDERS)}, Slurm reads % and \\ itself"
        )
    if len(value) > LONGEST_DIRECTORY or ".." in value.split("/"):
        raise ValueError(f'{key} has no ".." in it and at most {LONGEST_DIRECTORY} characters')
    return str(value).rstrip("/") or "/"


def _native(key: str, value: Any) -> dict[str, Any]:
    """Native options of the operator's, each as a job would write it."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is a table, not {value!r}")
    for name, one in value.items():
        if fault := native.fault_of(str(name), one):
            raise ValueError(f"{key}.{name} {fault}")
    return dict(value)


def _enforced(key: str, value: Any) -> tuple[str, ...]:
    """As Slurm has it, limits and QOS are those of associations."""
    words = read.texts(key, value)
    if strange := sorted(set(words) - {"associations", "limits", "qos"}):
        raise ValueError(f"{key} names {', '.join(strange)}; it knows associations, limits and qos")
    return tuple(dict.fromkeys(("associations", *words))) if words else ()


def _allowed(key: str, value: Any) -> tuple[str, ...]:
    names = read.texts(key, value)
    if strange := sorted(set(names) - set(native.OPTIONS)):
        raise ValueError(
            f"{key} names {', '.join(strange)}; a job can set {', '.join(sorted(native.OPTIONS))}"
        )
    return names


# ---- tables ------------------------------------------------------------------------------------------


def _fabric(key: str, value: Any) -> FabricOptions:
    found = FabricOptions(**read.table("", f"{key}.", value, FabricOptions, FABRIC))
    chosen = {word: getattr(found, word) for word in ("constraint", "gres", "switches")}
    _native(key, {word: said for word, said in chosen.items() if said is not None})
    return found


def _token(key: str, value: Any) -> TokenSource:
    return read.unprefixed(lambda: TokenSource(**read.table("", f"{key}.", value, TokenSource, TOKEN)))


def _users(key: str, value: Any) -> Users:
    found = read.unprefixed(lambda: Users(**read.table("", f"{key}.", value, Users, USERS)))
    ways = [way for way in ("service", "table", "owner") if getattr(found, way)]
    if len(ways) != 1:
        said = " and ".join(ways) or "none"
        raise ValueError(
            f"{key} names one way from an owner to a user: service, table or owner; found {said}"
        )
    if found.strip_domain is not None and not found.owner:
        raise ValueError(f"{key}.strip_domain goes with {key}.owner = true")
    named = {"service": found.service} if found.service else {f"table.{k}": v for k, v in found.table.items()}
    for where, user in named.items():
        if not is_slurm_user(user):
            raise ValueError(f"{key}.{where}: {user!r} cannot be whom a job runs as")
    return found


# fmt: off
TOKEN: Mapping[str, Reader] = {
    "file": read.path, "command": read.texts, "key_file": read.path, "lifespan_s": read.whole,
    "user": read.text,
}
USERS: Mapping[str, Reader] = {
    "service": read.text, "table": partial(read.of_names, read.text), "owner": read.truth,
    "strip_domain": read.text,
}
FABRIC: Mapping[str, Reader] = {
    "constraint": read.text, "gres": read.text, "switches": read.whole, "environment": read.variables,
}
READERS: Mapping[str, Reader] = {
    "directory": _directory,
    "transport": read.choice("rest", "pyslurm"), "url": read.text, "socket": read.path, "ca_file": read.path,
    "slurm_conf": read.path, "cluster": read.text,
    "token": _token, "users": _users,
    "connect_s": read.seconds, "answer_s": read.seconds, "settle_s": read.seconds,
    "defaults": _native, "allowed": _allowed, "preemptible": _native,
    "priorities": partial(read.priorities, _native), "enforced": _enforced,
    "fabrics": partial(read.fabrics, _fabric),
    "gpu_types": partial(read.of_names, read.text), "mig_profiles": partial(read.of_names, read.text),
    "containers": read.choice("none", "pyxis"), "container_feature": read.text,
    "environment": read.variables, "secrets_directory": read.path,
    "native_dependencies": read.truth,
    "guard": read.truth, "logs": read.truth, "log_roots": read.paths,
    "log_paths": partial(read.of_names, read.path),
}
# fmt: on


# ---- what has to agree -------------------------------------------------------------------------------


def _check_transport(options: Options) -> str | None:
    if options.transport == "pyslurm":
        return "url and socket belong to the transport rest" if options.url or options.socket else None
    if (options.url is None) == (options.socket is None):
        return "the transport rest needs either url or socket, where slurmrestd listens"
    if options.url is None:
        return None
    try:
        parts = urlsplit(options.url)
        well = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well = False
    if not well:
        return f"url is such as https://slurm.example:6820, not {options.url!r}"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "url holds nothing but scheme, host, port and path; a token goes into token"
    return None


def _check_token(options: Options) -> str | None:
    if options.transport == "pyslurm":
        return "token belongs to the transport rest; pyslurm uses munge" if options.token else None
    if options.token is None:
        return "token is missing: exactly one of token.file, token.command and token.key_file"
    sources = [one for one in ("file", "command", "key_file") if getattr(options.token, one)]
    if len(sources) != 1:
        found = " and ".join(sources) or "none"
        return f"token has exactly one of file, command and key_file; found {found}"
    if options.token.user is None and sources != ["key_file"] and options.users.service is None:
        return f"token.user is missing: whom the token of token.{sources[0]} speaks for"
    return None


def _check_containers(options: Options) -> str | None:
    if options.containers == "pyxis" and re.search(r"[\s,:\"'$#]", options.directory):
        return "directory holds a character that a mount of Pyxis cannot carry (space , : quotes $ #)"
    if options.container_feature is None:
        return None
    if options.containers == "none":
        return 'container_feature is of containers = "pyxis"'
    if not native.SIMPLE.fullmatch(options.container_feature) or "&" in options.container_feature:
        return f"container_feature is the name of one feature, not {options.container_feature!r}"
    return None
