"""From POST to the backend's handle, with a backend that takes 200 jobs a second and no more.

The other side is a loop that does nothing but submit to the same backend.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from adapters.base import AttemptRef, Busy
from api_spec.schemas import load_spec
from tests.bench.figures import Figure, Size
from tests.bench.grounds import BODY, TRAINING, Grounds
from tests.bench.load import post
from tests.helpers import wait_until

CAP = 200  # submits a second
OFFERED = 1.1 * CAP  # more than can be taken, so that it is the backend that is waited for
GOAL = 0.95
OURS = ("api", "worker", "controller", "redis")
NEVER_S = 86400  # jobs that do not start: what is measured ends with the handle


def figures(size: Size) -> Iterator[Figure]:
    loops, brokers = [], []
    cpu: dict[str, list[float]] = {name: [] for name in OURS}
    for _ in range(size.rounds):
        habits = {"cap": CAP, "start_s": NEVER_S}
        with Grounds(fake=habits, max_submits_per_s=10 * CAP, max_live_jobs=10**6) as grounds:
            loops.append(submits_alone(grounds, size.handovers) / CAP)
            grounds.start_broker()
            rate, cpu_s = through_the_broker(grounds, size.handovers)
            brokers.append(rate / CAP)
            for name in OURS:
                cpu[name].append(1000 * cpu_s[name] / size.handovers)
            size.note("handover", loop=loops[-1], broker=brokers[-1], cpu_s=cpu_s)
    yield Figure(name="POST to handle: rate / cap", samples=brokers, goal=GOAL)
    yield Figure(name="  a loop that only submits: rate / cap", samples=loops)
    yield Figure(
        name="  CPU a job, all", samples=[sum(each) for each in zip(*cpu.values(), strict=True)], unit="ms"
    )
    for name in OURS:
        yield Figure(name=f"  CPU a job, {name}", samples=cpu[name], unit="ms")


def submits_alone(grounds: Grounds, count: int) -> float:
    """A second."""
    (adapter,) = grounds.broker.context.adapters.values()
    spec, never = load_spec(TRAINING), threading.Event()
    began = time.monotonic()
    for number in range(count):
        ref = AttemptRef(marker=f"wb-test-loop{number}-1", job_id=f"loop{number}", kind=spec.kind)
        while True:
            try:
                adapter.submit(ref, spec)
                break
            except Busy as error:
                never.wait(error.retry_after_s)
    return count / (time.monotonic() - began)


def through_the_broker(grounds: Grounds, count: int) -> tuple[float, dict[str, float]]:
    """Handles a second, and CPU seconds for all of them; POSTs come one by one."""
    before, cpu_before = grounds.handed_over(), {name: grounds.cpu_s(name) for name in OURS}
    answer: dict[str, float] = {}
    options = {"token": grounds.token, "count": count, "rate": OFFERED}
    client = threading.Thread(
        target=lambda: answer.update(post(grounds.port, "/v1/jobs", BODY, **options)), daemon=True
    )
    client.start()
    wait_until(lambda: grounds.handed_over() == before + count, 300.0, f"{count} jobs have their handles")
    ended_at = time.time()
    cpu_s = {name: grounds.cpu_s(name) - cpu_before[name] for name in OURS}
    client.join()
    return count / (ended_at - answer["began_at"]), cpu_s
