"""A specification and a reference as JSON in the ledger, and back.  Pure.

Not the wire format: fields and units are those of the dataclasses, so that nothing is parsed twice.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any

from adapters.base import AttemptRef
from api_spec.jobs import JobSpec


def dump_spec(spec: JobSpec) -> str:
    return json.dumps(_plain(spec), sort_keys=True, separators=(",", ":"))


def load_spec(text: str) -> JobSpec:
    """A field that a newer release wrote and this one does not know is left out."""
    spec = _built(JobSpec, json.loads(text))
    if not isinstance(spec, JobSpec):
        raise TypeError("not a specification")
    return spec


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def dump_ref(ref: AttemptRef) -> str:
    return json.dumps(_plain(ref) | {"handle": None})


def load_ref(text: str) -> AttemptRef:
    ref = _built(AttemptRef, json.loads(text))
    if not isinstance(ref, AttemptRef):
        raise TypeError("not a reference")
    return ref


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _built(kind: Any, value: Any) -> Any:
    """``value``, as JSON has it, in the type that the annotation ``kind`` names."""
    if value is None:
        return None
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _built(next(one for one in typing.get_args(kind) if one is not type(None)), value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        return kind(**{name: _built(hints[name], item) for name, item in value.items() if name in hints})
    if origin is tuple:
        return tuple(_built(typing.get_args(kind)[0], item) for item in value)
    if origin is not None and isinstance(value, dict):
        item_kind = typing.get_args(kind)[1]
        return {key: _built(item_kind, item) for key, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value
