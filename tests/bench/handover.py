"""From POST to the backend's handle, with a backend that takes 200 jobs a second and no more.

The other side is a loop that does nothing but submit to the same backend.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

from adapters.base import AttemptRef
from adapters.errors import Busy
from api_spec.schemas import load_spec
from tests.bench import submits
from tests.bench.figures import Figure, Size
from tests.bench.grounds import BODY, TRAINING, Grounds

CAP = 200  # submits a second
OFFERED = 1.1 * CAP  # more than can be taken, so that it is the backend that is waited for
GOAL = 0.95
OURS = (*submits.BROKER, "redis")
NEVER_S = 86400  # jobs that do not start: what is measured ends with the handle


def figures(size: Size) -> Iterator[Figure]:
    loops, ours = [], []
    for _ in range(size.rounds):
        habits = {"cap": CAP, "start_s": NEVER_S}
        with Grounds(fake=habits, max_submits_per_s=10 * CAP, max_live_jobs=10**6) as grounds:
            loops.append(submits_alone(grounds, size.handovers) / CAP)
            grounds.start_broker()
            ours.append(
                submits.through_the_broker(grounds, BODY, size.handovers, offered=OFFERED, cpu_of=OURS)
            )
            size.note("handover", loop=loops[-1], broker=ours[-1])
    yield Figure(name="POST to handle: rate / cap", samples=[one["rate"] / CAP for one in ours], goal=GOAL)
    yield Figure(name="  a loop that only submits: rate / cap", samples=loops)
    all_of_it = [sum(one[name] for name in OURS) for one in ours]
    yield Figure(name="  CPU a job, all", samples=all_of_it, unit="ms")
    yield from submits.cpu_figures("CPU a job", ours)


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
