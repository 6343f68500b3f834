"""The watch on a real API server: through its death, the death of the worker that watches, without rights."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, contextmanager

import pytest

from api_spec.states import AttemptState, JobState
from tests.helpers import wait_until
from tests.real.kubernetes_bench import Bench, bench
from tests.real.kubernetes_jobs import job
from tests.real.kubernetes_kit import ACCOUNT, RBAC, a_tenant
from tests.stack import Parts, job_until

__all__ = ["bench"]  # a fixture

pytestmark = pytest.mark.process

A = AttemptState
PATIENCE_S = 60.0
RARE_S = 600.0
"""Between two passes while a watch answers: what is seen sooner was told."""


@contextmanager
def watching(bench: Bench, **changes):
    with closing(bench.adapter_of(**changes).watch()) as seen:
        wait_until(lambda: seen.fault is None, PATIENCE_S, "the watch is in order")
        yield seen


def shown(seen, ref):
    return seen.observe([ref]).found.get(ref.marker)


def until(seen, ref, is_so, within_s=PATIENCE_S):
    """From what the watch tells, and nothing else; and each state once."""
    states = []

    def so():
        if ref.marker in seen.changed(0.5) and (found := shown(seen, ref)) is not None:
            states.append(found)
            return is_so(found)
        return False

    wait_until(so, within_s, "the watch tells it")
    return states[-1]


def test_the_watch_tells_of_a_life_from_begin_to_end(bench):
    with watching(bench) as seen:
        ref = bench.submit(job())

        end = until(seen, ref, lambda found: found.state is A.ENDED)

        assert end.outcome is JobState.COMPLETED
        assert end == bench.look(ref), "a pass says the same"


def test_a_killed_api_server_costs_the_watch_nothing_but_time(bench):
    """Its versions are 410 for ever after its restart. What changed meanwhile is told, what went is gone."""
    with watching(bench) as seen:
        stays, goes, ends = (bench.run(job("hang")) for _ in range(3))
        wait_until(lambda: all(shown(seen, ref) for ref in (stays, goes, ends)), PATIENCE_S)
        bench.cluster.kill("apiserver")
        wait_until(lambda: seen.fault, PATIENCE_S, "the death is noticed")
        bench.cluster.start("apiserver")
        bench.api.delete(f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/{goes.marker}")
        bench.adapter.cancel(ends)

        wait_until(lambda: seen.fault is None, PATIENCE_S, "it is in order again")
        end = wait_until(
            lambda: (found := shown(seen, ends)) and found.state is A.ENDED and found, PATIENCE_S
        )
        wait_until(lambda: shown(seen, goes) is None, PATIENCE_S)

        assert end.outcome is JobState.CANCELLED
        assert shown(seen, stays).state is A.RUNNING


def test_the_end_of_a_watch_loses_nothing_and_lists_nothing(bench):
    """A watch of two seconds is begun again and again."""
    asked = []
    with bench.tenant.wire() as wire, watching(bench, url=wire.url, watch_s=2.0) as seen:
        wire.watcher = lambda message: asked.append(message.path)  # which is None: nothing is cut
        ref = bench.submit(job(labels={"run": "6s"}))

        assert until(seen, ref, lambda found: found.state is A.ENDED).outcome is JobState.COMPLETED
        assert seen.fault is None
    begun = Counter(path.partition("?")[0] for path in asked)
    assert len(begun) == 5 and min(begun.values()) >= 2, begun
    assert all("watch=true" in path for path in asked), asked


def withdraw_watch(bench):
    """The broker's own role, bound here by a copy without the verb."""
    group = "rbac.authorization.k8s.io"
    role = bench.api.get(f"/apis/{group}/v1/clusterroles/{ACCOUNT}")
    rules = [{**rule, "verbs": [verb for verb in rule["verbs"] if verb != "watch"]} for rule in role["rules"]]
    path = f"/apis/{group}/v1/namespaces/{bench.namespace}/rolebindings/{ACCOUNT}"
    bench.api.delete(path)
    bench.cluster.allow(ACCOUNT, bench.namespace, rules, of="broker")


def test_without_the_right_to_watch_passes_go_on_and_the_check_says_so(bench):
    assert RBAC.read_text().count("watch") >= 5
    ref = bench.run(job("hang"))
    withdraw_watch(bench)
    wait_until(
        lambda: any(not one.well for one in bench.adapter.check() if one.subject == "rights"), PATIENCE_S
    )

    (finding,) = [one for one in bench.adapter.check() if one.subject == "rights"]
    with closing(bench.adapter_of().watch()) as seen:
        wait_until(lambda: seen.fault and "forbidden" in seen.fault, PATIENCE_S)
        assert bench.look(ref).state is A.RUNNING

    assert "watch jobs" in finding.message and "watch pods" in finding.message
    assert "list" not in finding.message
    without = [one for one in bench.adapter_of(watch=False).check() if one.subject == "rights"]
    assert [one.well for one in without] == [True]


# ---- through the whole stack ----------------------------------------------------------------------------


@pytest.fixture
def house(own_kubernetes, tmp_path):
    """Two workers, and passes so rare that only a watch can be what is quick."""
    settings = {"lease_s": 3, "poll_s": 0.5, "watched_poll_s": RARE_S}
    with a_tenant(own_kubernetes, tmp_path) as tenant, Parts(tmp_path, tenant.config(), **settings) as parts:
        parts.start("api", "worker-1", "worker-2", "controller")
        wait_until(lambda: answers(parts), PATIENCE_S, "the cluster is watched")
        yield parts


def answers(parts):
    until_ms = parts.store.backends.read("k8s").watched_until
    return until_ms is not None and until_ms > parts.store.now() * 1000


def submit(parts, outcome="success", run="500ms"):
    labels = {"outcome": outcome, "run": run}
    body = {"kind": "batch", "name": "job", "image": "registry.example/job:1", "labels": labels}
    (taken,) = parts.client().submit([{**body, "resources": {"memory_per_node": "50MiB"}}])
    return taken["job"]["id"]


def reaches(parts, job_id, *states):
    return job_until(parts.client(), job_id, lambda found: found["state"] in states, PATIENCE_S)


def watching_pid(parts):
    """Of the worker that has the lease."""
    holder = parts.store.client.hget(f"{parts.store.prefix}lease:watch:k8s", "holder")
    return int(holder.decode().split(":")[1])


def passes(parts):
    return parts.store.backends.read("k8s").seen_at


def until_passes_are_rare(parts):
    """One was made after the watch had begun, and the next one is far away."""

    def rare():
        at_ms = parts.store.client.hget(f"{parts.store.prefix}backend:k8s", "observe_watched_at")
        return at_ms is not None and int(at_ms) > (parts.store.now() + RARE_S / 2) * 1000

    wait_until(rare, PATIENCE_S, "a pass was made under the watch")


def test_when_the_watching_worker_is_killed_the_other_one_watches(house):
    first = submit(house, "hang")
    reaches(house, first, "RUNNING")
    until_passes_are_rare(house)
    before = passes(house)
    assert reaches(house, submit(house), "COMPLETED")["exit_code"] == 0
    assert passes(house) == before, "no pass was needed"
    dead = watching_pid(house)
    name = next(name for name, process in house.running.items() if process.pid == dead)

    house.kill(name)
    while_nobody_watches = submit(house)

    assert reaches(house, while_nobody_watches, "COMPLETED")["exit_code"] == 0
    wait_until(lambda: watching_pid(house) != dead and answers(house), PATIENCE_S, "the other one watches")
    until_passes_are_rare(house)
    reaches(house, submit(house), "COMPLETED")  # meanwhile the pass comes that was asked for before
    before = passes(house)
    assert reaches(house, submit(house), "COMPLETED")["exit_code"] == 0
    assert passes(house) == before


def test_a_killed_api_server_is_outlived_by_the_whole_stack(house, own_kubernetes):
    long = submit(house, run="8s")
    reaches(house, long, "RUNNING")
    until_passes_are_rare(house)

    own_kubernetes.kill("apiserver")
    wait_until(lambda: not answers(house), PATIENCE_S, "nobody answers for it")
    own_kubernetes.start("apiserver")

    wait_until(lambda: answers(house), PATIENCE_S, "it is watched again")
    assert reaches(house, long, "COMPLETED")["exit_code"] == 0
    until_passes_are_rare(house)
    reaches(house, submit(house), "COMPLETED")  # meanwhile the pass comes that was asked for before
    before = passes(house)
    assert reaches(house, submit(house), "COMPLETED")["exit_code"] == 0
    assert passes(house) == before, "the watch tells it again"
