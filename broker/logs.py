"""Logs of all processes: one JSON object a line, with the request, job and attempt they belong to.

The only module that knows structlog.  Libraries that log with the standard library (gunicorn, Celery,
redis) come out of the same formatter.  ``log = logging.getLogger(__name__)`` is all that a module of ours
needs: ``log.info("accepted", extra={"backend": name})``; what ``bound`` holds is added to each line.

    {"timestamp": "2026-11-22T02:18:54.123Z", "level": "info", "logger": "broker.lifecycle.accept",
     "event": "accepted", "process": "worker", "request_id": "...", "job": "01J...", "attempt": 1}
"""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

# Chatty below this, and what they say there is of no use to an operator.
QUIET = {"httpx2": "WARNING", "httpcore2": "WARNING", "urllib3": "WARNING", "kombu": "WARNING"}

_bound: ContextVar[Mapping[str, Any]] = ContextVar("broker.logs", default=MappingProxyType({}))


class bound:  # noqa: N801 - reads as a verb, and a class costs each request a third of a generator
    """Adds ``request_id``, ``job``, ``attempt`` ... to each line of this thread or task within the block."""

    def __init__(self, **context: Any) -> None:
        self.context = context

    def __enter__(self) -> None:
        self.token = _bound.set({**_bound.get(), **self.context})

    def __exit__(self, *_: object) -> None:
        _bound.reset(self.token)


def add_bound(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {**_bound.get(), **event}


def set_up_logs(process: str, *, log_format: str = "json", level: str = "info") -> None:
    """For the whole process, once it knows its settings; ``process`` is api, worker, controller or dev."""

    def name_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    shared: list[Any] = [
        add_bound,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    logging.captureWarnings(True)  # or Python prints them as text
    logging.config.dictConfig(standard_library(shared, log_format, level))


def standard_library(shared: list[Any], log_format: str, level: str) -> dict[str, Any]:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "ours": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [remove_meta, *renderers(log_format)],
                "foreign_pre_chain": shared,
            }
        },
        # stderr: what a command prints for its user stays alone on stdout.
        "handlers": {"all": {"class": "logging.StreamHandler", "formatter": "ours", "stream": sys.stderr}},
        "root": {"handlers": ["all"], "level": level.upper()},
        "loggers": {name: {"level": least} for name, least in QUIET.items()},
    }


def renderers(log_format: str) -> list[Any]:
    if log_format == "console":
        # A plain traceback: the rich one prints local variables, and with them secrets.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
