"""Whether the real pyslurm is among the places of this run."""

from __future__ import annotations

import pytest

from tests.contract.conftest import PLACES
from tests.contract.pyslurm_place import PyslurmPlace, missing


def test_the_real_pyslurm_is_held_to_the_contract_where_there_is_one():
    if lacks := missing():
        pytest.skip(lacks)

    assert PLACES["pyslurm"] is PyslurmPlace
