"""What several of the modules here need."""

from __future__ import annotations

import pytest


@pytest.fixture
def server(tmp_path):
    """A scripted API server of Kubernetes; a module whose tests all need something said to it adds that."""
    from tests.unit.kubernetes_stub import scripted  # a second, which tests of all else need not wait for

    with scripted(tmp_path) as server:
        yield server
