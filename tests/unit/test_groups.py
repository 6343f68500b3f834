"""The suites run on two processes; what is dear to start is started by one of them."""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("kept-together")
@pytest.mark.parametrize("case", range(2))
def test_a_group_of_tests_stays_in_one_process(request, case):
    """pytest-xdist sorts by the suffix of the id; a release of pytest once lost it, and nothing failed."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@kept-together")
