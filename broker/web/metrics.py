"""``/metrics``: request times of the API processes, and the broker's own figures at the time of the scrape.

Several processes serve the API, so request times are kept in files of ``PROMETHEUS_MULTIPROC_DIR`` where
that is set (``server`` does) and summed.  The broker's figures are the store's and are read once a scrape.
The only module that knows prometheus-client.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PREFIX = "broker_"

Figures = Callable[[], Mapping[str, Mapping[tuple[str, ...], float]]]
"""Name of a figure -> values of its labels -> value."""

LABELS = {
    "jobs": ("project", "state"),
    "live_jobs": ("backend",),
    "backend_jobs": ("backend", "state"),
    "oldest_job_seconds": ("backend", "state"),
    "backend_reachable": ("backend",),
    "backend_watched": ("backend",),
    "observer_lag_seconds": ("backend",),
    "due_jobs": ("queue",),
}


class Metrics:
    def __init__(self, figures: Figures) -> None:
        self.figures = figures
        self.own = CollectorRegistry()
        self.seconds = Histogram(
            "broker_http_request_seconds",
            "Time until an answer begins",
            ["method", "route"],
            buckets=BUCKETS,
            registry=self.own,
        )
        self.answers = Counter(
            "broker_http_answers_total", "Answers by status", ["method", "route", "status"], registry=self.own
        )
        self.children: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """``route`` is the template, never the path: a path holds ids."""
        key = (method, route, status)
        children = self.children.get(key)
        if children is None:
            children = self.seconds.labels(method, route), self.answers.labels(method, route, str(status))
            self.children[key] = children
        children[0].observe(seconds)
        children[1].inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(FiguresCollector(self.figures()))
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            MultiProcessCollector(registry)
            return generate_latest(registry)
        return generate_latest(self.own) + generate_latest(registry)


class FiguresCollector(Collector):
    def __init__(self, figures: Mapping[str, Mapping[tuple[str, ...], float]]) -> None:
        self.figures = figures

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        for name, rows in self.figures.items():
            labels = LABELS.get(name) or unnamed(rows)
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = kind(PREFIX + name, name.replace("_", " "), labels=labels)
            for values, value in rows.items():
                family.add_metric(values, value)
            yield family


def unnamed(rows: Mapping[tuple[str, ...], float]) -> tuple[str, ...]:
    """A figure that is not in ``LABELS`` is shown all the same."""
    return tuple(f"label_{index}" for index in range(len(next(iter(rows), ()))))
