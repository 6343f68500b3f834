"""The figures of a real Kubernetes with fake nodes."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import kubernetes_memory, kubernetes_submits, kubernetes_watch
from tests.bench.figures import Figure, Size


def figures(size: Size) -> Iterator[Figure]:
    yield from kubernetes_submits.figures(size)
    yield from kubernetes_watch.figures(size)
    yield from kubernetes_memory.figures(size)
