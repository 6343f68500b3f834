"""The ETag of a job is its version.  Freshness (``observed_at``) is no change, so it is not part of it."""

from __future__ import annotations

import re

from flask import request

from api_spec.errors import Fault, InvalidRequest, PreconditionFailed
from api_spec.views import JobView

ENTITY_TAG = re.compile(r'(W/)?"[!#-~]*"')  # RFC 9110, 8.8.3
VERSION = re.compile(r'"([0-9]{1,15})"')


def of(job: JobView) -> str:
    return f'"{job.version}"'


def is_known_to_client(job: JobView) -> bool:
    """``If-None-Match`` names this version."""
    return request.if_none_match.contains_weak(str(job.version))


def if_version() -> int | None:
    """The version that ``If-Match`` asks for; None: any."""
    sent = request.headers.get("If-Match")
    if sent is None or sent.strip() == "*":
        return None
    if "," in sent:
        raise _malformed("must name one ETag")
    if not ENTITY_TAG.fullmatch(sent.strip()):
        raise _malformed('must hold an ETag as it came, with its quotes: "7"')
    found = VERSION.fullmatch(sent.strip())
    if found is None:  # weak or foreign: it cannot be the version of a job
        raise PreconditionFailed(f"no job has the ETag {sent.strip()[:40]}")
    return int(found[1])


def _malformed(message: str) -> InvalidRequest:
    return InvalidRequest(f"If-Match {message}", faults=[Fault("If-Match", message)])
