"""The quick copy does what the slow one does."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from api_spec.frozen import changed
from tests.builders import spec


def test_a_changed_copy_is_the_one_that_replace_makes():
    before = spec(labels={"team": "vision"})

    after = changed(before, project="vision", name="other")

    assert after == replace(before, project="vision", name="other")
    assert before == spec(labels={"team": "vision"})


def test_a_changed_copy_is_frozen():
    with pytest.raises(FrozenInstanceError):
        changed(spec(), name="other").name = "third"
