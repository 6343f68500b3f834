"""The clusters with an accounting database: what it records, what it refuses, and who jobs run as."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.helpers import wait_until
from tests.real.slurm.fixtures import WITH_ACCOUNTING

pytestmark = [
    pytest.mark.process,
    pytest.mark.parametrize("cluster", WITH_ACCOUNTING, indirect=True),
]


def recorded(cluster, name):
    """The job's state in the database, when its record has come."""
    command = ("sacct", "--allusers", "--allocations", "--parsable2", "--noheader", "--starttime=now-1hour")
    return cluster.run(*command, f"--name={name}", "--format=state").split()


def test_the_database_knows_how_a_job_ended(cluster):
    cluster.submit("exit 3", "--job-name=wb-ended", "--account=speech")

    wait_until(lambda: recorded(cluster, "wb-ended") == ["FAILED"], 30, "its record has come")


def test_a_job_is_recorded_when_the_database_is_back(cluster):
    cluster.kill("slurmdbd")
    job = cluster.submit("true", "--job-name=wb-late")
    cluster.wait_state(job, "COMPLETED")

    cluster.start("slurmdbd")

    wait_until(lambda: recorded(cluster, "wb-late") == ["COMPLETED"], 60, "its record has come")


def test_an_account_that_is_not_the_users_is_refused(cluster):
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        cluster.submit("true", "--account=nobodys")

    assert "Invalid account" in refusal.value.stderr


def test_more_gpus_than_the_qos_allows_are_refused(cluster):
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        cluster.submit("true", "--qos=capped", "--gpus=3")

    assert "QOS" in refusal.value.stderr


@pytest.mark.real_as_root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start jobs as other users")
def test_jobs_run_as_their_owners(cluster):
    jobs = {user: cluster.submit("id -un", user=user) for user in cluster.users}

    for job in jobs.values():
        cluster.wait_state(job, "COMPLETED")

    assert {user: (cluster.shared / f"{job}.out").read_text().strip() for user, job in jobs.items()} == {
        user: user for user in cluster.users
    }
