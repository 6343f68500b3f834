"""Real clusters as pytest fixtures: one a process for each kind, booted by the first test that needs it.

A cluster that cannot be is skipped with one line that says what is missing; with ``BROKER_TEST_REAL=slurm``
in the environment, as in CI, that is a failure.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.real.slurm import installs
from tests.real.slurm.cluster import boot

MUST = "BROKER_TEST_REAL"


@dataclass(frozen=True)
class Kind:
    """A release, with or without its accounting database."""

    release: str
    accounting: bool

    @property
    def install(self):
        return {"22.05": installs.debian, "24.11": installs.newer}[self.release]()


KINDS = {
    "22.05": Kind("22.05", accounting=False),
    "24.11": Kind("24.11", accounting=False),
}


def group_by_cluster(items):
    """For ``pytest_collection_modifyitems``: tests of one cluster stay in one process; it is booted once."""
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("cluster")
        if kind in KINDS:
            item.add_marker(pytest.mark.xdist_group(f"slurm-{kind}"))


def available(kind):
    """The kind's install; skips or fails the test when it is not complete."""
    install = KINDS[kind].install
    if missing := install.missing(accounting=KINDS[kind].accounting):
        (pytest.fail if "slurm" in os.environ.get(MUST, "") else pytest.skip)(missing)
    return install


@pytest.fixture(scope="session")
def open_cluster():
    """``open_cluster(kind)``: the cluster that all tests of this process share."""
    opened = {}
    with ExitStack() as stack:

        def open_once(kind):
            install = available(kind)
            if kind not in opened:
                opened[kind] = stack.enter_context(boot(install=install, accounting=KINDS[kind].accounting))
            return opened[kind]

        yield open_once


@pytest.fixture(params=list(KINDS))
def cluster(request, open_cluster):
    """Every kind, unless the test names some:

        @pytest.mark.parametrize("cluster", ["22.05"], indirect=True)

    As just after the boot: no jobs, idle nodes, every daemon answers.
    """
    cluster = open_cluster(request.param)
    cluster.calm()
    return cluster
