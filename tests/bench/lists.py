"""A page of 100 jobs out of a hundred thousand against the same page out of a thousand.

Both stores are on one server and are asked in turn, page by page.  What is timed is the lifecycle's list and
its JSON, without HTTP, which would add the same to both sides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from api_spec.ids import new_id
from api_spec.jobs import Kind
from api_spec.packing import pack_spec
from api_spec.schemas import dump_summary, load_spec
from api_spec.states import JobState
from api_spec.views import JobQuery
from broker.lifecycle.broker import Broker
from broker.store import open_store
from broker.store.jobs import NewJob
from broker.web.context import encode
from broker.wiring import build, store_options
from policies.records import pack
from tests.bench.figures import Figure, Size, percentile
from tests.bench.grounds import PROJECT, TRAINING, Grounds

GOAL = 2.0
BUNDLE = 100

# Each of the first holds for a page at least of the smaller store, so that both sides give out 100 rows.
FILTERS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "state": {"state": (JobState.RUNNING,)},
    "two states": {"state": (JobState.RUNNING, JobState.QUEUED)},
    "kind": {"kind": Kind.BATCH},
    "backend": {"backend": "hpc"},
    "owner": {"owner": "owner-1"},
    "label": {"labels": {"team": "team-1"}},
}
TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "state and owner": {"state": (JobState.RUNNING,), "owner": "owner-2"},
    "owner and label, none has both": {"owner": "owner-1", "labels": {"team": "team-0"}},
}


def figures(size: Size) -> Iterator[Figure]:
    with Grounds(appendfsync="everysec", backends=("hpc", "k8s")) as grounds:
        small, large = (
            filled(grounds, name, number) for name, number in (("s:", size.few), ("l:", size.many))
        )
        try:
            samples = [round_of(grounds, small, large, size) for _ in range(size.rounds)]
        finally:
            for broker in (small, large):
                broker.store.close()
    for name in (*FILTERS, *TOGETHER):
        p99 = [sample[name] for sample in samples]
        ratios = [many / few for few, many in p99]
        goal = GOAL if name in FILTERS else None
        yield Figure(
            name=f"list p99 by {name}: {size.many} / {size.few} jobs",
            samples=ratios,
            goal=goal,
            at_least=False,
        )
        yield Figure(name="  at the larger one", samples=[1000 * many for _, many in p99], unit="ms")


def filled(grounds: Grounds, prefix: str, count: int) -> Broker:
    """A broker over a store of its own, with jobs as if they had been accepted over the last weeks."""
    store = open_store(grounds.settings.redis_url, replace(store_options(grounds.settings), prefix=prefix))
    broker = build(grounds.settings, lambda hint: None, store)
    spec = load_spec(TRAINING)
    packed, decision = pack_spec(spec), pack(grounds.broker.preview([spec], grounds.who)[0])
    first = time.time() - count
    for start in range(0, count, BUNDLE):
        store.jobs.accept([new_job(n, first + n, packed, decision) for n in range(start, start + BUNDLE)])
    return broker


def new_job(number: int, created: float, spec: bytes, decision: bytes) -> NewJob:
    states = (JobState.RUNNING, JobState.QUEUED, JobState.ACCEPTED, JobState.COMPLETED, JobState.FAILED)
    fields = {
        "kind": (Kind.TRAINING, Kind.BATCH, Kind.INFERENCE)[number % 3],
        "name": f"job-{number % 50}",
        "project": PROJECT,
        "owner": f"owner-{number % 4}",
        "submitter": "portal",
        "state": states[number % 5],
        "digest": "0" * 16,
        "labels": {"team": f"team-{number % 4}"},
        "backend": ("hpc", "k8s")[number % 2],
    }
    return NewJob(
        id=new_id(created, os.urandom(10)), fields=fields, spec=spec, decision=decision, queue="submit:hpc"
    )


def round_of(grounds: Grounds, small: Broker, large: Broker, size: Size) -> dict[str, tuple[float, float]]:
    """Of each filter: the p99 of both stores."""
    out = {}
    for name, wanted in {**FILTERS, **TOGETHER}.items():
        few: list[float] = []
        many: list[float] = []
        for number in range(size.pages):
            sides = ((small, few), (large, many)) if number % 2 else ((large, many), (small, few))
            for broker, seconds in sides:
                seconds.append(page(grounds, broker, wanted))
        out[name] = percentile(few, 0.99), percentile(many, 0.99)
        size.note("list", filter=name, few_s=out[name][0], many_s=out[name][1])
    return out


def page(grounds: Grounds, broker: Broker, wanted: Mapping[str, Any]) -> float:
    query = JobQuery(project=PROJECT, limit=100, **wanted)
    began = time.perf_counter()
    found = broker.list_jobs(query, grounds.who)
    encode([dump_summary(job) for job in found.items])
    return time.perf_counter() - began
