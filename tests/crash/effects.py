"""Writes down every effect that leaves the process, and every named point, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from broker.lifecycle import points
from broker.lifecycle.broker import Broker

CALLS = {
    "submit",
    "find",
    "observe",
    "list_ours",
    "cancel",
    "cancel_tasks",
    "cleanup",
    "inventory",
    "load",
    "update",
    "adjust",
    "hold",
    "release",
}


@dataclass
class Recording:
    lines: list[tuple[str, str]] = field(default_factory=list)  # ("effect" or "point", name)

    thread: int = field(default_factory=threading.get_ident)

    def effect(self, name: str) -> None:
        """Of whoever does the work: beside it a thread renews the lease whenever it is time."""
        if threading.get_ident() == self.thread:
            self.lines.append(("effect", name))

    @property
    def effects(self) -> set[str]:
        return {name for kind, name in self.lines if kind == "effect"}

    @property
    def points(self) -> set[str]:
        return {name for kind, name in self.lines if kind == "point"}

    def without_a_point_between(self) -> set[tuple[str, str]]:
        """Pairs of consecutive effects where nothing could be killed between the two."""
        pairs = zip(self.lines, self.lines[1:], strict=False)
        return {(one[1], two[1]) for one, two in pairs if one[0] == two[0] == "effect"}


class Watched:
    """An adapter whose calls are written down; pure functions are none."""

    def __init__(self, adapter: Any, recording: Recording) -> None:
        self._adapter = adapter
        self._recording = recording

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._adapter, name)
        if name not in CALLS:
            return member

        def call(*args: Any, **kwargs: Any) -> Any:
            self._recording.effect(f"adapter.{name}")
            return member(*args, **kwargs)

        return call


@contextmanager
def recorded(broker: Broker) -> Iterator[Recording]:
    """While it lasts, the broker's effects and points are written down."""
    recording, context = Recording(), broker.context
    publish: Callable[[str], None] = context.publish

    def watched_publish(name: str) -> None:
        recording.effect("publish")
        publish(name)

    adapters: Any = {name: Watched(adapter, recording) for name, adapter in context.adapters.items()}
    broker.context = replace(context, publish=watched_publish, adapters=adapters)
    broker.store.scripts.watch = lambda name: recording.effect(f"script.{name}")
    points.install(lambda name: recording.lines.append(("point", name)))
    try:
        yield recording
    finally:
        points.install(None)
        broker.store.scripts.watch = None
        broker.context = context
