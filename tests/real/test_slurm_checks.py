"""``broker backends check`` says what an administrator has to mend, in sentences."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from adapters.base import BackendConfig
from adapters.slurm.adapter import SlurmAdapter

pytestmark = pytest.mark.process

every_release = pytest.mark.parametrize("cluster", ["22.05", "24.11"], indirect=True)


def findings(cluster, **changes):
    jobs = cluster.shared / "jobs"
    jobs.mkdir(exist_ok=True)
    options = {
        "url": cluster.rest_url,
        "token": {"key_file": str(cluster.jwt_key_file)},
        "users": {"service": cluster.user} if cluster.user != "root" else {"owner": True},
        "directory": str(jobs),
        **changes,
    }
    config = BackendConfig(name="hpc", type="slurm", instance="test", data_dir="", options=options)
    with closing(SlurmAdapter(config)) as adapter:
        return adapter.check()


def faults(cluster, **changes):
    return [f"{one.subject}: {one.message}" for one in findings(cluster, **changes) if not one.well]


@pytest.fixture
def token_file(cluster, tmp_path):
    def write(text):
        (tmp_path / "token").write_text(text)
        return {"file": str(tmp_path / "token"), "user": cluster.user}

    return write


def test_a_cluster_that_is_well_says_what_it_is(cluster):
    told = findings(cluster)

    assert all(one.well for one in told), told
    messages = {one.subject: one.message for one in told}
    assert messages["connection"].startswith(f"Slurm {cluster.version}, cluster ")
    assert "openapi/" in messages["connection"]
    assert messages["controller"].endswith(f"signed with {cluster.jwt_key_file} for each user")
    assert messages["nodes"] == "4 nodes, 0 of them out of service; GRES gpu:h100"
    assert messages["partitions"].replace("*", "") == "train, debug"
    assert ("there is no accounting database" in messages["accounting"]) != cluster.layout.accounting


@every_release
def test_whom_a_token_speaks_for_is_told(cluster, token_file):
    given = token_file(cluster.token())
    messages = {one.subject: one.message for one in findings(cluster, token=given)}

    assert messages["controller"].endswith(f"takes the token, which speaks for {cluster.user}")


@every_release
def test_a_token_that_is_not_taken_is_told_with_its_cause(cluster, token_file):
    expired = faults(cluster, token=token_file(cluster.token(lifespan_s=-60)))
    garbage = faults(cluster, token=token_file("no token"))
    nothing = faults(cluster, token={"file": "/nonexistent", "user": cluster.user})

    assert len(expired) == len(garbage) == len(nothing) == 1, "nobody behind it is asked"
    assert "there is no good token" in expired[0]
    assert "it expired at 2" in expired[0]
    assert "holds" in garbage[0]
    assert "/nonexistent cannot be read" in nothing[0]


@every_release
def test_what_does_not_run_is_named(cluster):
    cluster.stop("slurmrestd")
    without_rest = faults(cluster)
    cluster.start("slurmrestd")
    cluster.stop("slurmctld")
    without_controller = faults(cluster)

    assert len(without_rest) == len(without_controller) == 1
    assert "does slurmrestd run there" in without_rest[0]
    assert without_controller[0].startswith("controller: slurmrestd answers, but slurmctld does not")


@every_release
def test_options_that_name_what_is_not_there_are_told(cluster):
    told = faults(
        cluster,
        directory="/nonexistent/{user}",
        users={"table": {"ana": "nobody"}},
        defaults={"partition": "train,gpu"},
        gpu_types={"a100": "a100"},
        fabrics={"rdma": {"constraint": "rail", "gres": "nic:mlx5:1"}},
    )

    assert told == [
        "nodes: gpu_types.a100 names gpu:a100, which no node has",
        "nodes: fabrics.rdma names nic:mlx5, which no node has",
        "nodes: fabrics.rdma names the feature rail, which no node has",
        "partitions: defaults name the partition gpu, which is not there",
        "logs: /nonexistent is not mounted here, or may not be read",
        "directory: /nonexistent/nobody is not there: jobs of nobody end before their first line",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="the accounts of others need root")
@pytest.mark.parametrize("cluster", ["22.05-accounting", "24.11-accounting"], indirect=True)
def test_accounts_that_are_missing_are_told(cluster):
    told = faults(cluster, users={"service": "daemon"}, defaults={"account": "nix", "qos": "urgent"})

    assert [one for one in told if one.startswith("accounts")] == [
        "accounts: no account for daemon, whom the user map names: their jobs are refused",
        "accounts: defaults name the account nix, which is not there: jobs are refused",
        "accounts: defaults name the qos urgent, which is not there: jobs are refused",
    ]


@every_release
def test_a_directory_that_the_user_cannot_write_is_told(cluster, tmp_path):
    other = "nobody" if cluster.user != "nobody" else "daemon"

    told = faults(cluster, users={"service": other}, directory=str(tmp_path))

    assert told == [
        f"directory: {tmp_path} cannot be written by {other}: jobs of {other} end before their first line"
    ]
