"""A spec as it is kept: its canonical JSON, squeezed where it is long, and the digest of that.

Not with the schemas: the client needs those, and no library of the server's.
"""

from __future__ import annotations

import json
import zlib
from hashlib import sha256
from typing import Any

from api_spec.encoding import encode_sorted
from api_spec.jobs import JobSpec
from api_spec.schemas import build_spec, dump_spec

_SMALL = 512  # bytes; arbitrary


def canonical_json(spec: JobSpec) -> bytes:
    """The same bytes for equal specs, whatever order their members were written in."""
    return encode_sorted(dump_spec(spec))


def spec_digest(spec: JobSpec) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return sha256(canonical_json(spec)).hexdigest()


def pack_spec(spec: JobSpec) -> bytes:
    return _squeezed(canonical_json(spec))


def pack_document(document: dict[str, Any]) -> tuple[bytes, str]:
    """What ``dump_spec`` wrote, packed, and its digest: for the path that every submission takes."""
    text = encode_sorted(document)
    return _squeezed(text), sha256(text).hexdigest()


def _squeezed(text: bytes) -> bytes:
    """Of a usual spec a third would be saved, for more time than its JSON took.  Ours begins with a brace,
    zlib's never does."""
    return text if len(text) <= _SMALL else zlib.compress(text)


def unpack_spec(packed: bytes) -> JobSpec:
    return build_spec(json.loads(packed if packed.startswith(b"{") else zlib.decompress(packed)))
