"""From the command line through API, worker, controller and Redis to a real cluster, and back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from api_spec.ids import marker
from api_spec.states import FINAL
from tests.helpers import wait_until
from tests.real.slurm_kit import BOTH, config, own_cluster
from tests.stack import Parts, job_until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("slurm-end-to-end")]
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
INTERPRETER = Path(sys.executable).parent  # of the tests: the examples need its libraries


@pytest.fixture(scope="module", params=BOTH)
def house(request, tmp_path_factory):
    """A cluster, and a broker of three processes that knows it as ``slurm``."""
    with ExitStack() as stack:
        cluster = stack.enter_context(own_cluster(request.param))
        environment = {"PATH": f"{INTERPRETER}:{cluster.install.root}/usr/bin:/usr/bin:/bin"} | ONE_THREAD
        folder = tmp_path_factory.mktemp("house")
        backend = config(cluster, environment=environment)
        parts = stack.enter_context(Parts(folder, backend, lease_s=5, poll_s=0.3))
        parts.start("api", "worker", "controller")
        house = SimpleNamespace(cluster=cluster, parts=parts, client=parts.client(), folder=folder)
        wait_until(lambda: house.client.backend("slurm")["reachable"], PATIENCE_S, "the cluster is known")
        yield house


@pytest.fixture
def broker(house):
    """``broker(*arguments)``: the command line, as a user has it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BROKER_")},
        "BROKER_URL": f"http://127.0.0.1:{house.parts.port}",
        "BROKER_TOKEN": house.parts.token,
        "XDG_CONFIG_HOME": str(house.folder),
    }

    def run(*arguments, code=0, text=None):
        done = subprocess.run(
            [sys.executable, "-m", "broker.cli", *arguments],
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            cwd=ROOT,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    return run


# Of the libraries below the examples: more jobs than this machine has processors run at once.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def until(house, job_id, condition):
    return job_until(house.client, job_id, condition, PATIENCE_S)


def ended(house, job_id):
    return until(house, job_id, lambda job: job["state"] in FINAL)


def submit(house, **changes):
    job = {"kind": "batch", "name": "job", "command": ["sleep", "1000"], **changes}
    (taken,) = house.client.submit([{"resources": {"memory_per_node": "100MiB"}, **job}])
    return taken["job"]["id"]


def running(house, job_id):
    return until(house, job_id, lambda job: job["state"] == "RUNNING")


def starts(house, job_id, attempt=1):
    name = marker(house.parts.settings.instance, job_id, attempt)
    return [start for start in house.cluster.starts(name) if start.step == "batch"]


def errors(house):
    """What jobs of this cluster have complained of."""
    return [file.read_text() for file in (house.cluster.shared / "jobs").glob("*.err")]


EXAMPLES = ("digits-training", "digits-sweep", "digits-seeds")

# ---- what the examples promise -------------------------------------------------------------------------


def test_the_examples_that_a_cluster_can_run_do(house, broker):
    """A job file, an array, and a script as sbatch takes it."""
    files = ["examples/training.yaml", "examples/array.yaml", "examples/train.sbatch"]

    taken = json.loads(broker("submit", *files, "-o", "json"))
    ids = [one["job"]["id"] for one in taken]

    ends = {job["spec"]["name"]: job for job in (ended(house, job_id) for job_id in ids)}
    assert [ends[name]["state"] for name in EXAMPLES] == ["COMPLETED"] * 3, errors(house)
    training, sweep = ends["digits-training"]["id"], ends["digits-sweep"]["id"]
    assert "training on" in broker("logs", training)
    (attempt,) = house.client.attempts(training)
    model = Path(attempt["outputs"]["model"].removeprefix("file://"))
    assert json.loads(model.read_text())["accuracy"] > 0.8
    assert [task["state"] for task in house.client.tasks(sweep)] == ["COMPLETED"] * 3
    assert {job_id: len(starts(house, job_id)) for job_id in ids} == dict(zip(ids, (1, 3, 2), strict=True))


def test_the_decision_and_what_slurm_gets_can_be_read(house, broker):
    text = broker("render", "examples/training.yaml", "--backend", "slurm")
    job_id = submit(house, command=["true"])

    assert "#!/bin/bash -p" in text
    assert "--mem=1024M" in text
    assert house.cluster.user in text.splitlines()[0]
    assert ended(house, job_id)["state"] == "COMPLETED"
    assert "slurm" in broker("explain", job_id)


def test_the_check_of_backends_finds_the_cluster(house, broker):
    said = broker("backends", "check", "slurm")

    assert said.splitlines()[1].split()[:3] == ["slurm", "slurm", "yes"]


# ---- what happens to jobs ------------------------------------------------------------------------------


def test_a_pending_job_is_explained_with_what_slurm_says(house, broker):
    job_id = submit(house, placement={"slurm": {"licenses": "matlab:2"}})
    running(house, job_id)
    waits = submit(house, placement={"slurm": {"licenses": "matlab:1"}})

    seen = until(house, waits, lambda job: "licences" in (job["message"] or ""))

    assert (seen["state"], seen["reason"]) == ("QUEUED", "Capacity")
    assert "waits: Capacity: it waits for licences" in broker("explain", waits)
    for one in (waits, job_id):
        broker("cancel", one)
    assert [ended(house, one)["state"] for one in (job_id, waits)] == ["CANCELLED"] * 2
    assert len(starts(house, waits)) == 0


def test_a_script_as_sbatch_takes_it_fails_with_its_own_exit_code(house, broker, tmp_path):
    script = tmp_path / "job.sbatch"
    script.write_text("#!/bin/bash\n#SBATCH --mem=100M --time=1\necho out; echo err >&2; exit 3\n")

    taken = json.loads(broker("submit", str(script), "-o", "json"))
    job = ended(house, taken["job"]["id"])

    assert (job["state"], job["reason"], job["exit_code"]) == ("FAILED", "NonZeroExit", 3)
    assert broker("logs", job["id"]) == "out\n"
    assert broker("logs", job["id"], "--stream", "stderr") == "err\n"


def test_logs_are_found_where_a_script_of_sbatch_wants_them(house, broker, tmp_path):
    """As with sbatch itself, both streams in one file; the broker shows the same."""
    work = house.cluster.shared / f"work-{house.parts.port}"
    work.mkdir()
    script = tmp_path / "job.sbatch"
    asks = f"--mem=100M --time=1 --job-name=train --chdir={work}"
    mails = "--mail-type=END --mail-user=ana@example.org"
    script.write_text(
        f"#!/bin/bash\n#SBATCH {asks}\n#SBATCH -o %x-%j.out {mails}\necho out; echo err >&2; echo again\n"
    )

    taken = json.loads(broker("submit", str(script), "-o", "json"))
    job = ended(house, taken["job"]["id"])

    assert job["state"] == "COMPLETED", errors(house)
    (attempt,) = house.client.attempts(job["id"])
    (found,) = work.iterdir()
    assert found.name == f"train-{attempt['native_id']}.out"
    assert found.read_text() == "out\nerr\nagain\n" == broker("logs", job["id"])


def test_after_a_lost_node_another_attempt_completes(house):
    gate = house.cluster.shared / f"gate-{house.parts.port}"
    wait = f'while ! [ -e "{gate}" ]; do sleep 0.1; done'
    job_id = submit(house, command=["sh", "-c", wait], retry={"max_attempts": 2, "on": ["NodeLost"]})
    running(house, job_id)
    wait_until(lambda: starts(house, job_id))
    (node,) = house.client.attempts(job_id)[0]["nodes"]

    house.cluster.fail_node(node)
    gate.touch()

    assert ended(house, job_id)["state"] == "COMPLETED"
    first, second = sorted(house.client.attempts(job_id), key=lambda one: one["number"])
    assert (first["outcome"], first["reason"]) == ("FAILED", "NodeLost")
    assert first["message"] == f"the node {node} failed"
    assert second["outcome"] == "COMPLETED"
    assert [len(starts(house, job_id, number)) for number in (1, 2)] == [1, 1]


def test_an_array_tells_which_of_its_tasks_failed_and_runs_those_again(house):
    """The second attempt is an array of one task."""
    script = 'test "$BROKER_TASK_INDEX" != 2 || test "$BROKER_ATTEMPT" != 1'
    job_id = submit(
        house,
        command=["sh", "-c", script],
        array={"indices": "0-3"},
        retry={"max_attempts": 2, "on": ["NonZeroExit"]},
    )

    job = ended(house, job_id)

    assert (job["state"], job["tasks"]) == ("COMPLETED", {"COMPLETED": 4})
    assert [len(starts(house, job_id, number)) for number in (1, 2)] == [4, 1]


def test_single_tasks_are_cancelled_from_the_command_line(house, broker):
    """One that runs and one that waits; of the latter Slurm keeps nothing, and the job tells its end."""
    job_id = submit(house, array={"indices": "0-3", "max_running": 2})

    def states():
        return [task["state"] for task in house.client.tasks(job_id)]

    wait_until(lambda: states() == ["RUNNING", "RUNNING", "QUEUED", "QUEUED"], PATIENCE_S)
    said = broker("cancel", job_id, "--tasks", "1,3")
    wait_until(lambda: states() == ["RUNNING", "CANCELLED", "RUNNING", "CANCELLED"], PATIENCE_S)
    broker("cancel", job_id, "--tasks", "0-3")
    job = ended(house, job_id)

    assert said == f"{job_id} RUNNING, cancel of tasks 1,3 requested\n"
    assert (job["state"], job["tasks"]) == ("CANCELLED", {"CANCELLED": 4})
    assert job["ended_by"].startswith("user:")
    assert {task["cancelled_by"] for task in house.client.tasks(job_id)} == {job["ended_by"]}
    assert len(starts(house, job_id)) == 3
