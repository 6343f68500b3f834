"""Submissions through API, store, Celery and worker to a real API server, against a loop that only creates.

The controllers are stopped: no Job gets a pod meanwhile, and what is measured ends with the Job's uid.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from tests.bench.figures import Figure, Size
from tests.bench.kubernetes_grounds import BODY, Bare, KubernetesGrounds, kubernetes_grounds, rounds
from tests.bench.load import post
from tests.helpers import wait_until

OFFERED = 50.0  # a second
GOAL = 0.9
BROKER = ("api", "worker", "controller")
CLUSTER = ("apiserver", "etcd")


def figures(size: Size) -> Iterator[Figure]:
    bare, ours = [], []
    for _ in range(rounds(size)):
        with kubernetes_grounds() as grounds:
            grounds.start_broker()
            grounds.watched()
            grounds.cluster.kill("controller-manager")
            ours.append(through_the_broker(grounds, size.kubernetes_submits))
            for role in BROKER:  # it would go on looking at its Jobs
                grounds.end(role)
            bare.append(alone(grounds, size.kubernetes_submits))
            size.note("kubernetes submits", bare=bare[-1], broker=ours[-1])
    shares = [a["rate"] / min(OFFERED, b["rate"]) for a, b in zip(ours, bare, strict=True)]
    yield Figure(name="Kubernetes: submits, rate / the smaller of 50 and bare", samples=shares, goal=GOAL)
    yield Figure(name="  the broker, 50 a second offered", samples=[one["rate"] for one in ours], unit="/s")
    yield Figure(name="  a bare loop of POSTs", samples=[one["rate"] for one in bare], unit="/s")
    for name in (*BROKER, "redis", *CLUSTER):
        yield Figure(name=f"  CPU a job, {name}", samples=[one[name] for one in ours], unit="ms")
    for name in CLUSTER:
        label = f"  CPU a job of the bare loop, {name}"
        yield Figure(name=label, samples=[one[name] for one in bare], unit="ms")


def alone(grounds: KubernetesGrounds, count: int) -> dict[str, float]:
    """Rate a second, and milliseconds of CPU a job by name."""
    with Bare(grounds) as bare:
        bare.submit(-1)  # the connection stands
        before = cpu(grounds, CLUSTER)
        began = time.monotonic()
        for number in range(count):
            bare.submit(number)
        taken = time.monotonic() - began
    return {"rate": count / taken, **each(grounds, before, count)}


def through_the_broker(grounds: KubernetesGrounds, count: int) -> dict[str, float]:
    """The same; from the first POST until the handle of the last one is stored."""
    had, before = grounds.handed_over(), cpu(grounds, (*BROKER, "redis", *CLUSTER))
    answer: dict[str, float] = {}
    options = {"token": grounds.token, "count": count, "rate": OFFERED}
    client = threading.Thread(
        target=lambda: answer.update(post(grounds.port, "/v1/jobs", BODY, **options)), daemon=True
    )
    client.start()
    wait_until(lambda: grounds.handed_over() == had + count, 300.0, f"{count} jobs have their handles")
    ended_at = time.time()
    spent = each(grounds, before, count)
    client.join()
    return {"rate": count / (ended_at - answer["began_at"]), **spent}


def cpu(grounds: KubernetesGrounds, names: tuple[str, ...]) -> dict[str, float]:
    return {name: grounds.cpu_s(name) for name in names}


def each(grounds: KubernetesGrounds, before: dict[str, float], count: int) -> dict[str, float]:
    return {name: 1000 * (grounds.cpu_s(name) - was) / count for name, was in before.items()}
