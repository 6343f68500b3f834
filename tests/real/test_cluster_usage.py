"""What jobs have used, as a real cluster tells: Slurm's accounts, and metrics-server beside a real node."""

from __future__ import annotations

import pytest

from api_spec.jobs import JobSpec, Kind, Resources
from api_spec.states import JobState
from tests.helpers import PATIENCE
from tests.kit import ANA, backend, kit_with
from tests.real.kubernetes.image import BUSYBOX
from tests.real.kubernetes_kit import a_tenant
from tests.real.slurm.fixtures import WITH_ACCOUNTING
from tests.real.slurm_kit import job, options_of

pytestmark = pytest.mark.process

SLOW_S = 90.0
BUSY_MIB = 40
BUSY = f"x=$(head -c {BUSY_MIB}m /dev/zero | tr '\\0' x); while :; do :; done"


def kit_on(name, options, redis_url, folder):
    return kit_with(redis_url, folder, backend(name, name, options), poll_s=0.3, lease_s=10.0)


def used(kit, job_id):
    return kit.broker.usage(job_id, ANA)[0]


@pytest.mark.parametrize("cluster", WITH_ACCOUNTING, indirect=True)
def test_slurm_tells_what_a_job_was_given_when_it_has_ended(cluster, redis_server, tmp_path):
    with kit_on("slurm", options_of(cluster), redis_server, tmp_path) as kit:
        job_id = kit.submit(job("sleep 2", resources=Resources(cpus_per_task=2, memory_per_node_mib=100)))
        end = kit.ended(job_id, SLOW_S)

        found = kit.settle(lambda: used(kit, job_id).cpu_s is not None and used(kit, job_id), SLOW_S)

    assert end.state is JobState.COMPLETED
    assert 1 <= found.elapsed_s < 60 * PATIENCE
    assert found.cpu_s >= 2 * 1
    assert found.memory_mib_s >= 100 * 1
    assert (found.gpu_s, found.energy_j, found.peak_cpus) == (0.0, None, None)


def test_kubernetes_tells_the_most_that_a_job_has_used(kubernetes_node, redis_server, tmp_path):
    spec = JobSpec(
        kind=Kind.BATCH,
        name="busy",
        project="vision",
        image=BUSYBOX,
        command=("sh", "-c", BUSY),
        resources=Resources(memory_per_node_mib=400),
    )
    with (
        a_tenant(kubernetes_node, tmp_path) as tenant,
        kit_on("kubernetes", tenant.options(), redis_server, tmp_path) as kit,
    ):
        job_id = kit.submit(spec)
        kit.reaches(job_id, JobState.RUNNING)

        found = kit.settle(lambda: (used(kit, job_id).peak_cpus or 0) > 0.1 and used(kit, job_id), SLOW_S)
        kit.broker.cancel(job_id, ANA)
        kit.ended(job_id, SLOW_S)
        after = used(kit, job_id)

    assert found.peak_memory_mib > BUSY_MIB
    assert after.peak_cpus >= found.peak_cpus
    assert after.peak_memory_mib >= found.peak_memory_mib
    assert after.energy_j is None
