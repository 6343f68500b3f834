"""A real Kubernetes as pytest fixtures, for all tests (``pytest_plugins`` in ``tests/conftest.py``).

fixture           is
kubernetes        a cluster with fake nodes, as any user; or the one that BROKER_TEST_KUBECONFIG names
own_kubernetes    the same, where the test may break it: never one that was there
kubernetes_node   another cluster, whose CPU work runs in containers on a real node; as root
namespace         a new namespace of the cluster that the test asked for, which is as just after the boot
new_kubernetes    ``new_kubernetes(options)`` boots one for this test alone

Each is booted once, by the first test that needs it.  What cannot be is skipped with one line that says what
is missing; with ``BROKER_TEST_REAL=kubernetes`` in the environment, as in CI, that is a failure (but where
only root is missing).  With ``none`` all are skipped, as on a bare machine.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.real.kubernetes.cluster import boot
from tests.real.kubernetes.existing import ExistingCluster
from tests.real.kubernetes.install import built
from tests.real.kubernetes.layout import Options

MUST, NONE = "BROKER_TEST_REAL", "none"
EXISTING = "BROKER_TEST_KUBECONFIG"
SHARED = ("kubernetes", "kubernetes_node")
OURS = ("own_kubernetes", "kubernetes_node", "new_kubernetes")


def existing():
    """The kubeconfig of a cluster to use instead of one that is booted, or None."""
    return os.environ.get(EXISTING) or None


def required():
    """As in CI: what is missing is a failure."""
    return "kubernetes" in os.environ.get(MUST, "")


def missing(fixtures):
    """A sentence about what these fixtures lack here, or None."""
    if os.environ.get(MUST) == NONE:
        return f"no real Kubernetes is wanted ({MUST}={NONE})"
    if existing():
        only_ours = any(name in OURS for name in fixtures)
        return f"only on a cluster of the tests' own ({EXISTING} is set)" if only_ours else None
    return built().node_missing if "kubernetes_node" in fixtures else built().missing


def pytest_collection_modifyitems(items):
    for item in items:
        used = set(item.fixturenames).intersection((*SHARED, *OURS))
        if used:
            mark(item, used)


def mark(item, used):
    for one in marks_for(used):
        item.add_marker(one)


def marks_for(used):
    """Tests of one cluster stay in one process, where it is booted once."""
    on_node = "kubernetes_node" in used
    group = pytest.mark.xdist_group("kubernetes-node" if on_node else "kubernetes")
    marks = [pytest.mark.real, pytest.mark.kubernetes, group]
    if on_node:
        marks.append(pytest.mark.kubernetes_as_root)
    lacks = missing(used)
    only_root = on_node and os.geteuid() != 0
    if lacks and (only_root or existing() or not required()):
        marks.append(pytest.mark.skip(lacks))
    return marks


def pytest_runtest_call(item):
    """For the line that says how many cases ran on what."""
    for name in SHARED:
        if (cluster := getattr(item, "funcargs", {}).get(name)) is not None:
            with_it = " with a real node" if name == "kubernetes_node" else ""
            item.user_properties.append(("ran_on", f"Kubernetes {cluster.version}{with_it}"))


def boot_or_fail(options):
    lacks = built().node_missing if options.real_node else built().missing
    if lacks:
        pytest.fail(lacks)
    return boot(options=options)


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory):
    if existing():
        yield ExistingCluster(Path(existing()), tmp_path_factory.mktemp("kubeconfigs"))
        return
    with boot_or_fail(Options()) as cluster:
        yield cluster


@pytest.fixture
def own_kubernetes(kubernetes):
    """As after the boot; and mended afterwards, for tests that do not ask for a namespace."""
    kubernetes.calm()
    yield kubernetes
    kubernetes.calm()


@pytest.fixture(scope="session")
def kubernetes_node():
    """Without fake CPU nodes, so that what asks for no GPU has one place to run."""
    with boot_or_fail(Options(real_node=True, cpu_nodes=0)) as cluster:
        yield cluster


@pytest.fixture
def namespace(request):
    name = "kubernetes_node" if "kubernetes_node" in request.fixturenames else "kubernetes"
    cluster = request.getfixturevalue(name)
    cluster.calm()
    made = cluster.new_namespace()
    yield made
    cluster.calm()
    cluster.remove_namespace(made)


@pytest.fixture
def new_kubernetes():
    with ExitStack() as stack:
        yield lambda options=None: stack.enter_context(boot_or_fail(options or Options()))
