"""Rows as a transport gives them; a test says what matters to it."""

from __future__ import annotations

from typing import Any

from adapters.slurm.records import Job

MARKER = "wb-test-01j0000000000000000000000a-1"


def row(*states: str, **fields: Any) -> Job:
    return Job(**{"id": 7, "name": MARKER, "user": "ana", "states": states or ("RUNNING",), **fields})
