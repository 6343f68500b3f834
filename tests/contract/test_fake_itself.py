"""The fake's own promises: what the tests of the broker rest upon."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from adapters.base import Absent, Found, Inventory, Unsettled
from adapters.errors import Busy, OutcomeUnknown
from adapters.fake.script import read_script
from adapters.fake.words import STATES, WAITS_FOR, in_our_words
from api_spec.jobs import JobSpec, Kind
from api_spec.reasons import ENDINGS, PENDING, Reason
from api_spec.states import AttemptState
from tests.contract.places import new_ref
from tests.fakes import running_fake
from tests.helpers import wait_until


def spec(**environment):
    return JobSpec(kind=Kind.BATCH, name="job", command=("true",), environment=environment)


LONG = spec(FAKE_RUN_S="forever")


@pytest.fixture
def fake(tmp_path):
    with running_fake(tmp_path) as fake:
        yield fake


def look(fake, ref):
    return fake.adapter().observe([ref]).found.get(ref.marker)


def test_a_start_is_in_the_ledger_before_the_answer(fake):
    ref = new_ref(LONG)
    fake.faults.lose_answers(of="submit")
    with pytest.raises(OutcomeUnknown):
        fake.adapter().submit(ref, LONG)

    fake.kill()

    assert fake.starts(ref.marker) == 1


def test_a_killed_fake_knows_again_what_it_had_accepted(fake):
    running, ended, held = new_ref(LONG), new_ref(LONG), new_ref(LONG)
    waits = replace(LONG, environment={"FAKE_START_S": "60"})
    adapter = fake.adapter()
    for ref, what in ((running, LONG), (ended, spec(FAKE_EXIT="3")), (held, waits)):
        adapter.submit(ref, what)
    adapter.hold(held)
    fake.faults.requeue(running.marker)
    before = [look(fake, ref) for ref in (running, ended, held)]

    fake.restart()

    assert [look(fake, ref) for ref in (running, ended, held)] == before
    assert [fake.starts(ref.marker) for ref in (running, ended, held)] == [2, 1, 0]
    assert before[0].restarts == 1


def test_a_job_that_waited_when_the_fake_was_killed_starts_once(fake):
    ref = new_ref(LONG)
    fake.adapter().submit(ref, spec(FAKE_START_S="60"))

    fake.restart()
    fake.advance(61)

    assert fake.starts(ref.marker) == 1
    assert look(fake, ref).state is AttemptState.ENDED


def test_a_half_written_last_line_is_no_entry(fake):
    ref = new_ref(LONG)
    fake.adapter().submit(ref, LONG)
    fake.kill()
    with fake.ledger_file.open("a") as file:
        file.write('{"at": 1, "event": "fin')

    fake.start()

    assert look(fake, ref).state is AttemptState.RUNNING


def test_two_submits_of_one_marker_are_two_starts(fake):
    """The point of the fake: only the broker's look-up keeps this from happening."""
    ref = new_ref(LONG)
    adapter = fake.adapter()

    adapter.submit(ref, LONG)
    adapter.submit(ref, LONG)

    assert fake.accepts(ref.marker) == 2
    assert fake.starts(ref.marker) == 2
    assert "2 jobs" in look(fake, ref).message


def test_a_late_request_is_accepted_by_itself(fake):
    ref = new_ref(LONG)
    fake.faults.accept_late(0.05)
    with pytest.raises(OutcomeUnknown):
        fake.adapter().submit(ref, LONG)
    assert fake.starts(ref.marker) == 0

    wait_until(lambda: fake.starts(ref.marker) == 1, deadline_s=5)


def test_without_a_settle_time_a_late_request_would_be_called_absent(fake):
    """What the settle time is for: this adapter has none, and is wrong."""
    ref = new_ref(LONG)
    hasty = fake.adapter(settle_s=0)
    fake.faults.accept_late(60)
    with pytest.raises(OutcomeUnknown):
        hasty.submit(ref, LONG)

    said = hasty.find(ref.marker, time.time() - 1)
    fake.advance(60)

    assert said == Absent()
    assert isinstance(hasty.find(ref.marker, time.time()), Found)


def test_a_look_up_counts_from_when_it_was_asked_and_not_from_when_it_was_answered(fake):
    """What arrived after the listing was made, and before the answer was read, must not be called absent."""
    fake.faults.delay(0.1, of="find")

    said = fake.adapter(settle_s=0.05).find(new_ref(LONG).marker, time.time())

    assert isinstance(said, Unsettled)


def test_a_dropped_request_does_nothing(fake):
    ref = new_ref(LONG)
    fake.faults.drop(of="submit")

    with pytest.raises(OutcomeUnknown):
        fake.adapter().submit(ref, LONG)

    assert fake.accepts(ref.marker) == 0


def test_a_flapping_fake_answers_every_second_request(fake):
    fake.faults.flap()
    answers = []
    for _ in range(6):
        answers.append(fake.adapter().check()[0].well)

    assert answers == [False, True] * 3


def test_what_was_frozen_acts_when_it_thaws_though_nobody_listens(fake):
    ref = new_ref(LONG)
    fake.faults.freeze()
    with pytest.raises(OutcomeUnknown):
        fake.adapter(timeout_s=0.05).submit(ref, LONG)
    assert fake.starts(ref.marker) == 0

    fake.faults.unfreeze()

    wait_until(lambda: fake.starts(ref.marker) == 1, deadline_s=5)


def test_a_forgotten_job_is_absent(fake):
    ref = new_ref(LONG)
    fake.adapter().submit(ref, LONG)

    fake.faults.forget(ref.marker)

    assert look(fake, ref) is None
    assert fake.adapter().find(ref.marker, 0) == Absent()


def test_beyond_its_cap_it_is_busy_and_does_not_act(tmp_path):
    with running_fake(tmp_path, cap=1) as fake:
        adapter, refs = fake.adapter(), [new_ref(LONG), new_ref(LONG)]
        adapter.submit(refs[0], LONG)

        with pytest.raises(Busy) as caught:
            adapter.submit(refs[1], LONG)

        assert 0 < caught.value.retry_after_s <= 1
        assert fake.accepts(refs[1].marker) == 0


def test_with_all_slots_taken_the_next_job_waits_for_one(tmp_path):
    with running_fake(tmp_path, slots=1) as fake:
        adapter, first, second = fake.adapter(), new_ref(LONG), new_ref(LONG)
        adapter.submit(first, LONG)
        adapter.submit(second, LONG)
        assert adapter.explain_pending(second)[0].code is Reason.CAPACITY

        fake.faults.finish(first.marker)

        assert look(fake, second).state is AttemptState.RUNNING


@pytest.mark.parametrize(
    "environment, limit_s, word, reason",
    [
        ({"FAKE_WORD": "NO_MEMORY"}, None, "NO_MEMORY", Reason.OUT_OF_MEMORY),
        ({"FAKE_WORD": "NODE_GONE"}, None, "NODE_GONE", Reason.NODE_LOST),
        ({"FAKE_RUN_S": "100"}, 60, "OVERTIME", Reason.TIME_LIMIT),
        ({"FAKE_RUN_S": "60"}, 100, "DONE", Reason.COMPLETED),
    ],
    ids=["a word", "another word", "too long", "long enough"],
)
def test_a_job_ends_as_its_environment_says(fake, environment, limit_s, word, reason):
    what = replace(spec(**environment), time_limit_s=limit_s)
    ref = new_ref(what)
    fake.adapter().submit(ref, what)

    fake.advance(101)

    seen = look(fake, ref)
    assert (seen.native_state, seen.reason) == (word, reason)


def test_the_outputs_of_a_completed_job_have_addresses(fake):
    from api_spec.jobs import Output

    what = replace(spec(), outputs=(Output(name="model", path="out"),))
    ref = new_ref(what)
    fake.adapter().submit(ref, what)

    assert look(fake, ref).outputs == {"model": f"fake:///{ref.marker}/out"}


def test_an_array_runs_so_many_tasks_at_once_as_it_may(fake):
    from api_spec.jobs import Array

    what = replace(spec(FAKE_RUN_S="10"), array=Array(indices="0-3", max_running=2))
    ref = new_ref(what)
    fake.adapter().submit(ref, what)

    fake.advance(11)

    states = [task.state for task in look(fake, ref).tasks.values()]
    assert states == [AttemptState.ENDED] * 2 + [AttemptState.RUNNING] * 2


@pytest.mark.parametrize("evil", ["x\n#FAKE --name=1", "x\r\n#FAKE --name=1", "\u2028#FAKE --name=1", '"\\'])
def test_no_value_of_a_spec_can_add_a_directive(fake, evil):
    what = replace(spec(EVIL=evil), name=evil, script=f"#FAKE --name=1\n{evil}")
    ref = new_ref(what, owner=evil)

    directives = read_script(fake.adapter().render(what, ref))

    assert directives["name"] == ref.marker
    assert directives["owner"] == evil
    assert directives["environment"] == {"EVIL": evil}


def test_an_empty_inventory_holds_nothing(fake):
    assert fake.adapter().refusals(LONG, Inventory(as_of=0))


def test_fields_that_it_is_told_to_refuse_are_refused_by_name(fake):
    (refusal,) = fake.adapter(refuses=["image"]).refusals(replace(LONG, image="registry.example/a:1"), None)

    assert (refusal.code, refusal.field) == (Reason.UNSUPPORTED, "/image")


def test_each_word_has_a_reason_of_the_right_table():
    for word, (state, outcome, reason) in STATES.items():
        ended = state is AttemptState.ENDED
        assert (outcome is not None) is ended, word
        assert reason in (ENDINGS if ended else (None, *PENDING)), word
    assert set(WAITS_FOR.values()) <= set(PENDING)


@pytest.mark.parametrize("word, why", [("WEIRD", None), ("", None), ("done", None)])
def test_a_word_that_is_not_in_the_table_has_no_state(word, why):
    assert in_our_words(word, why) == (None, None, Reason.UNKNOWN)


def test_an_unknown_native_reason_is_unknown_and_the_state_is_not():
    assert in_our_words("WAITING", "Moonlight") == (AttemptState.QUEUED, None, Reason.UNKNOWN)
