"""What tests of bad days on a real Kubernetes have in common: an adapter, and how to wait for what it says.

with a_bench(cluster, tmp_path) as bench:
    ref = bench.run(job("hang"))

The fixtures are imported by the tests that want them, since tests of Slurm have a ``bench``, too.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes_kit import a_tenant

A = AttemptState
SLOW_S = 90.0


@pytest.fixture
def tenant(own_kubernetes, tmp_path):
    with a_tenant(own_kubernetes, tmp_path) as tenant:
        yield tenant


@pytest.fixture
def bench(own_kubernetes, tmp_path):
    with a_bench(own_kubernetes, tmp_path) as bench:
        yield bench


class Bench:
    """An adapter for a tenant of its own; what ``stack`` holds is undone before the tenant goes."""

    def __init__(self, tenant, stack):
        self.tenant, self.stack = tenant, stack
        self.adapter = self.adapter_of()

    @property
    def cluster(self):
        return self.tenant.cluster

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

    def until_state(self, ref, state, within_s=30.0):
        return self.until(ref, lambda seen: seen.state is state, within_s)

    def run(self, spec, **changes):
        ref = self.submit(spec, **changes)
        self.until_state(ref, A.RUNNING)
        return ref

    def ended(self, ref):
        return self.until_state(ref, A.ENDED, SLOW_S)

    def copies(self, ref):
        return len(self.tenant.objects("jobs", ref.marker))


@contextmanager
def a_bench(cluster, folder, labels=None, kind=Bench):
    with a_tenant(cluster, folder, labels) as tenant, ExitStack() as stack:
        yield kind(tenant, stack)
        cluster.calm()  # or nothing could be undone


def job_path(bench, ref):
    return f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/{ref.marker}"


def told(seen):
    return seen.outcome, seen.reason, seen.message
