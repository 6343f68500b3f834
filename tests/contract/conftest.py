"""Each test that asks for a ``place`` is run for every place that shows what it needs."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.contract.fake_place import FakePlace
from tests.contract.local_place import LocalPlace
from tests.contract.slurm_place import Slurm2205, Slurm2411

PLACES = {kind.name: kind for kind in (FakePlace, LocalPlace, Slurm2205, Slurm2411)}


def pytest_generate_tests(metafunc):
    needed = getattr(metafunc.function, "needs", frozenset())
    able = [name for name, kind in PLACES.items() if needed <= kind.shows]
    if "broken_adapter" in metafunc.fixturenames:
        pairs = [(name, breakage) for name in able for breakage in PLACES[name].breakages]
        ids = [f"{name}-{breakage}" for name, breakage in pairs]
        metafunc.parametrize("broken_adapter", pairs, indirect=True, ids=ids)
    elif "place" in metafunc.fixturenames:
        assert able, f"no place shows what {metafunc.function.__name__} needs"
        metafunc.parametrize("place", able, indirect=True)


@pytest.fixture(scope="session")
def open_place(tmp_path_factory):
    """Each place is opened once, by the first test that needs it."""
    opened = {}
    with ExitStack() as stack:

        def open_once(name):
            if name not in opened:
                opened[name] = PLACES[name](tmp_path_factory.mktemp(name), stack)
            return opened[name]

        yield open_once


@pytest.fixture
def place(request, open_place):
    place = open_place(request.param)
    yield place
    place.calm()


@pytest.fixture
def broken_adapter(request, open_place):
    """An adapter whose backend is gone or answers nonsense."""
    name, breakage = request.param
    with open_place(name).broken(breakage) as adapter:
        yield adapter
