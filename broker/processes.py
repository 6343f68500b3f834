"""What the processes of the broker do from start to stop: the API, a worker, a controller."""

from __future__ import annotations

import os
import signal
from types import FrameType

from broker.controller import Controller
from broker.lifecycle import points
from broker.settings import Settings
from broker.wiring import build


def run_api(settings: Settings) -> None:
    from broker.web.server import run_api as serve

    serve(settings)


def run_worker(settings: Settings) -> None:
    """Returns after SIGTERM: what it holds is finished or, past the grace, left to its lease."""
    from broker.queue import make_app, queues
    from broker.tasks import publisher, register

    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")  # Celery's soft stop
    points.arm_from_environment(os.environ.get("BROKER_TEST_POINT"))
    app = make_app(settings, settings.redis_url)
    register(app, build(settings, publisher(app)))
    names = ",".join(queues([backend.name for backend in settings.backends]))
    options = ["--pool=threads", f"--concurrency={settings.worker_threads}", f"--queues={names}"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    app.worker_main(["worker", *options, *quiet])


def run_controller(settings: Settings) -> None:
    """Returns after SIGTERM or SIGINT."""
    points.arm_from_environment(os.environ.get("BROKER_TEST_POINT"))
    controller = Controller(build(settings), settings.sweep_s)

    def stop(number: int, frame: FrameType | None) -> None:
        controller.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    controller.run()
