"""Tokens that a cluster accepts, signed with its own key (HS256)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path


def token(key_file: Path, user: str, lifespan_s: float) -> str:
    """Who holds it is ``user``; a lifespan below zero makes one that has expired."""
    now = int(time.time())
    claims = {"sun": user, "iat": now, "exp": now + int(lifespan_s)}
    signed = b".".join(
        encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    signature = hmac.digest(key_file.read_bytes(), signed, hashlib.sha256)
    return b".".join((signed, encoded(signature))).decode()


def encoded(some: bytes) -> bytes:
    return base64.urlsafe_b64encode(some).rstrip(b"=")
