"""Logs that go with what wrote them: kept before they are gone, shown afterwards, dropped with their job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.base import LogPage, LogQuery
from adapters.errors import BackendError, Busy
from adapters.extras import LogEnd, LogEnds
from adapters.fake.adapter import FakeAdapter
from api_spec.errors import BackendUnavailable
from api_spec.states import JobState
from broker.lifecycle import kept_logs
from tests.builders import spec
from tests.fakes import running_fake
from tests.helpers import wait_until
from tests.kit import ANA, fake_kit, make_kit, settings_for

FOR_EVER_S = 1000


class LosesItsLogs(FakeAdapter):
    """``written`` is what is there of each source; ``gone``: nothing is, and only what was kept is shown."""

    def __init__(self, config):
        super().__init__(config)
        self.written = {"pod": b"hello\n"}
        self.gone = False
        self.again = False
        self.fault = None
        self.asked = []
        self.cancelled_after = None

    def log_ends(self, ref, limit_bytes, within_s):
        self.asked.append(ref.job_id)
        if self.fault:
            raise self.fault
        again, self.again = self.again, False
        ends = tuple(LogEnd(source=name, data=text) for name, text in self.written.items())
        return LogEnds(ends=ends, again=again)

    def logs_or_kept(self, ref, query, kept):
        found = self.written if not self.gone else None
        if found is None and (told := kept()) is not None:
            found = {one.source: one.data for one in told.ends}
        if found is None:
            raise BackendError("its pod is gone; nothing of it was kept")
        text = b"".join(found[name] for name in sorted(found))
        return LogPage(data=text, cursor="", at_end=True, complete=True)

    def cancel(self, ref):
        self.cancelled_after = len(self.asked)
        super().cancel(ref)


@pytest.fixture
def options():
    return {"run_s": 0}


@pytest.fixture
def kit(redis_server, tmp_path, options):
    with fake_kit(redis_server, tmp_path, fake_options=options) as kit:
        (config,) = kit.settings.backends
        kit.broker.context.adapters["fake"] = LosesItsLogs(config)
        yield kit


@pytest.fixture
def adapter(kit):
    return kit.broker.context.adapters["fake"]


def read(kit, job_id):
    return kit.broker.log(job_id, ANA, LogQuery()).data


def kept(kit, job_id, number=1):
    return kit.broker.context.blobs.get(kept_logs.name_of(job_id, number))


def asked_for(kit):
    return kit.store.client.zcard(f"{kit.store.prefix}keeps:fake")


def test_the_log_of_an_ended_job_outlives_its_pod(kit, adapter):
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: kept(kit, job_id))

    adapter.gone = True

    assert read(kit, job_id) == b"hello\n"
    assert asked_for(kit) == 0


def test_nothing_of_it_is_in_redis(kit, adapter):
    adapter.written = {"pod": b"s3cret-of-ana\n"}
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: kept(kit, job_id))
    redis = kit.store.client
    redis.set("such as this", kept(kit, job_id))

    assert [key for key in redis.keys("*") if b"s3cret" in (redis.dump(key) or b"")] == [b"such as this"]


def ended_and_not_kept(kit):
    """Whatever says that there is something to keep is lost."""
    job_id = kit.submit(spec())

    def ended():
        kit.broker.tick()
        while kit.hints:
            if not (hint := kit.hints.pop(0)).startswith("keep:"):
                kit.broker.perform(hint)
        return kit.get(job_id).state is JobState.COMPLETED

    wait_until(ended)
    return job_id


def test_a_pass_reads_no_log_itself(kit, adapter):
    """A thousand tasks would keep it from everybody else: it notes what is to be kept, before the end."""
    ended_and_not_kept(kit)

    assert adapter.asked == []
    assert asked_for(kit) == 1


def test_a_hint_that_was_lost_costs_a_while_and_no_log(kit, adapter):
    job_id = ended_and_not_kept(kit)
    assert kept(kit, job_id) is None

    kit.settle(lambda: kept(kit, job_id), why="the next tick finds what is due")


@pytest.mark.parametrize("fault", [Busy("it does not answer"), BackendError("no")])
def test_what_could_not_be_read_is_tried_again(kit, adapter, monkeypatch, fault):
    monkeypatch.setattr(kept_logs, "LATER_S", 0.1)
    adapter.fault = fault
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: adapter.asked)

    adapter.fault = None

    kit.settle(lambda: kept(kit, job_id))


def test_what_never_can_be_read_is_given_up(kit, adapter, monkeypatch):
    monkeypatch.setattr(kept_logs, "LATER_S", 0.01)
    monkeypatch.setattr(kept_logs, "GIVEN_UP_S", 0.2)
    adapter.fault = Busy("it does not answer")
    kit.ended(kit.submit(spec()))

    kit.settle(lambda: adapter.asked and not asked_for(kit))


READ_AGAIN = {
    "it still writes": ({"pod": b"hello\n"}, {"pod": b"hello\nlast words\n"}, b"hello\nlast words\n"),
    "one of them is gone": (
        {"a": b"one\n", "b": b"two\n"},
        {"b": b"two\nthree\n"},
        b"one\ntwo\nthree\n",
    ),
}


@pytest.mark.parametrize("case", READ_AGAIN)
def test_what_is_told_to_go_is_read_once_more_and_nothing_is_lost_by_it(kit, adapter, monkeypatch, case):
    first, then, whole = READ_AGAIN[case]
    monkeypatch.setattr(kept_logs, "AGAIN_S", 0.1)
    adapter.written, adapter.again = first, True
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: kept(kit, job_id))
    adapter.written = then

    kit.settle(lambda: not asked_for(kit))

    adapter.gone = True
    assert read(kit, job_id) == whole


@pytest.mark.parametrize("options", [{"run_s": FOR_EVER_S}])
def test_what_is_cancelled_is_read_before(kit, adapter):
    """The pods go with the cancel."""
    job_id = kit.submit(spec())
    kit.reaches(job_id, JobState.RUNNING)

    kit.broker.cancel(job_id, ANA)
    kit.settle(lambda: adapter.cancelled_after is not None)

    assert adapter.cancelled_after == 1
    assert kept(kit, job_id)


@pytest.mark.parametrize("options", [{"run_s": FOR_EVER_S}])
def test_a_cancel_comes_whatever_becomes_of_the_log(kit, adapter):
    adapter.fault = Busy("it does not answer")
    job_id = kit.submit(spec())
    kit.reaches(job_id, JobState.RUNNING)

    kit.broker.cancel(job_id, ANA)

    assert kit.ended(job_id).state is JobState.CANCELLED


def test_a_log_of_which_nothing_is_left_is_a_sentence(kit, adapter):
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: kept(kit, job_id))
    kit.broker.context.blobs.drop(job_id)
    adapter.gone = True

    with pytest.raises(BackendUnavailable, match="nothing of it was kept"):
        read(kit, job_id)


def test_a_blob_that_somebody_spoiled_is_no_log_and_is_written_anew(kit, adapter):
    job_id = kit.submit(spec())
    kit.ended(job_id)
    kit.settle(lambda: kept(kit, job_id))
    kit.broker.context.blobs.put(kept_logs.name_of(job_id, 1), b"noise")
    adapter.gone = True
    with pytest.raises(BackendUnavailable):
        read(kit, job_id)

    kit.store.keeps.ask("fake", [(job_id, 1)], 0)
    kit.settle(lambda: not asked_for(kit))

    assert read(kit, job_id) == b"hello\n"


class TestForgotten:
    @pytest.fixture
    def kit(self, redis_server, tmp_path):
        with fake_kit(redis_server, tmp_path, {"run_s": 0}, pack_after_s=0.1, retention_s=1.0) as kit:
            kit.broker.context.adapters["fake"] = LosesItsLogs(kit.settings.backends[0])
            yield kit

    def test_it_goes_with_its_job(self, kit):
        job_id = kit.submit(spec())
        kit.ended(job_id)
        kit.settle(lambda: kept(kit, job_id))

        def forgotten():
            kit.broker.sweep()
            return kit.store.jobs.read(job_id) is None

        kit.settle(forgotten)

        assert kept(kit, job_id) is None


def test_only_a_log_reader_keeps_what_only_it_reads(redis_server, tmp_path):
    """Another worker's disk is seen by nobody."""
    with running_fake(tmp_path, run_s=0) as fake:
        config = replace(fake.config(), log_reader="login")
        any_worker = make_kit(settings_for(redis_server, tmp_path / "here", config), fake)
        there = settings_for(redis_server, tmp_path / "there", config, worker_name="login")
        reader = make_kit(there, fake, any_worker.store.prefix)
        for kit in (any_worker, reader):
            kit.broker.context.adapters["fake"] = LosesItsLogs(config)
        job_id = any_worker.submit(spec())
        any_worker.ended(job_id)
        any_worker.work()
        nowhere, waits = kept(any_worker, job_id), asked_for(any_worker)

        reader.broker.perform("keep:fake")
        found = kept(reader, job_id)
        for kit in (any_worker, reader):
            kit.store.close()

    assert (nowhere, waits) == (None, 1)
    assert found and found.endswith(b"hello\n")
