"""JSON as the server writes it: UTF-8, no blanks.  The only module that knows ``orjson``.

The standard library needs ten times as long for a whole document, and every request writes several.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_STRICT = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_SORTED = _STRICT | orjson.OPT_SORT_KEYS


def encode(document: Any) -> bytes:
    """Mappings, sequences, texts, numbers, truth values and ``None``; raises for anything else.

    What ``orjson`` does not take, an integer of more than 64 bits or a lone surrogate, the standard library
    writes.  A number that is not finite becomes null: what is read from outside has none.
    """
    try:
        return orjson.dumps(document, default=dict, option=_STRICT)
    except TypeError:
        return _slowly(document)


def encode_sorted(document: Any) -> bytes:
    """The same, the members in the order of their names: equal documents are equal bytes."""
    try:
        return orjson.dumps(document, default=dict, option=_SORTED)
    except TypeError:
        return _slowly(document, sort_keys=True)


def encode_text(document: Any) -> str:
    return encode(document).decode()


def decode_ours(raw: bytes) -> Any:
    """The document, if it is written as ``encode`` writes it; None otherwise, and for the document null.

    Then it needs no stricter look: a member that is there twice, or a number that does not fit, would not
    have been written again.
    """
    try:
        document = orjson.loads(raw)
        return document if orjson.dumps(document) == raw else None
    except (ValueError, TypeError):  # no JSON, not UTF-8, or deeper than the library reads or writes
        return None


def _slowly(document: Any, *, sort_keys: bool = False) -> bytes:
    options: dict[str, Any] = {"separators": (",", ":"), "default": dict}
    return json.dumps(_finite(document), sort_keys=sort_keys, **options).encode()


def _finite(value: Any) -> Any:
    """As ``orjson`` would have it."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case Mapping():
            return {name: _finite(one) for name, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
        case _:
            return value
