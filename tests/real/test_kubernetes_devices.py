"""GPUs that pods claim, on a real control plane: the API server takes the claims, the scheduler allocates.

The devices are made up, since there is no driver; what a driver does on a node was not run.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from api_spec.jobs import Resources
from api_spec.reasons import Reason
from api_spec.states import AttemptState, JobState
from tests.contract.places import new_ref
from tests.helpers import wait_until
from tests.real.kubernetes.devices import DRIVER, GROUP, devices
from tests.real.kubernetes_bench import Bench, a_bench
from tests.real.kubernetes_jobs import job, service

pytestmark = pytest.mark.process

A = AttemptState
BIG, SMALL = "cpu-0", "cpu-1"
IS_BIG = f"device.attributes['{DRIVER}'].productName == 'big'"


class DeviceBench(Bench):
    """With a class of devices of its own."""

    def __init__(self, tenant, stack):
        super().__init__(tenant, stack)
        self.name = f"{self.namespace}.example.org"  # classes are the cluster's
        stack.enter_context(devices(self.api, self.name, {BIG: ["big", "big"], SMALL: ["small"]}))
        options = {"device_class": self.name, "device_selectors": {"big": IS_BIG, "huge": "false"}}
        self.adapter = self.adapter_of(**options)

    def templates(self):
        return self.api.items(f"/apis/{GROUP}/namespaces/{self.namespace}/resourceclaimtemplates")

    def claims(self):
        return self.api.items(f"/apis/{GROUP}/namespaces/{self.namespace}/resourceclaims")


@pytest.fixture
def bench(own_kubernetes, tmp_path):
    with a_bench(own_kubernetes, tmp_path, kind=DeviceBench) as bench:
        yield bench


def gpus(count, gpu_type=None, nodes=1):
    return Resources(nodes=nodes, gpus_per_node=count, gpu_type=gpu_type, memory_per_node_mib=100)


def test_a_job_gets_the_devices_that_it_claims_and_ends(bench):
    wanted = job(resources=gpus(2, "big"))
    assert not bench.adapter.refusals(wanted, bench.adapter.inventory())

    ref = bench.submit(wanted)

    end = bench.ended(ref)
    assert (end.outcome, end.nodes) == (JobState.COMPLETED, (BIG,))
    [template] = bench.templates()
    assert template["metadata"]["ownerReferences"][0]["uid"] == ref.handle["uid"]
    bench.adapter.cleanup(ref)
    wait_until(lambda: not bench.templates() and not bench.claims(), 30, "what belongs to it goes with it")


def test_each_pod_of_a_job_has_a_claim_of_its_own(bench):
    ref = bench.submit(job("hang", resources=gpus(1, "big", nodes=2)))

    seen = bench.until_state(ref, A.RUNNING)

    assert seen.nodes == (BIG,)
    assert len(bench.claims()) == 2


def test_what_no_device_fulfils_waits_with_the_schedulers_words(bench):
    ref = bench.submit(job(resources=gpus(1, "huge")))

    seen = bench.until(ref, lambda seen: seen.reason is Reason.CAPACITY)

    assert seen.state is A.QUEUED
    assert "cannot allocate all claims" in seen.message


def test_a_class_that_is_not_there_is_refused_with_those_that_are(bench):
    adapter = bench.adapter_of(device_class="gpu.nvidia.com")

    (refused,) = adapter.refusals(job(resources=gpus(1)), bench.adapter.inventory())

    assert refused.code is Reason.UNSUPPORTED
    assert bench.name in refused.message


def test_a_revision_that_claims_more_gets_a_template_of_its_own(bench):
    ref = bench.submit(service(resources=gpus(1, "big")))
    bench.until(ref, lambda seen: seen.service.ready == 1)

    newer = replace(ref, revision=2)
    bench.adapter.update(newer, service(resources=gpus(2, "big")))

    bench.until(newer, lambda seen: seen.service.updated == seen.service.ready == 1)
    assert sorted(
        one["spec"]["spec"]["devices"]["requests"][0]["exactly"]["count"] for one in bench.templates()
    ) == [1, 2]


def test_the_api_server_takes_each_manifest_with_every_member_known(bench):
    """Strictly, so that a member that it does not know is an error."""
    wanted = job(resources=gpus(1, "big"))
    written = json.loads(bench.adapter.render(wanted, new_ref(wanted)))

    for one in written["items"]:
        plural = {"Job": "jobs", "ResourceClaimTemplate": "resourceclaimtemplates"}[one["kind"]]
        path = f"/apis/{one['apiVersion']}/namespaces/{bench.namespace}/{plural}"
        assert bench.api.ask("POST", f"{path}?dryRun=All&fieldValidation=Strict", one)


def test_the_check_finds_the_class_and_every_right(bench):
    found = bench.adapter.check()

    assert all(one.well for one in found), found
    assert f"there is the DeviceClass {bench.name}" in [one.message for one in found]
