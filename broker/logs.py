"""Logs of all processes: one JSON object a line, with the request, job and attempt they belong to.

The only module that knows structlog, which writes the form for people.  Libraries that log with the standard
library (gunicorn, Celery, redis) come out of the same formatter.  ``log = logging.getLogger(__name__)`` is
all that a module needs: ``log.info("accepted", extra={"backend": name})``; what ``bound`` holds is added.

    {"request_id": "...", "job": "01J...", "backend": "hpc", "event": "accepted", "level": "info",
     "logger": "broker.lifecycle", "timestamp": "2026-11-22T02:18:54.123456Z", "process": "api"}

Of each job a line says when it was accepted, handed over, and over; the rest of its life is in its events.
"""

from __future__ import annotations

import logging
import logging.config
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from api_spec.encoding import encode_text

# Chatty below this, and what they say there is of no use to an operator.
QUIET = {"httpx2": "WARNING", "httpcore2": "WARNING", "urllib3": "WARNING", "kombu": "WARNING"}

# What each record has; all else was said by whoever logged.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_bound: ContextVar[Mapping[str, Any]] = ContextVar("broker.logs", default=MappingProxyType({}))


class bound:  # noqa: N801 - reads as a verb, and a class costs each request a third of a generator
    """Adds ``request_id``, ``job``, ``attempt`` ... to each line of this thread or task within the block."""

    def __init__(self, **context: Any) -> None:
        self.context = context

    def __enter__(self) -> None:
        self.token = _bound.set({**_bound.get(), **self.context})

    def __exit__(self, *_: object) -> None:
        _bound.reset(self.token)


def set_up_logs(process: str, *, log_format: str = "json", level: str = "info") -> None:
    """For the whole process, once it knows its settings; ``process`` is api, worker, controller or dev."""
    logging.captureWarnings(True)  # or Python prints them as text
    # No line of ours says where in the code it was written, so nobody needs to find out.
    logging._srcfile = None  # as the documentation of the standard library recommends
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    form = for_people() if log_format == "console" else Lines(process)
    # stderr: what a command prints for its user stays alone on stdout.
    handler = {"class": "logging.StreamHandler", "formatter": "ours", "stream": sys.stderr}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"ours": {"()": lambda: form}},
            "handlers": {"all": handler},
            "root": {"handlers": ["all"], "level": level.upper()},
            "loggers": {name: {"level": least} for name, least in QUIET.items()},
        }
    )


class Lines(logging.Formatter):
    """JSON.  structlog's chain needs twice the time for the same line, and every job has some."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {**_bound.get()}
        line |= {name: value for name, value in record.__dict__.items() if name not in STANDARD}
        line["event"] = record.getMessage()
        line["level"] = record.levelname.lower()
        line["logger"] = record.name
        line["timestamp"] = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line["process"] = self.process
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return encode_text(line)
        except (TypeError, ValueError):  # a line never fails for what is in it
            return encode_text({name: as_text(value) for name, value in line.items()})


def as_text(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def for_people() -> logging.Formatter:
    import structlog

    # A plain traceback: the rich one prints local variables, and with them secrets.
    plain = structlog.dev.plain_traceback
    shared: list[Any] = [
        lambda _, __, event: {**_bound.get(), **event},
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),
        ],
        foreign_pre_chain=shared,
    )
