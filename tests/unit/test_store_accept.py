"""Accept: one job or a bundle, whole or not at all, and once for one idempotency key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from api_spec.states import JobState
from broker.store.idempotency import Idempotency
from tests.store_kit import SUBMIT, World, new_job, opened

AT_ONCE = 10


@pytest.fixture
def world(redis_server):
    with opened(redis_server) as store:
        yield World(store)


def together(work, count=AT_ONCE):
    """The answers of so many calls in as many threads."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_one_script_writes_job_index_event_and_due_time(world):
    ran = []
    world.store.scripts.watch = ran.append

    job_id = world.accept(labels={"team": "vision"})

    assert ran == ["accept"]
    record = world.read(job_id)
    assert (record.state, record.version, record.epoch) == (JobState.ACCEPTED, 1, 0)
    assert record.labels == {"team": "vision"}
    assert record.created == record.updated
    assert set(world.due_in(SUBMIT)) == {job_id}
    assert world.events() == [("accepted", job_id)]
    assert world.jobs.parts(job_id).spec == b"spec"
    assert world.jobs.parts(job_id).decisions == {0: b"decision"}


def test_a_server_that_was_started_since_is_told_the_script_again(world):
    """It keeps none over a restart."""
    world.accept()
    world.store.client.script_flush()

    assert world.read(world.accept()).state is JobState.ACCEPTED


def test_a_request_that_is_sent_again_is_done_once(world):
    """Its answer was lost on the way: by then a worker may have the job, which must not begin anew."""
    one = new_job()
    waiting = new_job(deps=((one.id, "succeeded"),))
    first = world.jobs.accept([one, waiting])
    [claim] = world.claim()
    world.begin(claim)
    events = world.events()

    again = world.jobs.accept([one, waiting])

    assert (again.verdict, again.ids, again.waits) == ("ok", first.ids, (False, True))
    assert (again.at_ms, again.hints) == (first.at_ms, ())
    assert world.state(one.id) is JobState.SUBMITTING
    assert world.events() == events


def test_a_bundle_with_one_unknown_predecessor_leaves_nothing(world):
    before = world.names()
    good = new_job()
    bad = new_job(deps=(("01ARZ3NDEKTSV4RRFFQ69G5FAV", "succeeded"),))

    answer = world.jobs.accept([good, bad], Idempotency("k", "digest"))

    assert (answer.verdict, answer.ids) == ("no_such_job", ("01ARZ3NDEKTSV4RRFFQ69G5FAV",))
    assert world.names() == before


def test_a_predecessor_in_another_project_does_not_exist(world):
    theirs = world.accept(project="speech")

    answer = world.jobs.accept([new_job(deps=((theirs, "ended"),))])

    assert (answer.verdict, answer.ids) == ("no_such_job", (theirs,))


def test_a_bundle_of_the_largest_size_is_one_step(world):
    bundle = [new_job(name=f"job-{n}") for n in range(1000)]

    answer = world.jobs.accept(bundle)

    assert answer.verdict == "ok"
    assert answer.ids == tuple(job.id for job in bundle)
    assert len(world.due_in(SUBMIT)) == world.store.index.count("vision", "s=ACCEPTED") == 1000


def test_ten_at_once_with_one_key_make_one_bundle(world):
    """A client that got no answer sends again, and a proxy may send at the same time."""
    bundles = [[new_job(), new_job()] for _ in range(AT_ONCE)]

    answers = together(lambda n: world.jobs.accept(bundles[n], Idempotency("k", "digest")))

    assert sorted(answer.verdict for answer in answers) == ["ok"] + ["replay"] * 9
    assert len({answer.ids for answer in answers}) == 1
    assert set(world.due_in(SUBMIT)) == set(answers[0].ids)
    assert sorted(world.events()) == sorted(("accepted", job_id) for job_id in answers[0].ids)
    known = {name.partition(":")[2] for name in world.names() if name.startswith("job:")}
    assert known == set(answers[0].ids), "the bundles that lost have left nothing"


def test_the_same_key_with_another_body_is_a_conflict(world):
    world.accept(Idempotency("k", "digest"))

    answer = world.jobs.accept([new_job()], Idempotency("k", "another"))

    assert (answer.verdict, answer.ids) == ("conflict", ())
    assert len(world.events()) == 1


def test_ten_at_once_without_a_key_are_ten_jobs(world):
    answers = together(lambda _: world.jobs.accept([new_job()]))

    assert {answer.verdict for answer in answers} == {"ok"}
    assert len(world.due_in(SUBMIT)) == AT_ONCE


def test_a_refused_submission_does_not_use_up_its_key(world):
    bad = new_job(deps=(("01ARZ3NDEKTSV4RRFFQ69G5FAV", "succeeded"),))
    world.jobs.accept([bad], Idempotency("k", "digest"))

    assert world.jobs.accept([new_job()], Idempotency("k", "digest")).verdict == "ok"


def test_an_idempotency_key_is_kept_for_a_day(world):
    world.accept(Idempotency("k", "digest"))

    left_ms = world.store.client.pttl(world.key("idempotency:k"))

    assert 23 * 3600 * 1000 < left_ms <= 24 * 3600 * 1000


def test_a_job_is_accepted_only_while_another_is_unchanged(world):
    other = world.accept()
    version = world.read(other).version
    before = world.names()

    assert world.jobs.accept([new_job()], unchanged=(other, version + 1)).verdict == "changed"
    assert world.names() == before
    assert world.jobs.accept([new_job()], unchanged=(other, version)).verdict == "ok"


def test_what_was_accepted_once_is_answered_again_though_the_other_job_has_changed(world):
    other = world.accept()
    version = world.read(other).version
    first = world.jobs.accept([new_job()], Idempotency("k", "digest"), (other, version))
    world.jobs.cancel(other, "user:ana")

    again = world.jobs.accept([new_job()], Idempotency("k", "digest"), (other, version))

    assert (again.verdict, again.ids) == ("replay", first.ids)


def test_a_held_job_is_in_no_queue(world):
    job_id = world.accept(held=True)

    assert world.due_in(SUBMIT) == {}
    assert (world.read(job_id).held, world.read(job_id).reason) == (True, "Held")
    assert world.claim() == []


def test_what_people_write_comes_back_as_they_wrote_it(world):
    """Labels and names pass through JSON in Lua, and through an index whose members are parted by NUL."""
    labels = {"größe": "ü=1", "a.b/c": "", "emoji": "🚀"}
    job_id = world.accept(name="train-ä", labels=labels)

    assert world.read(job_id).labels == labels
    assert world.read(job_id).name == "train-ä"
    assert f"l=größe=ü=1\0{job_id}" in world.members("index:vision")
    assert world.claim()[0].record.labels == labels
