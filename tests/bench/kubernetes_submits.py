"""Submissions through API, store, Celery and worker to a real API server, against a loop that only creates.

The controllers are stopped: no Job gets a pod meanwhile, and what is measured ends with the Job's uid.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import submits
from tests.bench.figures import Figure, Size
from tests.bench.kubernetes_grounds import BODY, Bare, KubernetesGrounds, kubernetes_grounds, rounds

CLUSTER = ("apiserver", "etcd")
ALL = (*submits.BROKER, "redis", *CLUSTER)


def figures(size: Size) -> Iterator[Figure]:
    bare, ours = [], []
    count = size.kubernetes_submits
    for _ in range(rounds(size)):
        with kubernetes_grounds() as grounds:
            grounds.start_broker()
            grounds.watched()
            grounds.cluster.kill("controller-manager")
            ours.append(submits.through_the_broker(grounds, BODY, count, offered=submits.OFFERED, cpu_of=ALL))
            for role in submits.BROKER:  # it would go on looking at its Jobs
                grounds.end(role)
            bare.append(alone(grounds, count))
            size.note("kubernetes submits", bare=bare[-1], broker=ours[-1])
    yield from submits.figures("Kubernetes", ours, bare)


def alone(grounds: KubernetesGrounds, count: int) -> submits.Side:
    with Bare(grounds) as bare:
        bare.submit(-1)  # the connection stands
        return submits.alone(grounds, bare.submit, count, cpu_of=CLUSTER)
