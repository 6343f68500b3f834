"""Each test that asks for a ``place`` is run for every place that shows what it needs."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.contract.fake_place import FakePlace
from tests.contract.kubernetes_place import KUBERNETES_PLACES
from tests.contract.local_place import LocalPlace
from tests.contract.pyslurm_place import PYSLURM_PLACES
from tests.contract.slurm_place import SLURM_PLACES, missing
from tests.real.kubernetes.fixtures import marks_for
from tests.real.slurm.fixtures import required

PLACES = {
    kind.name: kind for kind in (FakePlace, LocalPlace, *SLURM_PLACES, *PYSLURM_PLACES, *KUBERNETES_PLACES)
}


def pytest_generate_tests(metafunc):
    needed = getattr(metafunc.function, "needs", frozenset())
    able = [name for name, kind in PLACES.items() if needed <= kind.shows]
    if "broken_adapter" in metafunc.fixturenames:
        pairs = [(name, breakage) for name in able for breakage in PLACES[name].breakages]
        ids = [f"{name}-{breakage}" for name, breakage in pairs]
        metafunc.parametrize("broken_adapter", marked(pairs, of=lambda pair: pair[0]), indirect=True, ids=ids)
    elif "place" in metafunc.fixturenames:
        assert able, f"no place shows what {metafunc.function.__name__} needs"
        metafunc.parametrize("place", marked(able), indirect=True)


def marked(values, of=str):
    """The tests of a real cluster stay in one process; those of one that cannot be are skipped, but in CI."""
    return [pytest.param(value, marks=marks_of(of(value))) for value in values]


def marks_of(name):
    kind = PLACES[name]
    if kind in KUBERNETES_PLACES:
        return marks_for({kind.fixture})
    if kind not in SLURM_PLACES:
        return ()
    lacks = None if required() else missing(kind)
    marks = [pytest.mark.real, pytest.mark.xdist_group(f"slurm-{name}")]
    return [*marks, pytest.mark.skip(lacks)] if lacks else marks


@pytest.fixture(scope="session")
def open_place(request, tmp_path_factory):
    """Each place is opened once, by the first test that needs it."""
    opened = {}
    with ExitStack() as stack:

        def open_once(name):
            kind = PLACES[name]
            shared = [request.getfixturevalue(kind.fixture)] if kind in KUBERNETES_PLACES else []
            # Tests of the cluster itself may have booted it anew, and then nothing of the old one holds.
            boot = getattr(shared[0], "boot_s", None) if shared else None
            if name not in opened or opened[name][0] != boot:
                opened[name] = boot, kind(tmp_path_factory.mktemp(name), stack, *shared)
            return opened[name][1]

        yield open_once


@pytest.fixture
def place(request, open_place, record_property):
    place = open_place(request.param)
    if isinstance(place, KUBERNETES_PLACES):
        record_property("ran_on", place.title)
    yield place
    place.calm()


@pytest.fixture
def broken_adapter(request, open_place):
    """An adapter whose backend is gone or answers nonsense."""
    name, breakage = request.param
    with open_place(name).broken(breakage) as adapter:
        yield adapter
