"""Real clusters as pytest fixtures: one a process for each kind, booted by the first test that needs it.

A cluster that cannot be is skipped with one line that says what is missing; with ``BROKER_TEST_REAL=slurm``
in the environment, as in CI, that is a failure.  With ``none`` all are skipped, as on a bare machine.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.real.slurm import installs
from tests.real.slurm.cluster import boot
from tests.real.slurm.conf import Options

MUST = "BROKER_TEST_REAL"
NONE = "none"


@dataclass(frozen=True)
class Kind:
    """A release without a database, where a partition preempts; or with accounting, where a QOS does."""

    release: str
    accounting: bool

    @property
    def options(self):
        return Options(preempt="qos" if self.accounting else "partition_prio")

    @property
    def install(self):
        return {"22.05": installs.debian, "24.11": installs.newer}[self.release]()

    @property
    def missing(self):
        """A sentence, or None."""
        if os.environ.get(MUST) == NONE:
            return f"no real Slurm is wanted ({MUST}={NONE})"
        return self.install.missing(accounting=self.accounting)


WITH_ACCOUNTING = ("22.05-accounting", "24.11-accounting")
KINDS = {
    "22.05": Kind("22.05", accounting=False),
    "24.11": Kind("24.11", accounting=False),
    "22.05-accounting": Kind("22.05", accounting=True),
    "24.11-accounting": Kind("24.11", accounting=True),
}


def prepare(items):
    """For ``pytest_collection_modifyitems``: skips what cannot be, with one line for each file and kind, and
    keeps the tests of one cluster in one process, where it is booted once."""
    missing = {} if required() else {kind: KINDS[kind].missing for kind in KINDS}
    for item in items:
        asked = item.callspec.params if hasattr(item, "callspec") else {}
        kind = asked.get("cluster") or asked.get("new_cluster")
        if kind in KINDS:
            item.add_marker(pytest.mark.xdist_group(f"slurm-{kind}"))
            item.add_marker(pytest.mark.real)
        if missing.get(kind):
            item.add_marker(pytest.mark.skip(missing[kind]))


def required():
    """As in CI: what is missing is a failure."""
    return "slurm" in os.environ.get(MUST, "")


def boot_kind(name):
    """Fails the test when the install is not complete."""
    kind = KINDS[name]
    if kind.missing:
        pytest.fail(kind.missing)
    return boot(install=kind.install, accounting=kind.accounting, options=kind.options)


@pytest.fixture(scope="session")
def open_cluster():
    """``open_cluster(kind)``: the cluster that all tests of this process share."""
    opened = {}
    with ExitStack() as stack:

        def open_once(kind):
            if kind not in opened:
                opened[kind] = stack.enter_context(boot_kind(kind))
            return opened[kind]

        yield open_once


@pytest.fixture
def new_cluster(request):
    """One of the test's own, for ``parametrize("new_cluster", KINDS, indirect=True)``; not yet closed."""
    with boot_kind(request.param) as cluster:
        yield cluster


@pytest.fixture(params=list(KINDS))
def cluster(request, open_cluster):
    """Every kind, unless the test names some:

        @pytest.mark.parametrize("cluster", ["22.05"], indirect=True)

    As just after the boot: no jobs, idle nodes, every daemon answers.
    """
    cluster = open_cluster(request.param)
    cluster.calm()
    return cluster
