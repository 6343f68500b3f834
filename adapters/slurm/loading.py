"""Reads what an operator has set for a ``slurm`` backend; each fault is a sentence with its key.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from adapters.slurm import native
from adapters.slurm.identity import is_slurm_user
from adapters.slurm.options import FabricOptions, Options, TokenSource, Users

Reader = Callable[[str, Any], Any]
T = TypeVar("T")

LONGEST_DIRECTORY = 3500
"""What is put below it has to fit into PATH_MAX, 4096, as well."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
PLACEHOLDERS = ("{user}", "{project}")


def load(given: Mapping[str, Any], name: str) -> Options:
    """Raises ``ValueError`` for what is not known, is missing, contradicts itself or has the wrong type."""
    values = _table(name, "", given, Options, READERS)
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


def _table(name: str, above: str, given: Any, of: type, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The members that were given, read; ``above`` is "token." for a table within."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{name}: {above.rstrip('.')} is a table, not {given!r}")
    known = [one.name for one in fields(of)]
    if strange := sorted(str(key) for key in given if key not in known):
        names = ", ".join(f"{above}{key}" for key in strange)
        raise ValueError(f"{name}: there is no option {names}; known are {', '.join(sorted(known))}")
    try:
        return {key: readers[key](above + key, value) for key, value in given.items() if value is not None}
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(f"{name}: ") else f"{name}: {error}") from None


# ---- values ------------------------------------------------------------------------------------------


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{key} is one line of text, not {value!r}")
    return value


def _truth(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} is true or false, not {value!r}")
    return value


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        raise ValueError(f"{key} is a number of seconds above 0 and up to a day, not {value!r}")
    return float(value)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is a whole number of at least 1, not {value!r}")
    return value


def _choice(*words: str) -> Reader:
    def read(key: str, value: Any) -> str:
        if value not in words:
            raise ValueError(f"{key} is {' or '.join(words)}, not {value!r}")
        return str(value)

    return read


def _path(key: str, value: Any) -> str:
    if not _text(key, value).startswith("/"):
        raise ValueError(f"{key} is an absolute path, not {value!r}")
    return str(value)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"{key} is a list, not {value!r}")
    return tuple(_text(f"{key}[{index}]", item) for index, item in enumerate(value))


def _paths(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_path(f"{key}[{index}]", item) for index, item in enumerate(_texts(key, value)))


def _of_names(read: Reader, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is a table, not {value!r}")
    return {_text(f"a name in {key}", name): read(f"{key}.{name}", one) for name, one in value.items()}


def _variables(key: str, value: Any) -> dict[str, str]:
    def content(name: str, one: Any) -> str:
        if not isinstance(one, str) or "\0" in one:
            raise ValueError(f"{name} is text, not {one!r}")
        return one

    found = _of_names(content, key, value)
    for name in found:
        if not VARIABLE.fullmatch(name) or name.startswith("BROKER_"):
            raise ValueError(f"{key}.{name} cannot be the name of a variable of a job")
    return found


def _directory(key: str, value: Any) -> str:
    text = _path(key, value)
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
    words = _texts(key, value)
    if strange := sorted(set(words) - {"associations", "limits", "qos"}):
        raise ValueError(f"{key} names {', '.join(strange)}; it knows associations, limits and qos")
    return tuple(dict.fromkeys(("associations", *words))) if words else ()


def _allowed(key: str, value: Any) -> tuple[str, ...]:
    names = _texts(key, value)
    if strange := sorted(set(names) - set(native.OPTIONS)):
        raise ValueError(
            f"{key} names {', '.join(strange)}; a job can set {', '.join(sorted(native.OPTIONS))}"
        )
    return names


def _priorities(key: str, value: Any) -> dict[str, dict[str, Any]]:
    found = _of_names(_native, key, value)
    if strange := sorted(set(found) - {"low", "normal", "high"}):
        raise ValueError(f"{key} has a row for {', '.join(strange)}; a job's priority is low, normal or high")
    return found


# ---- tables ------------------------------------------------------------------------------------------


def _fabrics(key: str, value: Any) -> dict[str, FabricOptions]:
    def one(name: str, row: Any) -> FabricOptions:
        found = FabricOptions(**_table("", f"{name}.", row, FabricOptions, FABRIC))
        chosen = {word: getattr(found, word) for word in ("constraint", "gres", "switches")}
        _native(name, {word: said for word, said in chosen.items() if said is not None})
        return found

    found: dict[str, FabricOptions] = _unprefixed(lambda: _of_names(one, key, value))
    if strange := sorted(set(found) - {"rdma", "gpudirect"}):
        raise ValueError(f"{key} has a row for {', '.join(strange)}; a job's fabric is rdma or gpudirect")
    return found


def _token(key: str, value: Any) -> TokenSource:
    return _unprefixed(lambda: TokenSource(**_table("", f"{key}.", value, TokenSource, TOKEN)))


def _users(key: str, value: Any) -> Users:
    found = _unprefixed(lambda: Users(**_table("", f"{key}.", value, Users, USERS)))
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


def _unprefixed(read: Callable[[], T]) -> T:
    """A table within says no name of the backend; that is done once, outside."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from None


# fmt: off
TOKEN: Mapping[str, Reader] = {
    "file": _path, "command": _texts, "key_file": _path, "lifespan_s": _whole, "user": _text,
}
USERS: Mapping[str, Reader] = {
    "service": _text, "table": partial(_of_names, _text), "owner": _truth, "strip_domain": _text,
}
FABRIC: Mapping[str, Reader] = {
    "constraint": _text, "gres": _text, "switches": _whole, "environment": _variables,
}
READERS: Mapping[str, Reader] = {
    "directory": _directory,
    "transport": _choice("rest", "pyslurm"), "url": _text, "socket": _path, "ca_file": _path,
    "slurm_conf": _path, "cluster": _text,
    "token": _token, "users": _users,
    "connect_s": _seconds, "answer_s": _seconds, "settle_s": _seconds,
    "defaults": _native, "allowed": _allowed, "priorities": _priorities, "preemptible": _native,
    "enforced": _enforced,
    "fabrics": _fabrics,
    "gpu_types": partial(_of_names, _text), "mig_profiles": partial(_of_names, _text),
    "containers": _choice("none", "pyxis"),
    "environment": _variables, "secrets_directory": _path,
    "guard": _truth, "logs": _truth, "log_roots": _paths, "log_paths": partial(_of_names, _path),
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
    return None
