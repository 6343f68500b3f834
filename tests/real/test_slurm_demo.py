"""The demo on a real cluster does what it says, leaves nothing behind, and says what it lacks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.daemons import processes_of

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo_slurm.py"
WITHOUT_SLURM = f"""
import os, sys
os.geteuid = lambda: 1000
sys.path[:0] = [{str(ROOT)!r}, {str(DEMO.parent)!r}]
from tests.real.slurm import installs
installs.CLUSTER = {{"slurm-that-nobody-has": "slurm-from-nowhere"}}
import demo_slurm
sys.exit(demo_slurm.main())
"""


def run(*arguments):
    environment = {**os.environ, "BROKER_TEST_SLURM_24": "/nonexistent"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=380
    )


# The cluster of the fixture only shows that one can be: the demo boots its own.
@pytest.mark.skipif(os.geteuid() == 0, reason="no job runs as root")
@pytest.mark.parametrize("cluster", ["22.05"], indirect=True)
def test_the_demo_trains_on_a_real_cluster_and_leaves_nothing(cluster):
    done = run(str(DEMO))

    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert "slurmctld answers and takes the tokens that are signed with " in told
    assert "digits-training COMPLETED on hpc" in told
    assert "digits-service RUNNING on local" in told
    assert re.search(r"\d+ of 450 held-back digits are right", told)
    assert told.count("COMPLETED | accuracy") == 5
    assert "waits: Capacity: " in told
    assert "digits-service CANCELLED on local" in told
    (directory,) = re.findall(r"^the cluster .* in (\S+)$", told, re.MULTILINE)
    assert not Path(directory).exists()
    assert not processes_of(Path(directory))


def test_the_demo_says_in_one_line_which_packages_it_lacks():
    done = run("-c", WITHOUT_SLURM)

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install slurm-from-nowhere" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="about root")
def test_the_demo_does_not_run_as_root():
    done = run(str(DEMO))

    assert done.returncode == 1
    assert done.stderr == "No job runs as root: start the demo as an ordinary user.\n"
