"""A token of a service account that ends in seconds: Kubernetes itself gives none for under ten minutes.

The claims of a real one with another end, signed with the key that the API server of the tests believes.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from pathlib import Path

LEEWAY_S = 60.0
"""The API server takes a token for so long after its end."""
HALF = 32
"""Bytes of each number of a signature with P-256."""


def ending_in(token: str, seconds: float, key: Path) -> str:
    """It is refused after so many seconds, and those for which the API server remembers it."""
    _, body, _ = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(f"{body}=="))
    end = int(time.time() + seconds - LEEWAY_S)
    claims |= {"exp": end, "iat": end - 600, "nbf": end - 600}
    signed = f"{_text({'alg': 'ES256', 'typ': 'JWT'})}.{_text(claims)}"
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    made = subprocess.run(command, input=signed.encode(), capture_output=True, check=True)
    return f"{signed}.{_encoded(_numbers(made.stdout))}"


def _text(part: object) -> str:
    return _encoded(json.dumps(part).encode())


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _numbers(written: bytes) -> bytes:
    """openssl writes two integers of ASN.1, a token has them one after the other."""
    found, at = b"", 2
    for _ in range(2):
        length = written[at + 1]
        number = int.from_bytes(written[at + 2 : at + 2 + length], "big")
        found, at = found + number.to_bytes(HALF, "big"), at + 2 + length
    return found
