"""The Celery door: what a hint says is done by the broker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import celery
from kombu.exceptions import OperationalError

from broker.lifecycle.broker import Broker
from broker.queue import queue_of

HINT = "broker.hint"

log = logging.getLogger("broker.tasks")


def register(app: celery.Celery, broker: Broker) -> None:
    @app.task(name=HINT, acks_late=True, ignore_result=True)
    def hint(name: str) -> None:
        """What is due stands in the store, with its retries."""
        broker.perform(name)


def publisher(app: celery.Celery, backends: Collection[str], expires_s: float) -> Callable[[str], None]:
    """A hint that cannot be sent is sent again by the sweeper; one that nobody took in time is dropped."""

    def publish(name: str) -> None:
        try:
            app.send_task(HINT, args=[name], queue=queue_of(name, backends), retry=False, expires=expires_s)
        except (OperationalError, OSError) as error:
            log.warning("the hint %s was not sent: %s", name, error)

    return publish
