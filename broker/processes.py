"""What the processes of the broker do from start to stop: the API, a worker, a controller, and the operator's
one-shot commands on the store."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from api_spec.errors import InvalidRequest
from broker.controller import Controller
from broker.heartbeat import Heartbeat
from broker.lifecycle import points
from broker.lifecycle.broker import Broker
from broker.lifecycle.recover import Loaded, Recovered, import_lines
from broker.lifecycle.recover import recover as recover_from_backends
from broker.log_reader import LogReader
from broker.logs import set_up_logs
from broker.settings import Settings
from broker.store import open_store
from broker.store.connection import errors_in_our_words
from broker.store.dump import export_lines
from broker.watcher import Watcher
from broker.wiring import build, hints_over, store_options

log = logging.getLogger(__name__)


def run_api(settings: Settings) -> None:
    from broker.web.server import run_api as serve

    set_up_logs("api", log_format=settings.log_format, level=settings.log_level)
    serve(settings)


def run_worker(settings: Settings) -> None:
    """Returns after SIGTERM: what it holds is finished or, past the grace, left to its lease."""
    from broker.queue import beat_while_it_listens, leave_in_time, make_app, queues
    from broker.tasks import register

    set_up_logs("worker", log_format=settings.log_format, level=settings.log_level)
    points.arm_from_environment(os.environ.get("BROKER_TEST_POINT"))
    app = make_app(settings, settings.redis_url)
    broker = build(settings, hints_over(app, settings))
    heartbeat = Heartbeat(broker.store, "worker")
    register(app, broker)
    beat_while_it_listens(app, heartbeat.beat)
    reader = log_reader(broker, settings)
    names = ",".join(queues([backend.name for backend in settings.backends]))
    log.info("the worker starts", extra={"queues": names, "threads": settings.worker_threads})
    options = ["--pool=threads", f"--concurrency={settings.worker_threads}", f"--queues={names}"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    leave_in_time()
    watcher = Watcher(broker)
    reader.start()
    watcher.start()
    try:
        app.worker_main(["--quiet", "worker", *options, *quiet])  # its banner is no JSON
    finally:
        heartbeat.end()
        watcher.stop()
        reader.stop()


def log_reader(broker: Broker, settings: Settings) -> LogReader:
    reader = LogReader(broker, settings.worker_name)
    if reader.backends:
        log.info("the worker reads logs", extra={"worker": settings.worker_name, "of": reader.backends})
    elif settings.worker_name is not None:
        log.warning(
            "no backend of the settings has the log_reader %s; this worker reads no logs for the API",
            settings.worker_name,
        )
    return reader


def recover(settings: Settings) -> Recovered:
    """Rebuild from the backends what the store has lost."""
    broker = build(settings, publish=lambda hint: None)
    with errors_in_our_words():
        return recover_from_backends(broker.context)


def export_store(settings: Settings, file: Path) -> int:
    """How many lines were written; ``-`` is standard output.  The file is readable by its owner only.

    Raises ``InvalidRequest`` when it cannot be written."""
    store = open_store(settings.redis_url, store_options(settings))
    with errors_in_our_words(), _output(file) as out:
        count = 0
        for line in export_lines(store):
            out.write(line)
            count += 1
        return count


def import_store(settings: Settings, file: Path) -> Loaded:
    """Raises ``InvalidRequest`` with the line that cannot be read, or when the file cannot be."""
    store = open_store(settings.redis_url, store_options(settings))
    with errors_in_our_words(), _input(file) as lines:
        return import_lines(store, lines)


@contextmanager
def _output(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdout
        return
    with (
        _in_our_words(file, "written"),
        open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out,
    ):
        yield out


@contextmanager
def _input(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdin
        return
    with _in_our_words(file, "read"), file.open(encoding="utf-8") as lines:
        yield lines


@contextmanager
def _in_our_words(file: Path, done: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{file} is not the export of a workload broker: it is not UTF-8") from error
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be {done}: {error.strerror or error}") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{file}, {error}") from error


def run_controller(settings: Settings) -> None:
    """Returns after SIGTERM or SIGINT."""
    set_up_logs("controller", log_format=settings.log_format, level=settings.log_level)
    points.arm_from_environment(os.environ.get("BROKER_TEST_POINT"))
    log.info("the controller starts", extra={"sweep_s": settings.sweep_s})
    broker = build(settings)
    heartbeat = Heartbeat(broker.store, "controller")
    controller = Controller(broker, settings.sweep_s, beat=heartbeat.beat)

    def stop(number: int, frame: FrameType | None) -> None:
        controller.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        controller.run()
    finally:
        heartbeat.end()
