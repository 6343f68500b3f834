"""The main job on a real Slurm cluster: train there, serve here, since both see the same files.

Boots the daemons that the distribution has installed in a temporary directory, as the user who runs this, and
leaves nothing running.  ``script/demo --slurm`` calls it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import demo
from demo import SERVE_S, TRAIN_S, DemoFailed, expect, show_state, step

from broker.cli.backends import finding_lines
from broker.cli.files import read_specs
from broker.client import Client

sys.path.insert(0, str(demo.HERE.parent))

from tests.real.slurm import installs
from tests.real.slurm.cluster import Cluster, boot

SETTINGS = """[[backends]]
name = "hpc"
type = "slurm"

[backends.options]
url = "{url}"
cluster = "{cluster}"
token = {{key_file = "{key}"}}
users = {{service = "{user}"}}
directory = "{directory}"
environment = {{PATH = "{path}"}}

[[backends]]
name = "local"
type = "local"
"""


def main() -> int:
    if os.geteuid() == 0:
        print("No job runs as root: start the demo as an ordinary user.", file=sys.stderr)
        return 1
    kinds = (installs.debian(), installs.newer())
    install = next((one for one in kinds if one.missing() is None), None)
    if install is None:
        print(f"The demo needs Slurm's packages: {kinds[0].missing()}.", file=sys.stderr)
        return 1
    return demo.run(show_it_on_slurm, lambda: running_cluster(install))


@contextmanager
def running_cluster(install: installs.Install) -> Iterator[str]:
    """The settings of a broker that uses it."""
    with step(f"Boot a Slurm cluster of {install.version}: slurmctld, slurmrestd and four nodes"):
        try:
            cluster = boot(install=install)
        except (AssertionError, subprocess.SubprocessError) as error:
            raise DemoFailed(f"the cluster did not boot: {error}") from error
    with cluster:
        print(f"the cluster {cluster.name} was up in {cluster.boot_s:.1f} s, in {cluster.directory}")
        text = settings(cluster)
        print("the broker's settings:", *(f"  | {line}" for line in text.splitlines()), sep="\n", flush=True)
        yield text


def settings(cluster: Cluster) -> str:
    """``python3`` in the jobs is the Python that runs this."""
    jobs = cluster.shared / "jobs"
    jobs.mkdir(mode=0o700)
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    return SETTINGS.format(
        url=cluster.rest_url,
        cluster=cluster.name,
        key=cluster.jwt_key_file,
        user=cluster.user,
        directory=jobs,
        path=path,
    )


def show_it_on_slurm(client: Client) -> None:
    with step("What does the broker find at the cluster? (broker backends check hpc)"):
        told = client.check("hpc")
        for line in finding_lines("hpc", told):
            click.echo(line)
        expect(all(one["well"] for one in told), "not all is well at the cluster")
    training, service = demo.submit_both(client)
    demo.train(client, training)
    demo.serve(client, service)
    sbatch_and_array(client)
    explain(client)
    with step("Cancel the service"):
        demo.cancel(client, service)


def sbatch_and_array(client: Client) -> None:
    with step("An sbatch script as it is, and an array with a task for each learning rate"):
        files = read_specs([str(demo.HERE / "train.sbatch"), str(demo.HERE / "array.yaml")])
        jobs = demo.submit(client, [file.spec for file in files])
        for job in client.wait(jobs, timeout=TRAIN_S, progress=show_state):
            expect(job["state"] == "COMPLETED", f"{job['spec']['name']} is {job['state']}: {job['message']}")
            for task in client.tasks(job["id"]):
                lines = [*demo.lines_of(client.logs(job["id"], task=task["index"]))]
                expect(bool(lines), f"task {task['index']} of {job['spec']['name']} has no log")
                print(f"  task {task['index']} {task['state']} | {lines[-1]}", flush=True)


def explain(client: Client) -> None:
    with step("Why does a job wait? One has all nodes, the next one wants them too"):
        (first,) = demo.submit(client, [all_nodes("has-all-nodes")])
        client.wait([first], timeout=SERVE_S, progress=show_state, until="started")
        (second,) = demo.submit(client, [all_nodes("wants-all-nodes")])
        told = demo.wait_for(lambda: waits(client, second), SERVE_S, lambda: "no reason to wait was told")
        for reason in told:
            print(f"waits: {reason['code']}: {reason['message']}", flush=True)
        demo.cancel(client, second, first)


def all_nodes(name: str) -> dict[str, Any]:
    resources = {"nodes": 4, "cpus_per_task": 8, "memory_per_node": "100MiB"}
    return {"kind": "batch", "name": name, "script": "#!/bin/sh\nsleep 600\n", "resources": resources}


def waits(client: Client, job_id: str) -> list[dict[str, Any]]:
    """Nothing before Slurm itself has looked at it."""
    told = client.pending(job_id)
    return told if any(one["code"] == "Capacity" for one in told) else []


if __name__ == "__main__":
    sys.exit(main())
