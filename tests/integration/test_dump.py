"""Backup and recovery: a dump holds everything, and so do the backends' own objects, as far as they know."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from api_spec.errors import Gone, InvalidRequest
from api_spec.jobs import Array, Dependency, Kind, Retry
from api_spec.schemas import dump_accepted
from api_spec.states import JobState
from api_spec.views import JobQuery
from broker.lifecycle.recover import import_lines, recover
from broker.processes import export_store, import_store
from broker.store.dump import export_lines
from tests.builders import spec
from tests.kit import ANA, make_kit, settings_for

S = JobState
HEADER = '{"workload_broker": 1}\n'
RECORDED = Path(__file__).parents[1] / "recorded" / "store"


def live_through(kit) -> dict[str, str]:
    """One job of each sort, in each state that lasts."""
    endless = {"FAKE_RUN_S": "forever"}
    ids = {
        "completed": kit.submit(spec(name="done", labels={"team": "vision"})),
        "failed": kit.submit(
            spec(name="bad", environment={"FAKE_EXIT": "3"}, retry=Retry(max_attempts=2, on=("NonZeroExit",)))
        ),
        "array": kit.submit(spec(name="sweep", array=Array(indices="0-3"))),
        "running": kit.submit(spec(name="long", environment=endless)),
        "service": kit.submit(spec(name="serve", kind=Kind.INFERENCE)),
        "held": kit.submit(spec(name="later", hold=True)),
    }
    ids["waiting"] = kit.submit(spec(name="next", depends_on=(Dependency(job=ids["running"]),)))
    for name in ("completed", "failed", "array"):
        kit.ended(ids[name])
    for name in ("running", "service"):
        kit.reaches(ids[name], S.RUNNING)
    return ids


def moved(kit):
    """The same broker on an empty store: another prefix."""
    return make_kit(kit.settings, kit.fake)


def test_whoever_followed_events_hears_that_an_import_has_none_of_them(kit):
    """Ids go on where they were, so that what was missed shows."""
    live_through(kit)
    seen = kit.broker.events(ANA, None, 500).items
    other = moved(kit)
    import_lines(other.store, export_lines(kit.store))

    assert other.broker.events(ANA, seen[-1].id, 500).items[0].type == "restored"
    with pytest.raises(Gone):
        other.broker.events(ANA, seen[0].id, 500)


def test_an_exported_store_is_imported_elsewhere_with_all_its_jobs(kit):
    ids = live_through(kit)
    before = {name: kit.get(job_id) for name, job_id in ids.items()}
    lines = list(export_lines(kit.store))
    other = moved(kit)

    loaded = import_lines(other.store, lines)

    assert loaded.jobs == len(ids)
    for name, job_id in ids.items():
        after = other.get(job_id)
        assert (after.spec, after.state, after.reason) == (
            before[name].spec,
            before[name].state,
            before[name].reason,
        )
        assert len(other.broker.decisions(job_id, ANA)) == len(kit.broker.decisions(job_id, ANA))
    names = {job.name for job in other.broker.list_jobs(JobQuery(project="vision"), ANA).items}
    assert names == {"done", "bad", "sweep", "long", "serve", "later", "next"}
    assert other.broker.tasks(ids["array"], ANA, None, 10).items
    other.store.close()


def test_jobs_go_on_after_an_import_without_starting_twice(kit):
    ids = live_through(kit)
    lines = list(export_lines(kit.store))
    other = moved(kit)
    import_lines(other.store, lines)

    other.broker.cancel(ids["service"], ANA)
    other.broker.release(ids["held"], ANA)
    kit.fake.faults.finish(other.broker.attempts(ids["running"], ANA)[0].marker)

    assert other.ended(ids["service"]).state is S.CANCELLED
    assert other.ended(ids["held"]).state is S.COMPLETED
    assert other.ended(ids["waiting"]).state is S.COMPLETED
    for job_id in ids.values():
        for attempt in other.broker.attempts(job_id, ANA):
            assert kit.fake.starts(attempt.marker) == 1
    other.store.close()


def test_a_request_that_is_repeated_after_an_import_is_answered_and_not_done_again(kit):
    first = kit.broker.accept([spec()], ANA, key="k", body_digest="d")
    lines = list(export_lines(kit.store))
    other = moved(kit)
    import_lines(other.store, lines)
    import_lines(other.store, lines)

    again = other.broker.accept([spec()], ANA, key="k", body_digest="d")

    assert again.replayed
    assert dump_accepted(again) == dump_accepted(first)
    left_ms = other.store.client.pttl(f"{other.store.prefix}idempotency:vision:ana:ana:k")
    assert 0 < left_ms <= 24 * 3600 * 1000
    other.store.close()


def test_a_request_is_answered_as_before_though_its_job_was_recovered_before_the_import(kit):
    """A recovered job has no decision any more; the key has its own."""
    first = kit.broker.accept([spec(environment={"FAKE_RUN_S": "forever"})], ANA, key="k", body_digest="d")
    kit.reaches(first.jobs[0].id, S.RUNNING)
    lines = list(export_lines(kit.store))
    other = moved(kit)
    recover(other.broker.context)
    import_lines(other.store, lines)

    again = other.broker.accept([spec(environment={"FAKE_RUN_S": "forever"})], ANA, key="k", body_digest="d")

    assert dump_accepted(again) == dump_accepted(first)
    other.store.close()


def test_whoever_followed_a_store_that_was_lost_is_told_unless_it_was_imported(kit):
    kit.ended(kit.submit(spec()))
    seen = kit.broker.events(ANA, None, 500).items
    kit.store.client.hset(f"{kit.store.prefix}meta", mapping={"incarnation": "5", "first_incarnation": "3"})
    lines = list(export_lines(kit.store))
    empty, other = moved(kit), moved(kit)
    import_lines(other.store, lines)
    last = f"5-{len(seen)}"

    assert [event.type for event in other.broker.events(ANA, last, 500).items] == ["restored"]
    with pytest.raises(Gone, match="was lost"):
        other.broker.events(ANA, f"2-{len(seen)}", 500)
    with pytest.raises(Gone, match="was lost"):
        empty.broker.events(ANA, last, 500)


def test_an_import_may_be_repeated(kit):
    kit.ended(kit.submit(spec()))
    lines = list(export_lines(kit.store))

    loaded = import_lines(kit.store, lines)

    assert (loaded.jobs, loaded.already_there) == (0, 1)


@pytest.mark.parametrize(
    "lines, message",
    [
        (['{"jobs": []}\n'], "not the export"),
        (['{"workload_broker": 99}\n'], "version 99"),
        (["not json\n"], "line 1: this is not the export"),
        (['{"workload_broker": 1}\n', '{"type": "job", "id": "x"}\n'], "line 2"),
        (['{"workload_broker": 1}\n', '{"type": "cow"}\n'], "cow"),
        (['{"workload_broker": 1, "first_incarnation": "x"}\n'], "line 1: first_incarnation"),
        ([HEADER, '{"type": "idempotency", "key": "k", "expires_at_ms": 1, "fields": 3}\n'], "line 2"),
        ([HEADER, '{"type": "idempotency", "key": "k", "expires_at_ms": 1, "fields": {}}\n'], "line 2"),
        ([], "line 1: this is not the export"),
        (["[]\n"], "line 1: this is not the export"),
    ],
)
def test_what_is_no_export_is_refused_with_its_line(kit, lines, message):
    with pytest.raises(InvalidRequest, match=message):
        import_lines(kit.store, lines)


@pytest.mark.parametrize("dump", sorted(RECORDED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_dump_of_every_release_loads_for_ever(kit, dump):
    expected = json.loads(dump.with_suffix(".expected.json").read_text())

    loaded = import_lines(kit.store, dump.read_text().splitlines(keepends=True))

    assert loaded.jobs == len(expected)
    for job_id, state in expected.items():
        assert kit.get(job_id).state == state
        kit.broker.attempts(job_id, ANA)
        kit.broker.decisions(job_id, ANA)
        kit.broker.job_events(job_id, ANA)


def test_there_is_a_dump_of_this_release():
    release = ".".join(version("workload-broker").split(".")[:2])

    assert (RECORDED / f"{release}.jsonl").exists()


def test_when_all_of_redis_is_lost_the_backends_tell_what_they_know(kit):
    ids = live_through(kit)
    other = moved(kit)

    recovered = recover(other.broker.context)

    at_the_backend = {"completed", "failed", "array", "running", "service"}
    assert recovered.jobs == len(at_the_backend)
    for name in at_the_backend:
        job, before = other.get(ids[name]), kit.get(ids[name])
        assert job.recovered
        assert (job.state, job.owner, job.spec.kind, job.spec.name) == (
            before.state,
            before.owner,
            before.spec.kind,
            before.spec.name,
        )
    assert other.get(ids["failed"]).attempt == 2
    other.broker.cancel(ids["running"], ANA)
    assert other.ended(ids["running"]).state is S.CANCELLED
    assert recover(other.broker.context).jobs == 0
    other.store.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe", " is not the export of a workload broker: it is not UTF-8"),
        (b"kind: batch\n", ", line 1: this is not the export of a workload broker"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong_with_it(clean_redis, tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(InvalidRequest) as caught:
        import_store(settings_for(clean_redis, tmp_path), tmp_path / "file")

    assert str(caught.value) == f"{tmp_path}/file{message}"


def test_an_export_into_nowhere_is_a_sentence(clean_redis, tmp_path):
    with pytest.raises(InvalidRequest, match="nowhere/x cannot be written: No such file or directory"):
        export_store(settings_for(clean_redis, tmp_path), tmp_path / "nowhere" / "x")
