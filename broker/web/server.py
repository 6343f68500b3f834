"""Serve the API: gunicorn with threads, started from here so that no configuration file is needed.

One process is the arbiter and serves nothing; ``api_processes`` serve, with ``api_threads`` each.  Each makes
its broker after the fork, because connections must not be shared.  With ``unread`` the only module that knows
gunicorn.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException

from broker.web.unread import HEADER_BYTES, HEADERS, REQUEST_LINE_BYTES, Worker, answer_broken_body

if TYPE_CHECKING:
    from broker.settings import Settings

GRACEFUL_S = 20  # what is under way may end; streams and waits leave within a second
SILENT_S = 60  # a process whose main loop says nothing for so long is replaced
KEEPALIVE_S = 75  # above the idle time of common proxies, so that they and not we close
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
METRICS_PREFIX = "broker-metrics-"


class Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, make_app: Callable[[], Flask], options: dict[str, Any]) -> None:
        self.make_app = make_app
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        return self.make_app()


class OurLogs(Logger):  # type: ignore[misc]
    """gunicorn's messages go where all others go, in the same form."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self._access_log_enabled = False  # ours has the request's id
        self.error_log.propagate = True


def run_api(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets requests end, and exits the process."""
    arbiter = os.getpid()
    forget_the_dead(Path(tempfile.gettempdir()))
    directory = tempfile.mkdtemp(prefix=f"{METRICS_PREFIX}{arbiter}-")
    os.environ[METRICS_DIR] = directory  # before prometheus-client is loaded, which decides by it
    try:
        import_what_serves()
        Server(lambda: make_app(settings), options_for(settings)).run()
    finally:
        if os.getpid() == arbiter:
            shutil.rmtree(directory, ignore_errors=True)


def forget_the_dead(parent: Path) -> None:
    """Metrics of API processes that were killed; those of others are not ours to remove."""
    for directory in parent.glob(f"{METRICS_PREFIX}*-*"):
        pid = directory.name.removeprefix(METRICS_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists():
            shutil.rmtree(directory, ignore_errors=True)


def import_what_serves() -> None:
    """Before the fork: it is done once, and its memory is shared, however many processes serve."""
    from broker import tasks, wiring  # noqa: F401
    from broker.web import app  # noqa: F401


def make_app(settings: Settings) -> Flask:
    from broker import wiring  # not above: see ``METRICS_DIR``
    from broker.web import create_app

    app = create_app(wiring.build(settings), settings)
    app.register_error_handler(ParseException, answer_broken_body)
    return app


def options_for(settings: Settings) -> dict[str, Any]:
    return {
        "bind": bind_address(settings.listen_host, settings.listen_port),
        "worker_class": Worker,
        "workers": settings.api_processes,
        "threads": settings.api_threads,
        "timeout": SILENT_S,
        "graceful_timeout": GRACEFUL_S,
        "keepalive": KEEPALIVE_S,
        "limit_request_line": REQUEST_LINE_BYTES,
        "limit_request_fields": HEADERS,
        "limit_request_field_size": HEADER_BYTES,
        "logger_class": OurLogs,
        "control_socket_disable": True,  # it would be made in the user's home
        "proc_name": "broker-api",
        "post_worker_init": leave_streams_when_stopping,
        "child_exit": forget_figures,
    }


def bind_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def leave_streams_when_stopping(worker: Any) -> None:
    """gunicorn waits for every thread of a worker that was told to stop; a stream would not end by itself."""
    from broker.web.context import web_of

    web_of(worker.wsgi).slots.is_stopping = lambda: not worker.alive


def forget_figures(_: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(worker.pid)
