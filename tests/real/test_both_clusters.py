"""One broker before a real Slurm and a real Kubernetes: which of them gets what, and why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from api_spec.reasons import Reason
from api_spec.schemas import load_spec
from api_spec.states import JobState
from broker.cli.files import read_specs
from tests.kit import ANA, backend, kit_with
from tests.real import slurm_kit
from tests.real.kubernetes_kit import a_tenant
from tests.real.slurm import spank
from tests.real.slurm.fixtures import KINDS

pytestmark = pytest.mark.process

EXAMPLES = Path(__file__).parents[2] / "examples"
ENDS_WITHIN_S = 90.0
with_containers = pytest.mark.parametrize("new_cluster", ["22.05"], indirect=True)


@pytest.fixture
def new_cluster(request, tmp_path):
    """Of Slurm, with the stand-in for Pyxis, which writes down the images that it is told."""
    with spank.cluster_with_pyxis(KINDS[request.param].install, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def house(new_cluster, kubernetes, redis_server, tmp_path):
    """A broker that knows one as ``hpc``, the other as ``cloud``."""
    environment = {name: new_cluster.environment[name] for name in ("PATH", "SLURM_CONF")}
    hpc = slurm_kit.options_of(new_cluster, containers="pyxis", environment=environment)
    with a_tenant(kubernetes, tmp_path) as tenant:
        backends = backend("hpc", "slurm", hpc), backend("cloud", "kubernetes", tenant.options())
        with kit_with(redis_server, tmp_path, *backends) as kit:
            yield SimpleNamespace(kit=kit, tenant=tenant, slurm=new_cluster, tasks=tmp_path / "tasks")


def example(name):
    (read,) = read_specs([str(EXAMPLES / name)])
    return load_spec(read.spec)


def decided(house, job_id):
    """The binding decision, and its verdicts by backend."""
    decision = house.kit.broker.decisions(job_id, ANA)[-1]
    assert decision.binding
    return decision, {verdict.backend: verdict for verdict in decision.verdicts}


def reasons(verdict):
    return {part.rule for part in verdict.parts}


@with_containers
def test_one_file_runs_unchanged_on_slurm_and_on_kubernetes(house):
    """The policy sends it to Slurm, as it is training; and to Kubernetes when Slurm takes no more."""
    spec = example("container.yaml")

    on_slurm = house.kit.submit(spec)
    first = house.kit.ended(on_slurm, ENDS_WITHIN_S)
    house.kit.broker.drain_backend("hpc", ANA)
    on_kubernetes = house.kit.submit(spec)
    second = house.kit.ended(on_kubernetes, ENDS_WITHIN_S)

    assert (first.backend, first.state, first.exit_code) == ("hpc", JobState.COMPLETED, 0), first
    assert (second.backend, second.state, second.exit_code) == ("cloud", JobState.COMPLETED, 0), second
    [task] = [one for one in spank.tasks(house.tasks) if one.step != spank.BATCH]
    assert task.options["container-image"] == spec.image.replace("/", "#", 1)
    [pod] = house.tenant.objects("pods")
    assert pod["spec"]["containers"][0]["image"] == spec.image
    decision, verdicts = decided(house, on_kubernetes)
    assert [refusal.code for refusal in verdicts["hpc"].refusals] == [Reason.DRAINED], decision


@with_containers
def test_training_goes_to_slurm_and_inference_to_kubernetes_and_each_tells_why_not_the_other(house):
    training = house.kit.submit(example("container.yaml"))
    service = house.kit.submit(example("container-service.yaml"))
    house.kit.reaches(service, JobState.RUNNING, ENDS_WITHIN_S)
    house.kit.ended(training, ENDS_WITHIN_S)

    decision, verdicts = decided(house, training)
    assert decision.chosen == "hpc"
    assert "training-and-batch-belong-on-slurm" in reasons(verdicts["hpc"])
    assert verdicts["cloud"].eligible
    assert "training jobs belong on Slurm" in decision.summary
    assert f"cloud has {verdicts['cloud'].score:.0f} points" in decision.summary

    decision, verdicts = decided(house, service)
    assert decision.chosen == "cloud"
    assert "services-belong-on-kubernetes" in reasons(verdicts["cloud"])
    assert "services belong on Kubernetes" in decision.summary
    assert "hpc lost: keeps serving; a job of Slurm ends" in decision.summary

    house.kit.broker.cancel(service, ANA)
    assert house.kit.ended(service, ENDS_WITHIN_S).state is JobState.CANCELLED
