"""The passports between the dataclasses and JSON.  The only package that knows marshmallow.

``load_spec`` is the strict door for what users send; the marshmallow schemas behind it, and those of
``views``, are what the OpenAPI document is generated from.  Everything that is only written, or read back
from ourselves, is plain code without marshmallow: ``canonical`` (specs), ``writing`` and ``reading`` (views).

``load_spec`` is imported when it is first used, so that a command that only reads starts without marshmallow.
"""

from __future__ import annotations

from typing import Any

from api_spec.jobs import JobSpec
from api_spec.schemas.canonical import (
    build_spec,
    dump_spec,
)
from api_spec.schemas.writing import (
    dump_accepted,
    dump_attempt,
    dump_backend,
    dump_decision,
    dump_event,
    dump_job,
    dump_page,
    dump_refusal,
    dump_summary,
    dump_task,
    dump_task_cancel,
    dump_usage,
)

__all__ = [
    "build_spec",
    "dump_accepted",
    "dump_attempt",
    "dump_backend",
    "dump_decision",
    "dump_event",
    "dump_job",
    "dump_page",
    "dump_refusal",
    "dump_spec",
    "dump_summary",
    "dump_task",
    "dump_task_cancel",
    "dump_usage",
    "load_spec",
]


def load_spec(document: Any, pointer: str = "") -> JobSpec:
    """A checked spec.  Raises ``InvalidSpec`` with every fault, each at a JSON pointer below ``pointer``."""
    from api_spec.schemas.job import load_spec as load

    return load(document, pointer)
