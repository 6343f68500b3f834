"""The only reader of request bodies: strict JSON within limits, or a 4xx that says where it is wrong.

Refused: another content type or charset, compressed bodies, invalid UTF-8, more than the limit, members
that occur twice, NaN and infinities (``1e999`` too), lone surrogates, more than ``MAX_DEPTH`` levels.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from flask import Request

from api_spec.encoding import decode_ours, encode_sorted
from api_spec.errors import Fault, InvalidRequest, InvalidSpec, TooLarge, UnsupportedMediaType
from broker.web.context import this_request, web

MAX_DEPTH = 32
BODY_ERRORS = (TooLarge, UnsupportedMediaType, InvalidSpec)
"""Of each call that looks at its body."""
CHUNK_BYTES = 64 * 1024
READ_ON_BYTES = 64 * 1024**2  # what is longer is cut off
JSON = ("application/json",)
MERGE_PATCH = ("application/json", "application/merge-patch+json")
KEY = re.compile(r"[\x21-\x7e]{1,255}")


class Suspicious(ValueError):
    """Something is wrong; a slower look says where."""


class Doubled(dict[str, Any]):
    """An object in which ``member`` occurs more than once."""

    member = ""


class NotFinite(float):
    """A number that JSON does not have."""


def read_json(limit_bytes: int, types: tuple[str, ...] = JSON) -> Any:
    """The document of this request."""
    request = this_request()
    check_content_type(request, types)
    return parse(read_body(request, limit_bytes))


def read_json_if_any(limit_bytes: int) -> Any:
    """The document of this request, or an empty one where nothing was sent."""
    request = this_request()
    sent = read_body(request, limit_bytes)
    if not sent:
        return {}
    check_content_type(request, JSON)
    return parse(sent)


def take_no_body() -> None:
    """Of a call that has nothing to be told: whoever sends something expects that it is read."""
    document = read_json_if_any(web().settings.max_body_bytes)
    if document != {}:
        names = list(document) if isinstance(document, dict) else []
        faults = [Fault(f"/{escape(name)}", "is not taken here") for name in names[:20]]
        raise InvalidSpec("this call takes no body", faults=faults or [Fault("", "must be empty, or {}")])


def read_body(request: Request, limit_bytes: int) -> bytes:
    """Raises ``TooLarge``, when it has read on for a while: a client that still sends would not hear it.

    Read here and not by Werkzeug, which takes what comes in chunks up to the limit and drops the rest.
    """
    size, sender = request.content_length, request.environ["wsgi.input"]
    if size is None or size <= limit_bytes:
        body: bytes = sender.read(limit_bytes + 1 if size is None else size)
        if size is not None and len(body) < size:
            refuse("", f"the body ends after {len(body)} of {size} bytes")
        if len(body) <= limit_bytes:
            return body
    for _ in range(READ_ON_BYTES // CHUNK_BYTES):
        if not sender.read(CHUNK_BYTES):
            break
    has = f"has {size} bytes" if size else "is longer"
    raise TooLarge(f"the body {has}; at most {limit_bytes} are taken")


def check_content_type(request: Request, types: tuple[str, ...]) -> None:
    if request.environ.get("CONTENT_TYPE") not in types:  # the usual case needs no parsing
        charset = request.mimetype_params.get("charset", "utf-8")
        if request.mimetype not in types or charset.lower() not in ("utf-8", "utf8"):
            sent = request.headers.get("Content-Type", "none")
            raise UnsupportedMediaType(f"the content type must be {types[-1]} in UTF-8; it is {sent}")
    if request.environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
        raise UnsupportedMediaType("the body must not be compressed")


def parse(raw: bytes) -> Any:
    """Decode strictly; ``InvalidRequest`` points at what is wrong."""
    document = decode_ours(raw)
    if document is None:
        document = _parse_strictly(raw)
    # Walking costs as much as parsing, so only what could be wrong is walked.
    if b"\\u" in raw or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        check_values(document)
    return document


def _parse_strictly(raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8")
        try:
            return STRICT.decode(text)
        except Suspicious:
            document = MARKING.decode(text)
            check_values(document)
            return document
    except UnicodeDecodeError as error:
        refuse("", f"the body is not UTF-8: byte {error.start} cannot be read")
    except RecursionError:
        refuse("", f"the document has more than {MAX_DEPTH} levels")
    except json.JSONDecodeError as error:
        refuse("", f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})")
    except ValueError as error:  # an integer of thousands of digits
        refuse("", f"the body holds a number that is too long: {error}")


def unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Suspicious
    return members


def not_json(word: str) -> NoReturn:
    raise Suspicious(word)


def finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else not_json(text)


def marked_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = Doubled(pairs)
    names = [name for name, _ in pairs]
    members.member = next((name for name in names if names.count(name) > 1), "")
    return members if len(members) != len(pairs) else dict(pairs)


def marked_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else NotFinite(value)


STRICT = json.JSONDecoder(object_pairs_hook=unique_members, parse_constant=not_json, parse_float=finite)
MARKING = json.JSONDecoder(
    object_pairs_hook=marked_members, parse_constant=NotFinite, parse_float=marked_float
)


def check_values(document: Any) -> None:
    for pointer, value in walk(document):
        check_value(pointer, value)


def walk(document: Any) -> Iterator[tuple[str, Any]]:
    """Every value with its pointer, without recursion: a document can be deeper than Python's stack."""
    pending: list[tuple[str, Any, int]] = [("", document, 1)]
    while pending:
        pointer, value, depth = pending.pop()
        yield pointer, value
        if isinstance(value, dict):
            inner = [(f"{pointer}/{escape(name)}", item, depth + 1) for name, item in value.items()]
        elif isinstance(value, list):
            inner = [(f"{pointer}/{index}", item, depth + 1) for index, item in enumerate(value)]
        else:
            continue
        if depth > MAX_DEPTH:
            refuse("", f"the document has more than {MAX_DEPTH} levels")
        pending.extend(inner)


def check_value(pointer: str, value: Any) -> None:
    if isinstance(value, Doubled):
        refuse(f"{pointer}/{escape(value.member)}", "the member occurs twice")
    if isinstance(value, NotFinite):
        refuse(pointer, "NaN, infinities and numbers beyond a double are not JSON")
    if isinstance(value, str) and not is_unicode(value):
        refuse(pointer, "the text holds half of a surrogate pair")
    if isinstance(value, dict) and not all(is_unicode(name) for name in value):
        refuse(pointer, "the name of a member holds half of a surrogate pair")


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escape(name: str) -> str:
    """A member's name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1").encode("utf-8", "replace").decode()


def refuse(pointer: str, message: str) -> NoReturn:
    where = f"{pointer}: " if pointer else ""
    raise InvalidRequest(where + message, faults=[Fault(pointer, message)])


def digest_of(document: Any) -> str:
    """Equal for two bodies that mean the same: order of members and blanks do not count."""
    return hashlib.sha256(encode_sorted(document)).hexdigest()


def idempotency_key() -> str | None:
    """The header ``Idempotency-Key``: a string in quotes, as its draft says, or bare."""
    sent: str | None = this_request().environ.get("HTTP_IDEMPOTENCY_KEY")
    if sent is None:
        return None
    key = sent[1:-1] if len(sent) > 1 and sent[0] == sent[-1] == '"' else sent
    if not KEY.fullmatch(key):
        message = "must be 1 to 255 visible ASCII characters"
        raise InvalidRequest(f"Idempotency-Key {message}", faults=[Fault("Idempotency-Key", message)])
    return key
