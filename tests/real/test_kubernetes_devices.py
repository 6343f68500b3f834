"""GPUs that pods claim, on a real control plane: the API server takes the claims, the scheduler allocates.

The devices are made up, since there is no driver; what a driver does on a node was not run.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace

import pytest

from adapters.kubernetes.adapter import KubernetesAdapter
from api_spec.jobs import JobSpec, Kind, Replicas, Resources, Service
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes.devices import DRIVER, GROUP, devices
from tests.real.kubernetes_kit import Tenant

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

A = AttemptState
BIG, SMALL = "cpu-0", "cpu-1"
IS_BIG = f"device.attributes['{DRIVER}'].productName == 'big'"


class Bench:
    def __init__(self, cluster, folder, stack):
        self.api = cluster.api
        self.tenant = Tenant.on(cluster, folder)
        self.name = f"{self.tenant.namespace}.example.org"  # classes are the cluster's
        stack.enter_context(devices(self.api, self.name, {BIG: ["big", "big"], SMALL: ["small"]}))
        options = {"device_class": self.name, "device_selectors": {"big": IS_BIG, "huge": "false"}}
        self.adapter = KubernetesAdapter(self.tenant.config(**options))
        stack.callback(self.adapter.close)

    def submit(self, spec, **changes):
        ref = new_ref(spec, **changes)
        return replace(ref, handle=self.adapter.submit(ref, spec))

    def until(self, ref, is_so):
        seen = []

        def so():
            seen.append(self.adapter.observe([ref]).found[ref.marker])
            return is_so(seen[-1])

        wait_until(so, 40, f"{ref.marker} is as expected")
        return seen[-1]

    def templates(self):
        return self.api.items(f"/apis/{GROUP}/namespaces/{self.tenant.namespace}/resourceclaimtemplates")

    def claims(self):
        return self.api.items(f"/apis/{GROUP}/namespaces/{self.tenant.namespace}/resourceclaims")


@pytest.fixture
def bench(own_kubernetes, tmp_path):
    with ExitStack() as stack:
        bench = Bench(own_kubernetes, tmp_path, stack)
        yield bench
        own_kubernetes.remove_namespace(bench.tenant.namespace)


def job(count, gpu_type=None, outcome="success", nodes=1):
    wanted = Resources(nodes=nodes, gpus_per_node=count, gpu_type=gpu_type, memory_per_node_mib=100)
    return JobSpec(
        kind=Kind.BATCH,
        name="job",
        project="vision",
        image="a:1",
        command=("work",),
        resources=wanted,
        labels={"outcome": outcome, "run": "300ms"},
    )


def test_a_job_gets_the_devices_that_it_claims_and_ends(bench):
    wanted = job(2, "big")
    assert not bench.adapter.refusals(wanted, bench.adapter.inventory())

    ref = bench.submit(wanted)

    end = bench.until(ref, lambda seen: seen.state is A.ENDED)
    assert (end.outcome, end.nodes) == (JobState.COMPLETED, (BIG,))
    [template] = bench.templates()
    assert template["metadata"]["ownerReferences"][0]["uid"] == ref.handle["uid"]
    bench.adapter.cleanup(ref)
    wait_until(lambda: not bench.templates() and not bench.claims(), 30, "what belongs to it goes with it")


def test_each_pod_of_a_job_has_a_claim_of_its_own(bench):
    ref = bench.submit(job(1, "big", "hang", nodes=2))

    seen = bench.until(ref, lambda seen: seen.state is A.RUNNING)

    assert seen.nodes == (BIG,)
    assert len(bench.claims()) == 2


def test_what_no_device_fulfils_waits_with_the_schedulers_words(bench):
    ref = bench.submit(job(1, "huge"))

    seen = bench.until(ref, lambda seen: seen.reason is Reason.CAPACITY)

    assert seen.state is A.QUEUED
    assert "cannot allocate all claims" in seen.message


def test_a_class_that_is_not_there_is_refused_with_those_that_are(bench):
    adapter = KubernetesAdapter(bench.tenant.config(device_class="gpu.nvidia.com"))

    (refused,) = adapter.refusals(job(1), bench.adapter.inventory())
    adapter.close()

    assert refused.code is Reason.UNSUPPORTED
    assert bench.name in refused.message


def test_a_revision_that_claims_more_gets_a_template_of_its_own(bench):
    def service(count):
        served = Service(port=8000, replicas=Replicas(min=1, max=2))
        return replace(job(count, "big", "hang"), kind=Kind.INFERENCE, service=served, command=())

    ref = bench.submit(service(1))
    bench.until(ref, lambda seen: seen.service.ready == 1)

    newer = replace(ref, revision=2)
    bench.adapter.update(newer, service(2))

    bench.until(newer, lambda seen: seen.service.updated == seen.service.ready == 1)
    assert sorted(
        one["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] for one in bench.templates()
    ) == [1, 2]


def test_the_api_server_takes_each_manifest_with_every_member_known(bench):
    """Strictly, so that a member that it does not know is an error."""
    written = json.loads(bench.adapter.render(job(1, "big"), new_ref(job(1))))

    for one in written["items"]:
        plural = {"Job": "jobs", "ResourceClaimTemplate": "resourceclaimtemplates"}[one["kind"]]
        path = f"/apis/{one['apiVersion']}/namespaces/{bench.tenant.namespace}/{plural}"
        assert bench.api.ask("POST", f"{path}?dryRun=All&fieldValidation=Strict", one)


def test_the_check_finds_the_class_and_every_right(bench):
    found = bench.adapter.check()

    assert all(one.well for one in found), found
    assert f"there is the DeviceClass {bench.name}" in [one.message for one in found]
