"""Logs of a real cluster, in a folder that the API process does not see and a worker does."""

from __future__ import annotations

from dataclasses import fields

import pytest

from broker.client.errors import Refused
from broker.client.exchange import Call
from broker.settings import ConfiguredBackend
from tests.helpers import wait_until
from tests.real.slurm_kit import BOTH, config, own_cluster
from tests.stack import Parts, tables

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("slurm-log-reader")]
PATIENCE_S = 60.0


@pytest.fixture(params=BOTH)
def cluster(request):
    with own_cluster(request.param) as cluster:
        yield cluster


def read_by(backend, name):
    known = {field.name: getattr(backend, field.name) for field in fields(backend)}
    return ConfiguredBackend(**known, log_reader=name)


def test_a_log_of_a_cluster_that_only_a_worker_can_see_is_followed_to_its_end(cluster, tmp_path):
    folder = str(cluster.shared / "jobs")
    seen = read_by(config(cluster), "login")
    unseen = read_by(config(cluster, log_paths={folder: "/not/mounted"}), "login")
    with Parts(tmp_path, seen, lease_s=5, poll_s=0.3) as parts:
        parts.start("api", BROKER_BACKENDS=tables(unseen))
        parts.start("worker", "controller", BROKER_WORKER_NAME="login")
        client = parts.client()
        script = "#!/bin/sh\necho one; echo bad >&2; sleep 1; echo größer\n"
        job = {"kind": "batch", "name": "prints", "script": script}
        (taken,) = client.submit([{**job, "resources": {"memory_per_node": "100MiB"}}])
        job_id = taken["job"]["id"]
        wait_until(lambda: client.get(job_id)["state"] in ("RUNNING", "COMPLETED"), PATIENCE_S)

        assert b"".join(client.logs(job_id, follow=True)) == "one\ngrößer\n".encode()
        assert b"".join(client.logs(job_id, stream="stderr")) == b"bad\n"

        told = {one["subject"]: one for one in client.check("slurm")}
        assert told["log reader"]["message"].startswith("login reads the logs (")
        assert (told["logs"]["well"], told["logs"]["message"]) == (True, f"are read below {cluster.shared}")

        parts.end("worker")
        with pytest.raises(Refused) as refused:
            client.call(Call(method="GET", path=f"/v1/jobs/{job_id}/logs"))
        assert refused.value.code == "log_reader_unavailable"
