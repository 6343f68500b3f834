"""What the watch holds of thousands of pods, against the JSON of the list that it read them from.

``python -m tests.bench.kubernetes_memory`` is the process that watches; what it needs is loaded before.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from adapters.base import BackendConfig
from adapters.kubernetes import names
from adapters.kubernetes.adapter import KubernetesAdapter
from adapters.kubernetes.resources import JOBS, PODS
from tests.bench.figures import Figure, Size
from tests.bench.kubernetes_grounds import BACKEND, BARE, KubernetesGrounds, body_of, kubernetes_grounds
from tests.fakes import INSTANCE, ROOT
from tests.helpers import wait_until

GOAL = 3.0
AT_ONCE = 8
LISTED_WITHIN_S = 300.0


def figures(size: Size) -> Iterator[Figure]:
    count = size.kubernetes_memory_pods
    with kubernetes_grounds(count) as grounds:
        fill(grounds, count)
        json_mib = len(grounds.cluster.api.ask("GET", PODS.path(grounds.tenant.namespace))) / 2**20
        told = [watching(grounds) for _ in range(min(3, size.rounds))]
        size.note("kubernetes memory", json_mib=json_mib, told=told)
    shares = [one["held_mib"] / json_mib for one in told]
    label = f"Kubernetes: memory of the watch of {count} pods / their JSON"
    yield Figure(name=label, samples=shares, goal=GOAL, at_least=False)
    yield Figure(name="  at most, while it lists", samples=[one["peak_mib"] / json_mib for one in told])
    yield Figure(name="  the watch", samples=[one["held_mib"] for one in told], unit="MiB")
    yield Figure(name="  the JSON", samples=[json_mib], unit="MiB")


def fill(grounds: KubernetesGrounds, count: int) -> None:
    """Pods as a Job's are, without the Jobs: the controllers would take minutes more."""
    api, template = grounds.cluster.api, json.loads(body_of(grounds))["spec"]["template"]
    path = PODS.path(grounds.tenant.namespace)

    def make(number: int) -> None:
        marker = f"wb-{INSTANCE}-{number:026}-1"
        text = json.dumps(template).replace(BARE, marker)
        pod = {"apiVersion": "v1", "kind": "Pod", **json.loads(text)}
        metadata = {**pod["metadata"], "name": marker, "namespace": grounds.tenant.namespace}
        metadata["labels"] = {**metadata["labels"], **names.labels(marker, INSTANCE)}
        api.create({**pod, "metadata": metadata})

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(make, range(count)))

    def running() -> bool:
        found = api.get(f"{path}?fieldSelector=status.phase!=Running&limit=1")
        return not found["items"]

    wait_until(running, 1200.0, "all pods run")


def watching(grounds: KubernetesGrounds) -> dict[str, float]:
    words = [sys.executable, "-m", "tests.bench.kubernetes_memory", json.dumps(grounds.options)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def main() -> None:
    options = json.loads(sys.argv[1])
    config = BackendConfig(name=BACKEND, type="kubernetes", instance=INSTANCE, data_dir="", options=options)
    adapter = KubernetesAdapter(config)
    adapter.client.items(JOBS.path(options["namespace"]))  # the library is loaded, the connection stands
    before = memory_mib("VmRSS")
    with closing(adapter.watch()) as watch:
        give_up_at = time.monotonic() + LISTED_WITHIN_S
        while watch.fault is not None and time.monotonic() < give_up_at:
            watch.changed(0.2)
        assert watch.fault is None, watch.fault
        gc.collect()
        held, peak = memory_mib("VmRSS") - before, memory_mib("VmHWM") - before
    print(json.dumps({"held_mib": held, "peak_mib": peak}))


def memory_mib(name: str) -> float:
    """``VmRSS``: now, ``VmHWM``: at most so far."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
