"""Images travel to the node as Pyxis reads them; where it is missing the job fails and runs nowhere else."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from adapters.base import AttemptRef, BackendConfig, LogQuery
from adapters.slurm.adapter import SlurmAdapter
from adapters.slurm.script import NOT_STARTED
from api_spec.jobs import JobSpec, Kind, Placement, Resources, Volume
from api_spec.reasons import Reason
from api_spec.states import AttemptState
from tests.helpers import wait_until
from tests.real.slurm import spank
from tests.real.slurm.fixtures import KINDS

pytestmark = pytest.mark.process

RELEASES = ["22.05", "24.11"]
with_pyxis = pytest.mark.parametrize("new_cluster", RELEASES, indirect=True)
without_pyxis = pytest.mark.parametrize("cluster", RELEASES, indirect=True)
IMAGE = "registry.example/train:1.4"
MARKER = "wb-test-01j0000000000000000000000a-1"


@pytest.fixture
def new_cluster(request, tmp_path):
    """With the stand-in, which writes what it sees to ``tasks``."""
    with spank.cluster_with_pyxis(KINDS[request.param].install, tmp_path) as cluster:
        yield cluster


@contextmanager
def adapter_to(cluster, **changes):
    options = {
        "url": cluster.rest_url,
        "token": {"key_file": str(cluster.jwt_key_file)},
        "users": {"service": cluster.user},
        "directory": str(cluster.shared / "jobs"),
        "containers": "pyxis",
        "environment": {"PATH": cluster.environment["PATH"], "SLURM_CONF": cluster.environment["SLURM_CONF"]},
        **changes,
    }
    config = BackendConfig(name="hpc", type="slurm", instance="test", data_dir="", options=options)
    adapter = SlurmAdapter(config)
    try:
        yield adapter
    finally:
        adapter.close()


def run(adapter, cluster, **changes):
    """The attempt of a job with an image, once it has ended."""
    members = {
        "kind": Kind.BATCH,
        "name": "job",
        "image": IMAGE,
        "resources": Resources(memory_per_node_mib=100),
    }
    spec = JobSpec(**{**members, **changes})
    ref = AttemptRef(marker=MARKER, job_id="01J0000000000000000000000A", owner="ana", project="vision")
    handle = adapter.submit(ref, spec)
    ref = AttemptRef(marker=MARKER, handle=handle, owner="ana", project="vision")

    def ended():
        seen = adapter.observe([ref]).found.get(MARKER)
        return seen if seen and seen.state is AttemptState.ENDED else None

    return ref, wait_until(ended, 60, "the job has ended")


@with_pyxis
def test_every_option_of_an_image_reaches_each_task_and_no_batch_script(new_cluster, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with adapter_to(new_cluster) as adapter:
        ref, end = run(
            adapter,
            new_cluster,
            command=("sh", "-c", "echo rank $BROKER_NODE_RANK"),
            resources=Resources(nodes=2, memory_per_node_mib=100),
            volumes=(Volume(source=str(data), mount_path="/data", read_only=True),),
            working_directory="/work dir",
            environment={"COLOUR": "blue"},
        )
        log = adapter.logs(ref, LogQuery()).data.decode()
        folder = new_cluster.shared / "jobs"

    assert end.exit_code == 0, end
    assert sorted(log.splitlines()) == ["rank 0", "rank 1"]
    batch, *others = sorted(spank.tasks(tmp_path / "tasks"), key=lambda task: (task.step, task.rank))
    assert (batch.step, batch.options) == (spank.BATCH, {})
    assert [(task.step, task.rank) for task in others] == [(0, 0), (0, 1)]
    for task in others:
        names = task.options.pop("container-env").split(",")
        assert {"COLOUR", "BROKER_JOB_ID"} <= set(names)
        assert task.options == {
            "container-image": "registry.example#train:1.4",
            "container-mounts": f"{data}:/data:ro,{folder}/{MARKER}:{folder}/{MARKER},"
            f"{folder}/.{MARKER}.step:{folder}/.{MARKER}.step:ro",
            "container-workdir": "/work dir",
            "no-container-mount-home": "",
            "no-container-entrypoint": "",
            "container-writable": "",
        }


@with_pyxis
def test_what_a_job_says_of_its_container_arrives(new_cluster, tmp_path):
    said = {"container_mount_home": True, "container_entrypoint": True, "container_writable": False}
    with adapter_to(new_cluster) as adapter:
        run(adapter, new_cluster, command=("true",), placement=Placement(slurm=said))

    (task,) = [one for one in spank.tasks(tmp_path / "tasks") if one.step != spank.BATCH]
    assert {"container-mount-home", "container-entrypoint", "container-readonly"} <= set(task.options)
    assert not {"no-container-mount-home", "no-container-entrypoint", "container-writable"} & set(
        task.options
    )


@with_pyxis
def test_an_image_goes_where_the_feature_says_that_it_can_run(new_cluster):
    """Two of the four nodes have the feature; one that no node has loses the placement."""
    image = JobSpec(kind=Kind.BATCH, name="job", image=IMAGE, command=("true",))
    with adapter_to(new_cluster, container_feature="infiniband") as adapter:
        _, end = run(
            adapter, new_cluster, command=("true",), resources=Resources(nodes=2, memory_per_node_mib=100)
        )
        assert sorted(end.nodes) == ["n1", "n2"]
        assert adapter.refusals(image, adapter.inventory(), "ana") == []

    with adapter_to(new_cluster, container_feature="pyxis") as adapter:
        (refusal,) = adapter.refusals(image, adapter.inventory(), "ana")
        assert (refusal.code, refusal.field) == (Reason.NEVER_FITS, "/image")
        told = [one.message for one in adapter.check() if not one.well]
        assert "container_feature names pyxis, which no node has" in told


@without_pyxis
def test_without_the_plug_in_the_job_fails_and_says_so(cluster, tmp_path):
    """The worst would be to run the user's command beside its container."""
    with adapter_to(cluster) as adapter:
        ref, end = run(adapter, cluster, command=("touch", str(tmp_path / "ran-on-the-host")))
        errors = adapter.logs(ref, LogQuery(stream="stderr")).data.decode()

    assert (end.reason, end.exit_code) == (Reason.LAUNCH_FAILED, NOT_STARTED)
    assert errors == "broker: the job was not started: there is no Pyxis on this node, and so no images\n"
    assert not (tmp_path / "ran-on-the-host").exists()
