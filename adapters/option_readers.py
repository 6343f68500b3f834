"""Reads the options that an operator sets for a backend; each fault is a sentence with its key.  Pure.

A reader takes the key, as it is shown ("token.file"), and the value; it raises ``ValueError``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from api_spec.jobs import Fabric, Priority

Reader = Callable[[str, Any], Any]
T = TypeVar("T")

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def table(name: str, above: str, given: Any, of: type, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The members of the dataclass ``of`` that were given, read; ``above`` is "token." for a table within."""
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


def unprefixed(read: Callable[[], T]) -> T:
    """A table within says no name of the backend; that is done once, outside."""
    try:
        return read()
    except ValueError as error:
        raise ValueError(str(error).removeprefix(": ")) from None


# ---- values ------------------------------------------------------------------------------------------


def text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError(f"{key} is one line of text, not {value!r}")
    return value


def truth(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key} is true or false, not {value!r}")
    return value


def seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        raise ValueError(f"{key} is a number of seconds above 0 and up to a day, not {value!r}")
    return float(value)


def whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is a whole number of at least 1, not {value!r}")
    return value


def choice(*words: str) -> Reader:
    def read(key: str, value: Any) -> str:
        if value not in words:
            raise ValueError(f"{key} is {' or '.join(words)}, not {value!r}")
        return str(value)

    return read


def path(key: str, value: Any) -> str:
    if not text(key, value).startswith("/"):
        raise ValueError(f"{key} is an absolute path, not {value!r}")
    return str(value)


def texts(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"{key} is a list, not {value!r}")
    return tuple(text(f"{key}[{index}]", item) for index, item in enumerate(value))


def paths(key: str, value: Any) -> tuple[str, ...]:
    return tuple(path(f"{key}[{index}]", item) for index, item in enumerate(texts(key, value)))


def of_names(read: Reader, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is a table, not {value!r}")
    return {text(f"a name in {key}", name): read(f"{key}.{name}", one) for name, one in value.items()}


def variables(key: str, value: Any) -> dict[str, str]:
    """Names and values of an environment; those of the broker are its own."""

    def content(name: str, one: Any) -> str:
        if not isinstance(one, str) or "\0" in one:
            raise ValueError(f"{name} is text, not {one!r}")
        return one

    found = of_names(content, key, value)
    for name in found:
        if not VARIABLE.fullmatch(name) or name.startswith("BROKER_"):
            raise ValueError(f"{key}.{name} cannot be the name of a variable of a job")
    return found


# ---- rows for words of the common vocabulary ---------------------------------------------------------


def priorities(read: Reader, key: str, value: Any) -> dict[str, Any]:
    found = of_names(read, key, value)
    if strange := sorted(set(found) - {one.value for one in Priority}):
        raise ValueError(f"{key} has a row for {', '.join(strange)}; a job's priority is low, normal or high")
    return found


def fabrics(read: Reader, key: str, value: Any) -> dict[str, Any]:
    found: dict[str, Any] = unprefixed(lambda: of_names(read, key, value))
    if strange := sorted(set(found) - {Fabric.RDMA.value, Fabric.GPUDIRECT.value}):
        raise ValueError(f"{key} has a row for {', '.join(strange)}; a job's fabric is rdma or gpudirect")
    return found
