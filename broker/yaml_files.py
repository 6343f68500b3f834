"""YAML files that people write, with the position of everything in them.  The one door to ruamel.yaml.

Reads the JSON-like part of YAML 1.2: mappings with text keys, lists, texts, numbers, true, false, null.  So
``yes``, ``1_000`` and ``2026-11-22`` are texts, and 010 is ten.  Everything else is refused with its line
and column: tags, duplicate keys, merge keys, NaN and infinities, and what is made to exhaust the reader.
JSON files can be read too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.reader import ReaderError

from api_spec.errors import BrokerError, InvalidRequest

Path = tuple[str | int, ...]

MAX_CHARACTERS = 8 * 1024 * 1024  # as a bundle over the API
MAX_NODES = 200_000  # aliases counted at their full size; a bundle of 1,000 long jobs has 60,000
MAX_DEPTH = 64
_MAX_DIGITS = 19  # of a signed 64-bit integer

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


@dataclass(frozen=True)
class Document:
    """One document of a file: plain dicts, lists and scalars, and where they stood."""

    data: Any
    source: str
    _text: str = field(repr=False, default="")
    _spans: dict[Path, _Span] = field(repr=False, default_factory=dict)
    _keys: dict[Path, tuple[int, int]] = field(repr=False, default_factory=dict)

    def locate(self, path: Path, offset: int = 0, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1; ``offset`` is a place in a text value, found through folds and quotes.

        ``key``: of the key instead of the value.  Of a path that is not there, the nearest parent's.
        """
        if key and path in self._keys:
            return self._keys[path]
        while path and path not in self._spans:
            path, offset = path[:-1], 0
        span = self._spans.get(path)
        return span.place(self._text, offset) if span else (1, 1)


@dataclass(frozen=True, slots=True)
class _Span:
    line: int
    column: int
    start: int
    end: int
    block: bool = False  # | or >: the text starts on the next line
    value: str | None = None

    def place(self, text: str, offset: int) -> tuple[int, int]:
        """Folding changes only white space, so the n-th other character is the same on both sides."""
        if not self.value or self.value.isspace():
            return self.line, self.column
        ahead = len("".join(self.value[:offset].split()))
        at = text.index("\n", self.start) if self.block else self.start
        at += text[at : at + 1] in "\"'" and not self.block
        while at < self.end and (ahead or text[at].isspace()):
            ahead -= not text[at].isspace()
            at += 1
        return _line_and_column(text, at)


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def read_documents(text: str, source: str, error: type[BrokerError] = InvalidRequest) -> list[Document]:
    """All documents but empty ones.  Raises ``error`` at the first thing that is wrong, with its position."""
    if len(text) > MAX_CHARACTERS:
        raise error(f"{source}: {len(text)} characters; {MAX_CHARACTERS} at most")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    try:
        return list(_Reader(text, source).documents())
    except _Wrong as wrong:
        raise error(f"{source}:{wrong.line}:{wrong.column}: {wrong}") from None
    except ReaderError as broken:
        line, column = _line_and_column(text, broken.position)
        raise error(f"{source}:{line}:{column}: a character that YAML does not allow") from None
    except MarkedYAMLError as broken:
        mark = broken.problem_mark or broken.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise error(f"{source}:{line}:{column}: {broken.problem or broken.context}") from None
    except YAMLError as broken:
        raise error(f"{source}: {broken}") from None


class _Wrong(Exception):
    def __init__(self, mark: Any, message: str) -> None:
        super().__init__(message)
        self.line, self.column = mark.line + 1, mark.column + 1


class _Reader:
    """Builds plain data from the parser's events, which come one at a time, so that limits hold early."""

    def __init__(self, text: str, source: str) -> None:
        self._text, self._source = text, source
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._nodes = 0
        self._spans: dict[Path, _Span] = {}
        self._keys: dict[Path, tuple[int, int]] = {}
        self._anchors: dict[str, tuple[Any, int]] = {}

    def documents(self) -> Iterator[Document]:
        for event in self._events:
            if not isinstance(event, DocumentStartEvent):
                continue
            if event.version not in (None, (1, 2)):
                raise _Wrong(event.start_mark, "YAML 1.2 is read here, no other version")
            self._spans, self._keys, self._anchors = {}, {}, {}
            data = self._node(next(self._events), ())
            if data is not None:
                yield Document(data, self._source, self._text, self._spans, self._keys)

    def _node(self, event: Any, path: Path) -> Any:
        self._nodes += 1
        before = self._nodes
        self._check(event, path)
        if isinstance(event, AliasEvent):
            return self._alias(event, path)
        value = self._value(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, self._nodes - before + 1)
        return value

    def _check(self, event: Any, path: Path) -> None:
        if self._nodes > MAX_NODES:
            raise _Wrong(event.start_mark, f"more than {MAX_NODES} values, aliases counted in full")
        if len(path) > MAX_DEPTH:
            raise _Wrong(event.start_mark, f"nested more than {MAX_DEPTH} deep")
        if getattr(event, "tag", None) is not None:
            raise _Wrong(event.start_mark, f"tags such as {event.tag} are not allowed")

    def _alias(self, event: AliasEvent, path: Path) -> Any:
        self._spans[path] = _span(event)
        if event.anchor not in self._anchors:
            raise _Wrong(event.start_mark, f"no complete value has the anchor &{event.anchor} before this")
        value, size = self._anchors[event.anchor]
        self._nodes += size
        self._check(event, path)
        return deepcopy(value)  # whoever changes one place must not change the other

    def _value(self, event: Any, path: Path) -> Any:
        if isinstance(event, MappingStartEvent):
            self._spans[path] = _span(event)
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            self._spans[path] = _span(event)
            return self._sequence(path)
        value = _scalar(event)
        self._spans[path] = _span(event, value if isinstance(value, str) else None)
        return value

    def _mapping(self, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event)
            if key in mapping:
                raise _Wrong(event.start_mark, f"the key '{key}' is there twice")
            self._keys[(*path, key)] = event.start_mark.line + 1, event.start_mark.column + 1
            mapping[key] = self._node(next(self._events), (*path, key))
        return mapping

    def _key(self, event: Any) -> str:
        if not isinstance(event, ScalarEvent):
            raise _Wrong(event.start_mark, "a key must be a text")
        self._check(event, ())
        if event.value == "<<" and event.implicit[0]:
            raise _Wrong(event.start_mark, "merge keys (<<) are not part of YAML 1.2")
        key = _scalar(event)
        if not isinstance(key, str):
            raise _Wrong(event.start_mark, f"a key must be a text; quote it: '{event.value}'")
        return key

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._node(event, (*path, len(items))))
        return items


def _span(event: Any, value: str | None = None) -> _Span:
    start, end = event.start_mark, event.end_mark
    block = getattr(event, "style", None) in ("|", ">")
    return _Span(start.line + 1, start.column + 1, start.index, end.index, block, value)


def _scalar(event: ScalarEvent) -> Any:
    """The core schema of YAML 1.2 for what is written plainly; what is quoted is a text."""
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NO_NUMBER.fullmatch(text):
        raise _Wrong(event.start_mark, f"{text} is not a number that can be sent; quote it if it is a text")
    if _INT.fullmatch(text):
        if len(text.lstrip("+-0")) > _MAX_DIGITS:
            raise _Wrong(event.start_mark, "a number of more than 64 bits; quote it if it is a text")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise _Wrong(event.start_mark, f"{text} is too large for a number")
        return number
    return text
