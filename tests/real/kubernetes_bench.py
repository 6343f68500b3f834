"""What tests of bad days on a real Kubernetes have in common: an adapter, and how to wait for what it says.

with a_bench(cluster, tmp_path) as bench:
    ref = bench.run(job("hang"))
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace

from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import JobSpec, Kind, Resources
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes_kit import Tenant

A = AttemptState
SLOW_S = 90.0


class Bench:
    """An adapter on the cluster, in a namespace of its own."""

    def __init__(self, cluster, folder, stack, labels=None):
        self.cluster, self.stack = cluster, stack
        self.tenant = Tenant.on(cluster, folder, labels)

    @property
    def namespace(self):
        return self.tenant.namespace

    @property
    def api(self):
        return self.cluster.api

    def adapter_of(self, url=None, **changes):
        adapter = KubernetesAdapter(self.tenant.config(url, **changes))
        self.stack.callback(adapter.close)
        return adapter

    def submit(self, spec, **changes):
        ref = new_ref(spec, **changes)
        return replace(ref, handle=self.adapter.submit(ref, spec))

    def look(self, ref):
        return self.adapter.observe([ref]).found[ref.marker]

    def until(self, ref, is_so, within_s=30.0):
        seen = []

        def so():
            seen.append(self.look(ref))
            return is_so(seen[-1])

        wait_until(so, within_s, f"{ref.marker} is as expected")
        return seen[-1]

    def run(self, spec):
        ref = self.submit(spec)
        self.until(ref, lambda seen: seen.state is A.RUNNING)
        return ref

    def ended(self, ref):
        return self.until(ref, lambda seen: seen.state is A.ENDED, SLOW_S)

    def copies(self, ref):
        return len(self.tenant.objects("jobs", ref.marker))


@contextmanager
def a_bench(cluster, folder, labels=None):
    """In a namespace that goes afterwards, when the cluster is well again."""
    with ExitStack() as stack:
        bench = Bench(cluster, folder, stack, labels)
        bench.adapter = bench.adapter_of()
        yield bench
        cluster.calm()
        cluster.remove_namespace(bench.namespace)


def job_path(bench, ref):
    return f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/{ref.marker}"


def job(outcome="success", **changes):
    labels = {"outcome": outcome, "run": "300ms", **changes.pop("labels", {})}
    wanted = {"command": ("work",), "resources": Resources(memory_per_node_mib=100), **changes}
    return JobSpec(kind=Kind.BATCH, name="job", project="vision", image="a:1", labels=labels, **wanted)


def told(seen):
    return seen.outcome, seen.reason, seen.message
