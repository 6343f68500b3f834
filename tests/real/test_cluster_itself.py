"""The clusters that other tests rely on do what they promise, and leave nothing behind."""

from __future__ import annotations

import http.client
import json
import pwd
import random
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers import wait_until
from tests.real import ports
from tests.real.daemons import processes_of
from tests.real.slurm import accounts
from tests.real.slurm.fixtures import KINDS

pytestmark = pytest.mark.process


def test_processes_that_share_a_seed_do_not_share_ports():
    """Those of one test run do; two clusters that boot at a time would get in each other's way."""
    chosen = set()
    for _ in range(5):
        random.seed(1)
        chosen.add(ports.free_block(3))

    assert len(chosen) > 1


def ask(cluster, path, token, over=None):
    """slurmrestd's answer on its port, or on the socket that is given."""
    connection = http.client.HTTPConnection(cluster.rest_url.removeprefix("http://"), timeout=20)
    if over:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(over))
    headers = {"X-SLURM-USER-NAME": cluster.user, "X-SLURM-USER-TOKEN": token}
    with closing(connection):
        connection.request("GET", path, headers=headers)
        return json.loads(connection.getresponse().read())


def newest(cluster):
    return "v0.0.42" if cluster.install.newer else "v0.0.38"


def test_a_job_completes_and_its_start_is_on_record(cluster, record_property):
    job = cluster.submit("echo done", "--job-name=wb-a-1")

    assert cluster.wait_state(job, "COMPLETED")

    assert cluster.started("wb-a-1") == [job]
    assert (cluster.shared / f"{job}.out").read_text() == "done\n"
    with_it = " with accounting" if cluster.layout.accounting else ""
    record_property("summary", f"real Slurm {cluster.version}{with_it}: booted in {cluster.boot_s:.2f} s")


def test_a_job_sees_the_gpus_that_it_asked_for(cluster):
    job = cluster.submit("echo $SLURM_GPUS_ON_NODE", "--gpus=h100:3")

    cluster.wait_state(job, "COMPLETED")

    assert (cluster.shared / f"{job}.out").read_text() == "3\n"


def test_features_and_licences_are_known(cluster):
    job = cluster.submit("true", "--constraint=infiniband", "--licenses=matlab:1")

    cluster.wait_state(job, "COMPLETED")

    assert cluster.show(job)["NodeList"] in ("n1", "n2")


def test_what_is_urgent_preempts_and_the_job_starts_again(cluster):
    """Without accounting it is the partition that is urgent, with it the QOS."""
    low, high = ("--qos=low", "--qos=high") if cluster.layout.accounting else ("-ptrain", "-pdebug")
    victim = cluster.submit("sleep 600", "--nodes=4", "--exclusive", "--requeue", "--job-name=victim", low)
    cluster.wait_state(victim, "RUNNING")

    urgent = cluster.submit("true", "--nodes=4", "--exclusive", high)
    cluster.wait_state(urgent, "COMPLETED")

    wait_until(lambda: len(cluster.starts("victim")) == 2, 60, "the victim starts again")
    assert cluster.started("victim") == [victim]
    assert [start.restarts for start in cluster.starts("victim")] == [0, 1]


def test_slurmrestd_takes_our_token_on_both_addresses(cluster):
    path, token = f"/slurm/{newest(cluster)}/nodes", cluster.token(lifespan_s=60)

    answers = [ask(cluster, path, token), ask(cluster, path, token, over=cluster.socket_path)]

    assert [len(answer["nodes"]) for answer in answers] == [4, 4]


def test_slurmrestd_refuses_a_token_that_has_expired(cluster):
    answer = ask(cluster, f"/slurm/{newest(cluster)}/nodes", cluster.token(lifespan_s=-60))

    assert answer["errors"]


def test_a_frozen_controller_goes_on_when_thawed(cluster):
    cluster.freeze("slurmctld")
    with pytest.raises(subprocess.TimeoutExpired):
        cluster.run("squeue", timeout_s=1)

    cluster.thaw("slurmctld")

    assert "is UP" in cluster.run("scontrol", "ping")


def test_a_killed_controller_restarts_and_still_has_its_jobs(cluster):
    job = cluster.submit("sleep 600", "--hold")
    cluster.stop("slurmctld")  # a clean end saves the state
    cluster.start("slurmctld")
    assert cluster.state(job) == "PENDING"

    cluster.kill("slurmctld")
    assert not ports.answers(cluster.layout.ports.slurmctld)
    cluster.start("slurmctld")

    assert cluster.state(job) == "PENDING"


def test_a_killed_slurmrestd_restarts(cluster):
    cluster.kill("slurmrestd")
    assert not ports.answers(cluster.layout.ports.slurmrestd)

    cluster.start("slurmrestd")

    assert not ask(cluster, f"/slurm/{newest(cluster)}/ping", cluster.token())["errors"]


def test_a_node_can_be_drained_and_resumed(cluster):
    for node in cluster.nodes[1:]:
        cluster.drain_node(node)
    job = cluster.submit("true")
    cluster.wait_state(job, "COMPLETED")
    assert cluster.show(job)["NodeList"] == "n1"

    for node in cluster.nodes[1:]:
        cluster.resume_node(node)

    wait_until(cluster.idle, 10)


def test_a_job_on_a_failed_node_is_seen_to_fail(cluster):
    job = cluster.submit("sleep 600", "--no-requeue", "--nodelist=n2")
    cluster.wait_state(job, "RUNNING")

    cluster.fail_node("n2")

    assert cluster.wait_state(job, "NODE_FAIL")


def test_calm_ends_what_a_test_left(cluster):
    cluster.submit("sleep 600")
    cluster.drain_node("n2")
    cluster.freeze("slurmrestd")
    cluster.kill("n3")

    cluster.calm()

    assert not cluster.run("squeue", "--noheader")
    assert cluster.idle()


# It does not name the directory, nor does its environment.
HIDES = "cd / && env -i setsid sleep 600"


BOOT_AND_TELL = """
import signal
from tests.real.slurm.cluster import boot
with boot() as cluster:
    print(cluster.directory, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("cluster", ["22.05"], indirect=True)
def test_a_cluster_whose_owner_was_killed_leaves_nothing(cluster):
    """It was booted elsewhere; ours is only a witness that it can be."""
    owner = subprocess.Popen([sys.executable, "-c", BOOT_AND_TELL], stdout=subprocess.PIPE, text=True)
    with owner:
        directory = Path(owner.stdout.readline().strip())
        assert processes_of(directory)

        owner.kill()

    wait_until(lambda: not directory.exists() and not processes_of(directory), 20, "the guard is done")


@pytest.mark.parametrize("new_cluster", KINDS, indirect=True)
def test_a_closed_cluster_leaves_nothing(new_cluster):
    """Running steps, a frozen daemon and a killed one are no hindrance."""
    job = new_cluster.submit(f"{HIDES} & echo $! ; wait")
    out = new_cluster.shared / f"{job}.out"
    hidden = wait_until(lambda: out.exists() and out.read_text().strip())
    new_cluster.kill("n4")
    new_cluster.freeze("slurmctld")
    assert processes_of(new_cluster.directory)

    new_cluster.close()

    first = new_cluster.layout.ports.slurmctld
    assert not processes_of(new_cluster.directory)
    assert not new_cluster.directory.exists()
    assert not Path("/proc", hidden).exists()
    assert not any(ports.answers(port) for port in range(first, first + 8))
    assert not {entry.pw_name for entry in pwd.getpwall()} & (set(new_cluster.users) - {accounts.myself()})
