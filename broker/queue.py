"""The Celery application.  A message is a hint: losing, doubling or delaying it costs time, never a job.

Every setting here answers a failure that was seen; ``docs/decisions`` says which.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection
from typing import Any

import celery
from celery.bootsteps import StartStopStep
from celery.signals import worker_shutting_down
from kombu import Queue

from broker.settings import Settings

STORE_QUEUE = "store"
VISIBILITY_S = 120  # more than four times the longest task, which ends after half a lease


STOP_GRACE_S = 10.0  # less than what a supervisor or a container engine gives


def queue_of(hint: str, backends: Collection[str]) -> str:
    """One queue a backend, so that one that hangs does not keep the others from their turn."""
    backend = hint.partition(":")[2]
    return f"backend.{backend}" if backend in backends else STORE_QUEUE


def queues(backends: Collection[str]) -> list[str]:
    """``store``: what concerns no backend, or one that left the configuration."""
    return [STORE_QUEUE, *(f"backend.{name}" for name in backends)]


def make_app(settings: Settings, url: str) -> celery.Celery:
    app = celery.Celery("broker", broker=_kombu_url(url))
    names = queues([backend.name for backend in settings.backends])
    app.conf.update(
        task_queues=[Queue(name) for name in names],
        task_default_queue=STORE_QUEUE,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any outage of Redis
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "health_check_interval": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": not url.startswith("unix"),
            "global_keyprefix": "wb:celery:",
        },
        visibility_timeout=VISIBILITY_S,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_publish_retry=False,  # the store already holds what the hint is about
        worker_pool="threads",  # with prefork a warm stop was seen to hang
        worker_concurrency=settings.worker_threads,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=False,
        task_send_sent_event=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
    )
    return app


def leave_in_time(grace_s: float = STOP_GRACE_S) -> None:
    """SIGTERM lets running tasks end, and no new ones begin.  What hangs at a backend is left to its lease.

    Celery's soft stop does that too, but it sleeps all of its time even when the tasks end at once.
    """

    def begin(**_: Any) -> None:
        timer = threading.Timer(grace_s, os._exit, args=(0,))
        timer.daemon = True
        timer.start()

    worker_shutting_down.connect(begin, weak=False)


def beat_while_it_listens(app: celery.Celery, beat: Callable[[], None], period_s: float = 1.0) -> None:
    """In the loop that takes messages, from its start on: a worker that hangs there, or that cannot get back
    to Redis, does not beat."""

    class Beat(StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            """Called again when a lost connection is back."""
            beat()
            self.timer = consumer.timer.call_repeatedly(period_s, beat)

        def stop(self, consumer: Any) -> None:
            self.timer.cancel()

    app.steps["consumer"].add(Beat)


def _kombu_url(url: str) -> str:
    """redis-py says unix:, kombu says redis+socket:."""
    if url.startswith("unix://"):
        return "redis+socket://" + url.removeprefix("unix://").replace("?db=", "?virtual_host=")
    return url
