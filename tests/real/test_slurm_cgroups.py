"""Slurm's own OUT_OF_MEMORY: a cgroup that root lets slurmd limit, and the kernel that kills in it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from api_spec.reasons import Reason
from api_spec.states import JobState
from tests.real.slurm.fixtures import WITH_ACCOUNTING
from tests.real.slurm_kit import bench_on, job, own_cluster
from tests.real.test_slurm_bad_days import EATER

GROUPS = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.real_as_root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may limit a cgroup"),
    pytest.mark.skipif(
        not os.access(GROUPS / "memory", os.W_OK),
        reason="no cgroup of version 1 for memory can be written here",
    ),
]
CGROUP_CONF = """CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
"""


@contextmanager
def cluster_with_cgroups(kind):
    extra = {"TaskPlugin": "task/cgroup", "ProctrackType": "proctrack/cgroup"}
    try:
        with own_cluster(kind, nodes=1, extra=extra, files={"cgroup.conf": CGROUP_CONF}) as cluster:
            yield cluster
    finally:
        for left in GROUPS.glob("*/slurm_n1"):  # slurmd leaves them to the host
            for folder, _, _ in os.walk(left, topdown=False):
                os.rmdir(folder)


@pytest.mark.parametrize("kind", WITH_ACCOUNTING)
def test_a_job_that_a_cgroup_ends_is_out_of_memory(kind):
    """By the controller, and later by the database, with the same words."""
    with cluster_with_cgroups(kind) as cluster, bench_on(cluster) as bench:
        seen = bench.ended(bench.submit(job(EATER, memory_mib=100)))

        assert seen.native_state == "OUT_OF_MEMORY"
        assert (seen.outcome, seen.reason) == (JobState.FAILED, Reason.OUT_OF_MEMORY)
        assert (seen.exit_code, seen.signal) == (None, None)
        assert seen.message.endswith("more memory than its 100 MiB")
