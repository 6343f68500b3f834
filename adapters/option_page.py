"""The page of a backend's options, from the fields of its dataclasses and the texts below them.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from api_spec.field_texts import texts


def tables(of: Mapping[str, type]) -> Iterator[str]:
    """One for each dataclass; its key is written before its options, "" for those at the top."""
    for prefix, options in of.items():
        if prefix:
            yield f"## `{prefix.rstrip('.')}`\n"
        said = texts(options)
        rows = [
            f"| `{prefix}{one.name}` | {_default_of(one)} | {_cell(said[one.name])} |"
            for one in fields(options)
        ]
        yield "\n".join(["| option | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _default_of(one: Field[Any]) -> str:
    if one.default is MISSING and one.default_factory is MISSING:
        return "required"
    default = one.default_factory() if one.default_factory is not MISSING else one.default
    return "none" if default is None or default in ((), {}) else f"`{_toml(default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")
