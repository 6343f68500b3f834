"""The demo on a real cluster does what it says, leaves nothing behind, and fails when something has failed.

Here with fake nodes, as for any user.  ``.ci/run`` runs it as root, where it calls a service on a real node;
there is one on a machine, and the tests have it.
"""

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
AS_ANY_USER = f"""
import os, sys
os.geteuid = lambda: 1000
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "examples")!r}]
import demo_kubernetes
"""
ALL_OF_IT = f"{AS_ANY_USER}\nsys.exit(demo_kubernetes.main())"
DOES_NOT_BOOT = f"""{AS_ANY_USER}
def boot(**options):
    raise AssertionError("not within 60 s: the API server is ready")
demo_kubernetes.boot = boot
demo_kubernetes.Install.missing = demo_kubernetes.Install.node_missing = None
demo_kubernetes.Install.version = "0.0.0"
sys.exit(demo_kubernetes.main())
"""
A_CALL_WAS_LOST = f"""{AS_ANY_USER}
from contextlib import contextmanager
@contextmanager
def broker(settings):
    yield None
def show(client):
    caller = demo_kubernetes.Caller("127.0.0.1", 1)
    caller.answers += ["line-1", "line-2"]
    caller.failures.append("after 1 answers: refused")
    demo_kubernetes.Callers(caller).report()
demo_kubernetes.demo.running_broker = broker
sys.exit(demo_kubernetes.demo.run(show))
"""


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=380,
    )


# It boots its own cluster; the fixture says whether there can be one.
def test_the_demo_trains_serves_and_changes_a_service_and_leaves_nothing(new_kubernetes):
    done = run(ALL_OF_IT)

    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    assert "the nodes are fake, as a real Kubernetes node needs root" in told
    assert "line-training COMPLETED on cloud" in told
    assert "line-service RUNNING on cloud" in told
    assert told.count("local lost: names a container image") == 4  # each decision, provisional and binding
    for revision in (1, 2, 3):
        assert f"revision {revision}: 3 updated and 3 ready of 3 wanted" in told
    assert "nothing was called: fake nodes run no container" in told
    assert "line-service CANCELLED on cloud" in told
    (directory,) = re.findall(r"^the cluster was up .* in (\S+)$", told, re.MULTILINE)
    assert not Path(directory).exists()
    assert not processes_of(Path(directory))


def test_the_demo_says_in_one_line_what_it_lacks(tmp_path):
    done = run(ALL_OF_IT, BROKER_TEST_KUBERNETES=str(tmp_path))

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert f"tests/real/kubernetes/plane/build.sh {tmp_path}" in done.stderr


def test_the_demo_says_that_the_cluster_did_not_boot():
    done = run(DOES_NOT_BOOT)

    assert done.returncode == 1
    assert (
        "The demo failed: the cluster did not boot: not within 60 s: the API server is ready" in done.stderr
    )


def test_a_call_that_fails_fails_the_demo():
    done = run(A_CALL_WAS_LOST)

    assert done.returncode == 1
    assert "2 answers (1 of line-1, 1 of line-2) and 1 failures" in done.stdout
    assert done.stderr.endswith("The demo failed: calls failed: after 1 answers: refused\n")
