"""Accepted POSTs a second, and the CPU of each, against a bare route on the same server."""

from __future__ import annotations

from collections.abc import Iterator

from broker.embedded.dev import free_port
from tests.bench.figures import Figure, Size
from tests.bench.grounds import BODY, START_S, Grounds, answers
from tests.bench.load import post
from tests.helpers import wait_until

GOAL = 0.45


def figures(size: Size) -> Iterator[Figure]:
    ours, bare = [], []
    with Grounds(backends=("hpc", "k8s")) as grounds:
        bare_port = free_port("127.0.0.1")
        grounds.start("api")
        grounds.start("bare", "tests.bench.bare", BROKER_LISTEN_PORT=str(bare_port))
        for port in (grounds.port, bare_port):
            wait_until(lambda port=port: answers(port), START_S, "it answers")
        sides = (("api", grounds.port, "/v1/jobs", ours), ("bare", bare_port, "/jobs", bare))
        for number in range(-1, size.rounds):  # a first one to warm up
            for name, port, path, results in sides:
                before = grounds.cpu_s(name), grounds.cpu_s("redis")
                answer = post(port, path, BODY, token=grounds.token, seconds=size.seconds)
                after = grounds.cpu_s(name), grounds.cpu_s("redis")
                answer["python_us"] = 1e6 * (after[0] - before[0]) / answer["answers"]
                answer["redis_us"] = 1e6 * (after[1] - before[1]) / answer["answers"]
                if number >= 0:
                    results.append(answer)
                    size.note(f"post {name}", **answer)
    pairs = list(zip(ours, bare, strict=True))
    yield Figure(name="POST: rate / bare", samples=[a["rate"] / b["rate"] for a, b in pairs], goal=GOAL)
    cpu = [(a["python_us"] + a["redis_us"]) / (b["python_us"] + b["redis_us"]) for a, b in pairs]
    yield Figure(name="POST: CPU / bare", samples=cpu)
    for name, results in (("broker", ours), ("bare", bare)):
        for what, unit in (("rate", "/s"), ("python_us", "us"), ("redis_us", "us"), ("p99_ms", "ms")):
            label = {"rate": "rate", "python_us": "API CPU", "redis_us": "Redis CPU", "p99_ms": "p99"}[what]
            samples = [result[what] for result in results]
            yield Figure(name=f"  {name}: {label}", samples=samples, unit=unit)
