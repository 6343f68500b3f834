"""A broker on the fake: under one name, or under two."""

from __future__ import annotations

import pytest

from tests.kit import fake_kit


@pytest.fixture
def kit(redis_server, tmp_path):
    with fake_kit(redis_server, tmp_path) as kit:
        yield kit


@pytest.fixture
def pair(redis_server, tmp_path):
    """Two backends, ``one`` and ``two``, behind which the same fake stands."""
    with fake_kit(redis_server, tmp_path, names=("one", "two")) as kit:
        yield kit
