"""Whatever dies wherever: the job ends right, and each attempt was started once.

The same table turns red when one of the three things that it rests on is taken away.
"""

from __future__ import annotations

import re
from statistics import median

import pytest

from broker.lifecycle.points import POINTS
from tests.crash.grounds import FakeGround, LocalGround
from tests.crash.scenarios import ONLY_THE_FAKE
from tests.crash.table import DELAY_S, LEASE_S, MODES, SETTLE_S, SWEEP_S, Case, cases, run_table

HELD_UP = f"delay{1.5 * DELAY_S}"  # until another worker is in the midst of its submission
LONG_LEASES = ("drain_entered", "claimed", "intent_written", "submit_returned", "observe_leased")
ON_THE_FAKE = [
    *cases(without=set()),
    Case("accept_decided", "exception", None, "late request"),
    Case("submit_returned", HELD_UP, None, "busy, then slow"),
    *(Case("update_returned", mode, None, "change, hold") for mode in MODES),
    *(Case("restored", mode, None, "import") for mode in MODES),
    *(Case(point, "kill", None, "long lease") for point in LONG_LEASES),
]
ON_LOCAL = cases(without=ONLY_THE_FAKE)
MUTANTS = [
    Case("submit_returned", "kill", "no look-up"),
    Case("submit_returned", HELD_UP, "no epoch check", "busy, then slow"),
    Case("accept_decided", "exception", "no settle time", "very late request"),
]


@pytest.fixture(scope="module")
def results(redis_server, tmp_path_factory):
    """All cases of one backend, several at a time: ask for a backend by its name."""
    done = {}

    def results_on(name, ground_class, wanted):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            with ground_class(folder) as ground:
                found = run_table(ground, redis_server, folder, wanted)
            done[name] = {str(result.case): result for result in found}
        return done[name]

    return results_on


@pytest.mark.xdist_group("crash")
@pytest.mark.parametrize("case", ON_THE_FAKE, ids=str)
def test_on_the_fake(results, case):
    assert results("fake", FakeGround, ON_THE_FAKE)[str(case)].faults == ()


@pytest.mark.xdist_group("crash")
@pytest.mark.parametrize("case", ON_LOCAL, ids=str)
def test_on_the_local_backend(results, case):
    assert results("local", LocalGround, ON_LOCAL)[str(case)].faults == ()


@pytest.mark.xdist_group("crash")
def test_a_stale_write_was_refused(results):
    """Otherwise no case was ever late enough to prove anything."""
    on_the_fake = results("fake", FakeGround, ON_THE_FAKE).values()

    assert sum(result.stale_writes for result in on_the_fake) > 0


@pytest.mark.xdist_group("crash")
@pytest.mark.parametrize("case", MUTANTS, ids=str)
def test_the_table_turns_red_for_a_mutant(results, case):
    """By a second start, and by nothing else that may have gone wrong."""
    faults = results("mutants", FakeGround, MUTANTS)[str(case)].faults

    assert any(re.search(r"was started ([2-9]|\d{2,}) times", fault) for fault in faults), faults


@pytest.mark.xdist_group("crash")
def test_the_table_leaves_no_point_out(results, record_property):
    assert {case.point for case in ON_THE_FAKE} == set(POINTS)

    cases_run = f"{len(ON_THE_FAKE)} cases on the fake, {len(ON_LOCAL)} on the local backend"
    record_property("summary", f"crash table: {len(POINTS)} points, {cases_run}, {len(MUTANTS)} mutants")
    done = [
        *results("fake", FakeGround, ON_THE_FAKE).values(),
        *results("local", LocalGround, ON_LOCAL).values(),
    ]
    took = [one.took_s for one in done if one.took_s is not None and one.case.scenario_name != "long lease"]
    bound_s = LEASE_S + SWEEP_S + SETTLE_S
    longest = f"{median(took):.1f} s after a crash (median), {max(took):.1f} s at most"
    record_property("summary", f"crash table: over {longest}; lease, sweep and settle time: {bound_s:g} s")
