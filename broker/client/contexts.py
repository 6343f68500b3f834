"""Where the broker is and who asks: from arguments, the environment or files.  Knows all of these places.

In order: what is given; ``BROKER_URL`` and ``BROKER_TOKEN``; the context that is asked for
(``BROKER_CONTEXT``) or current in the configuration file; the file that ``broker dev`` leaves in its data
directory.  A token is taken from a file only for the URL that the same file names.
``BROKER_OWNER`` names the person that a portal acts for.

=========================================  =============================================================
file                                       holds (JSON, mode 0600)
=========================================  =============================================================
``~/.config/workload-broker/config.json``  ``current``: a name; ``contexts``: name to url, token, owner
``<data dir>/dev.json``                    ``url``, ``token`` and ``pid``, while ``broker dev`` runs
=========================================  =============================================================
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from broker.client.errors import NotConfigured

DEFAULT_URL = "http://127.0.0.1:8080"
CONFIG_FILE = "workload-broker/config.json"
DEV_FILE = "dev.json"
ENTRY_FORM = '{"url": "https://...", "token": "wb_..."}, and may hold "owner"'
CONFIG_FORM = '{"current": NAME, "contexts": {NAME: {"url": "https://...", "token": "wb_..."}}}'


@dataclass(frozen=True)
class Connection:
    """``owner``: the person a portal acts for (header ``Broker-Owner``); None: the token's own."""

    url: str
    token: str | None = None
    owner: str | None = None

    def __post_init__(self) -> None:
        """Raises ``NotConfigured`` for what can be no address: no start of a broker would mend it."""
        if not is_an_address(self.url):
            raise NotConfigured(
                f"{self.url!r} is not the address of a broker: --url, BROKER_URL or the configuration file "
                "must say it as http://HOST:PORT or https://HOST"
            )


def is_an_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # a port that is no number or too large, brackets that do not match
        return False
    plain = url.isprintable() and " " not in url
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0


def resolve(
    url: str | None = None,
    token: str | None = None,
    context: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Connection:
    """Raises ``NotConfigured`` when a named context is missing, or when a file with a token is open to others
    or does not have its form."""
    url = url or (None if context else environ.get("BROKER_URL"))
    token = token or environ.get("BROKER_TOKEN")
    if token == "":
        # Left empty by a command that failed; another token must not be taken in its place.
        raise NotConfigured("BROKER_TOKEN is set and empty: unset it, or give it a token")
    owner = environ.get("BROKER_OWNER")
    if url and token:
        return Connection(url.rstrip("/"), token, owner)
    for known in candidates(context or environ.get("BROKER_CONTEXT"), environ):
        if url is None or known.url == url.rstrip("/"):
            return Connection(known.url, token or known.token, owner or known.owner)
    return Connection((url or DEFAULT_URL).rstrip("/"), token, owner)


def candidates(context: str | None, environ: Mapping[str, str]) -> Iterator[Connection]:
    config = read_private(config_path(environ)) or {}
    contexts = config.get("contexts", {})
    if not isinstance(contexts, dict):
        raise NotConfigured(f"{config_path(environ)} must hold {CONFIG_FORM}")
    if context and context not in contexts:
        known = ", ".join(sorted(contexts)) or "none"
        raise NotConfigured(f"there is no context {context!r} in {config_path(environ)}; known: {known}")
    names = [context] if context else [config.get("current"), *contexts]
    for name in names:
        if name in contexts:
            yield connection(contexts[name], f"{config_path(environ)}: the context {name!r}")
    dev = read_private(dev_path(environ))
    if dev and not context:
        yield connection(dev, str(dev_path(environ)))


def connection(entry: Any, where: str) -> Connection:
    """Raises ``NotConfigured`` with the form that was expected at ``where``."""
    members = entry if isinstance(entry, dict) else {}
    url, *rest = (members.get(name) for name in ("url", "token", "owner"))
    if not isinstance(url, str) or not all(isinstance(one, str | None) for one in rest):
        raise NotConfigured(f"{where} must hold {ENTRY_FORM}")
    return Connection(url.rstrip("/"), *rest)


def config_path(environ: Mapping[str, str]) -> Path:
    return home(environ, "XDG_CONFIG_HOME", ".config") / CONFIG_FILE


def dev_path(environ: Mapping[str, str]) -> Path:
    default = home(environ, "", ".local/share") / "workload-broker"
    return Path(environ.get("BROKER_DATA_DIR") or default).expanduser() / DEV_FILE


def home(environ: Mapping[str, str], variable: str, default: str) -> Path:
    return Path(environ.get(variable) or Path(environ.get("HOME") or Path.home()) / default)


def read_private(path: Path) -> dict[str, Any] | None:
    """None where there is no file.  One that others can read is refused: it holds a token."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise NotConfigured(f"{path} cannot be read: {why}") from error
    if mode & 0o077:
        raise NotConfigured(f"{path} holds a token and others can read it: chmod 600 {path}")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotConfigured(f"{path} is not JSON ({error}); docs/command-line.md shows its form") from error
    if not isinstance(found, dict):
        raise NotConfigured(f"{path} does not hold a JSON object")
    return found


def save_context(name: str, known: Connection, environ: Mapping[str, str] = os.environ) -> Path:
    """Add or replace one context and make it the current one; the file is whole at every moment."""
    path = config_path(environ)
    config = read_private(path) or {}
    entry = {key: value for key, value in vars(known).items() if value}
    config = {"current": name, "contexts": {**config.get("contexts", {}), name: entry}}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, config)
    return path


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(content, file, indent=2)
    new.replace(path)
